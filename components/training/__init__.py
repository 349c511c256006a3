"""From a dataset to a trained detector."""
