"""From views to a clean dataset, split without leaks."""
