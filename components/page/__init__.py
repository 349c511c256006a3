"""Contract: how a page that a person reads looks: its parts, its plots, and the pages of a run together."""
