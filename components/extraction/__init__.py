"""From a labelled collection of media to the views of its pictures and video frames."""
