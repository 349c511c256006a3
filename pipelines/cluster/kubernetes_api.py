"""How the Kubernetes API is reached, and its errors in words."""

import argparse
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.errors import InputError

PATIENCE_S = 15.0  # for one answer of the API server
NAMESPACE = "ai-vs-real"  # that manifests/base makes


@dataclass(frozen=True)
class Kubernetes:
    """A cluster's API, in one namespace.

    Attributes:
        api: A kubernetes.client.ApiClient.
        namespace: Where our things are.
    """

    api: Any
    namespace: str

    @property
    def core(self) -> Any:
        """Pods, nodes, secrets, config maps, quotas."""
        from kubernetes import client

        return client.CoreV1Api(self.api)

    @property
    def batch(self) -> Any:
        """Jobs."""
        from kubernetes import client

        return client.BatchV1Api(self.api)

    @property
    def storage(self) -> Any:
        """Storage classes."""
        from kubernetes import client

        return client.StorageV1Api(self.api)

    @property
    def version(self) -> Any:
        """The server's version."""
        from kubernetes import client

        return client.VersionApi(self.api)


def connect(options: argparse.Namespace) -> Kubernetes:
    """Return the cluster that `add_cluster_options` chose: the pod's own, else the one of a kubectl context.

    Raises:
        InputError: There is neither, or the context is unknown.
    """
    from kubernetes import client, config

    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        try:
            # The library reads KUBECONFIG once, when it is imported.
            place = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
            config.load_kube_config(place, options.context or None, settings)
        except (config.ConfigException, OSError) as error:
            raise InputError(f"no cluster to talk to ({_short(error)}); set KUBECONFIG, or give --context") from None
    settings.retries = 1
    return Kubernetes(client.ApiClient(settings), options.namespace)


@contextlib.contextmanager
def explained(cluster: Kubernetes) -> Iterator[None]:
    """Turn what the kubernetes client raises into one line for a person."""
    import urllib3
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        raise InputError(f"{cluster.api.configuration.host} refused: {reason(error)}") from error
    except urllib3.exceptions.HTTPError as error:
        place = cluster.api.configuration.host
        raise InputError(
            f"the cluster's API at {place} cannot be reached ({_short(error)}); see kubectl cluster-info"
        ) from error


def reason(error: Any) -> str:
    """Return what the API server said, in one line with its status."""
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        return f"{json.loads(error.body)['message']} ({error.status})"
    return f"{error.reason} ({error.status})"


def _short(error: Any) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split())[:200]


def add_cluster_options(command: argparse.ArgumentParser) -> None:
    """Add the options by which a cluster is chosen."""
    command.add_argument("--context", default="", help="of kubectl's configuration (the current one)")
    command.add_argument("--namespace", default=NAMESPACE, help="(%(default)s)")
