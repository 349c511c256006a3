"""From a detector and its test rows to numbers, plots and a page."""
