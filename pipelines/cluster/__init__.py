"""Running on a cluster: Kubeflow Pipelines and plain Kubernetes Jobs."""
