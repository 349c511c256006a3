"""How the Kubernetes API is reached, and its errors in words."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.errors import InputError
from components.redaction import safe_cause
from pipelines.cluster.answers import Unanswered, keep

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
    def apps(self) -> Any:
        """Deployments."""
        from kubernetes import client

        return client.AppsV1Api(self.api)

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


def connect(context: str = "", namespace: str = NAMESPACE) -> Kubernetes:
    """Return the cluster of a kubectl context; without one the pod's own, else the one of the current context.

    Raises:
        InputError: There is no such context, or no cluster is named at all.
    """
    from kubernetes import client, config

    settings = client.Configuration()
    try:
        if context:
            raise config.ConfigException("a context is named")
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        try:
            # The library reads KUBECONFIG once, when it is imported.
            place = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
            config.load_kube_config(place, context or None, settings)
        except (config.ConfigException, OSError) as error:
            raise InputError(f"no cluster to talk to ({_short(error)}); set KUBECONFIG, or give --context") from None
    settings.retries = 1
    api = client.ApiClient(settings)
    keep(api)
    return Kubernetes(api, namespace)


@contextlib.contextmanager
def explained(cluster: Kubernetes) -> Iterator[None]:
    """Turn what the kubernetes client raises into one line for a person."""
    import urllib3
    from kubernetes.client import ApiException

    place = cluster.api.configuration.host
    try:
        yield
    except ApiException as error:
        raise InputError(f"{place} refused: {reason(error)}") from safe_cause(error)
    except (urllib3.exceptions.HTTPError, Unanswered) as error:
        raise InputError(
            f"the cluster's API at {place} cannot be reached ({_short(error)}); see kubectl cluster-info"
        ) from safe_cause(error)


def reason(error: Any) -> str:
    """Return what the API server said, in one line with its status."""
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        return f"{json.loads(error.body)['message']} ({error.status})"
    return f"{error.reason} ({error.status})"


def _short(error: Any) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split())[:200]


def waits_for(pod: Any) -> str:
    """Return what a pod waits for, in Kubernetes' own words; empty where it waits for nothing."""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.message or condition.reason or ""
    for container in pod.status.container_statuses or []:
        if container.state and container.state.waiting:
            return f"{container.state.waiting.reason}: {container.state.waiting.message or ''}".rstrip(": ")
    return ""
