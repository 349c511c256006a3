"""From a file to pixels: one path for both labels, for training and for serving."""
