"""Versions of datasets: snapshots in the user's own Git repository, their bytes kept by DVC."""
