"""From an evaluation to a decision, and to the registry."""
