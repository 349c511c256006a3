"""What the steps are, and where they run."""
