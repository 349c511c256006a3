"""Running the compiled pipelines on this machine."""
