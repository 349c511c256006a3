"""What the steps are: the pipelines, what each step asks of a cluster, and their compilation to YAML."""
