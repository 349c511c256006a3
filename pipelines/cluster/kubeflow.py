"""The client side of Kubeflow Pipelines: reaching a server, sending a pipeline, and following what becomes of it."""

import contextlib
import dataclasses
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from components.errors import InputError
from components.redaction import redact, safe_cause
from pipelines.cluster.answers import Unanswered, keep
from pipelines.cluster.package import Package

NAMESPACE = "kubeflow"  # of a standalone installation, where the pods run too
FINAL = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
TOKEN = "KF_PIPELINES_TOKEN"
COOKIES = "KF_PIPELINES_COOKIES"
RUN_LABEL = "pipeline/runid"  # of a run's workflow and pods; backend/src/apiserver/template/v2_template.go


@dataclasses.dataclass(frozen=True)
class Server:
    """How to reach a Kubeflow Pipelines server, and as whom.

    Attributes:
        host: Its address; empty for KF_PIPELINES_ENDPOINT, else the cluster that we are in or kubectl points at.
        namespace: Of a multi-user installation.
        token: A bearer token; empty for the pod's own, or for what the host needs none.
        cookies: Of a login in front of the server.
        iap_client: OAuth client of Google's Identity-Aware Proxy.
        authority: File of the certificate authority that signed the server's certificate.
        page: Address of the web page, where it is another.
        context: Of kubectl's configuration, where the server is reached through it; empty for the current one.
    """

    host: str = ""
    namespace: str = ""
    token: str = ""
    cookies: str = ""
    iap_client: str = ""
    authority: str = ""
    page: str = ""
    context: str = ""

    @property
    def place(self) -> str:
        """The address as it may be printed; empty where none is given."""
        return redact(self.host)

    @property
    def pods(self) -> str:
        """The namespace where a run's pods are."""
        return self.namespace or NAMESPACE

    def connect(self) -> Any:
        """Return a kfp.Client that has had one answer of the server.

        Raises:
            InputError: The server is not reachable, does not let us in, or has no API that we know.
        """
        import kfp

        server = self

        class Client(kfp.Client):
            def _load_config(self, host: str, *rest: Any) -> Any:
                inside = os.environ.get("KUBERNETES_SERVICE_HOST") and not server.context
                config = super()._load_config(host, *rest) if host or inside else server._proxied(self._KUBE_PROXY_PATH)
                refresh, host = config.refresh_api_key_hook, config.host
                if refresh is not None:
                    # The hook of a kubeconfig with a token or a login command sets the host anew, to the API server's
                    # own, and itself (_set_config in kubernetes/config/kube_config.py), before each request: the path
                    # of the service would be lost.
                    def refresh_token_only(settings: Any) -> None:
                        refresh(settings)
                        settings.host = host
                        settings.refresh_api_key_hook = refresh_token_only

                    config.refresh_api_key_hook = refresh_token_only
                return config

            def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
                # Once, and bounded: the parent's asks five times, five seconds apart, and logs a traceback each time.
                keep(self._healthz_api.api_client)
                return self._healthz_api.healthz_service_get_healthz()

        with explained(self.place, greeting=True), warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            client = Client(
                host=self.host or None,
                namespace=self.pods,
                existing_token=self.token or None,
                cookies=self.cookies or None,
                client_id=self.iap_client or None,
                ssl_ca_cert=self.authority or None,
            )
            client.get_kfp_healthz()
        return client

    def _proxied(self, path: str) -> Any:
        """Return how the service is reached through the API server that kubectl's configuration names."""
        import kfp_server_api
        from kubernetes import config

        settings = kfp_server_api.Configuration()
        place = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
        try:
            config.load_kube_config(place, self.context or None, settings)
        except (config.ConfigException, OSError) as error:
            raise InputError(
                f"there is no Kubeflow Pipelines to send to ({' '.join(str(error).split())[:200]}); give --host or "
                "KF_PIPELINES_ENDPOINT, or point KUBECONFIG at its cluster"
            ) from None
        settings.host = f"{settings.host}/{path.format(self.pods)}"
        return settings

    def link(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{redact(self.page or self.host or '/pipeline').rstrip('/')}/#/runs/details/{run_id}"


@contextlib.contextmanager
def explained(host: str, greeting: bool = False) -> Iterator[None]:
    """Turn what the kfp client raises into one line for a person.

    Args:
        host: The server's address as it may be printed; empty where none is given.
        greeting: Whether this is the first question to the server.
    """
    import kfp_server_api
    import urllib3

    name = host or "the server"
    try:
        yield
    except kfp_server_api.ApiException as error:
        raise InputError(redact(_refusal(name, error, greeting))) from safe_cause(error)
    except Unanswered as error:
        if error.body.lstrip().startswith("<"):
            raise InputError(
                f"{name} answers with a page, not with the API: a login stands in front of it; "
                f"set {TOKEN} or {COOKIES}, or give --iap-client"
            ) from safe_cause(error)
        raise InputError(
            redact(f"Kubeflow Pipelines at {name} cannot be used ({error}); see ai-vs-real doctor")
        ) from safe_cause(error)
    except urllib3.exceptions.HTTPError as error:
        pool = getattr(error, "pool", None)
        where = host or (f"{pool.scheme}://{pool.host}:{pool.port}" if pool else "any address")
        reason = getattr(error, "reason", None) or error
        raise InputError(
            redact(
                f"Kubeflow Pipelines cannot be reached at {where} ({_short(reason)}); "
                "give --host or KF_PIPELINES_ENDPOINT, as after kubectl -n kubeflow port-forward svc/ml-pipeline 8888"
            )
        ) from safe_cause(error)


def _refusal(host: str, error: Any, greeting: bool) -> str:
    message = str(error.body or error.reason or "")
    with contextlib.suppress(ValueError, AttributeError):
        answer = json.loads(error.body)
        message = str(answer.get("error") or answer.get("message") or message)
    said = f"({error.status}: {first_sentence(message)})"
    if error.status in (401, 403):
        return f"{host} does not let us in {said}; set {TOKEN}, or give --token-file, --iap-client or --namespace"
    if error.status in (404, 405, 501) and greeting:
        return f"{host} has no v2beta1 API {said}; Kubeflow Pipelines 2.0 or later is needed: check address and version"
    if error.status == 404:
        return f"{host} refused {said}"
    return f"{host} refused {said}; this package is written for Kubeflow Pipelines 2.17: see ai-vs-real doctor"


def first_sentence(message: str) -> str:
    """Return what a message of the server says, without the Go stack that it prints after it.

    An error that the server did not expect is formatted with its stack, a line for each function and each file
    (backend/src/common/util/error.go, ToGRPCError).
    """
    lines = [line.strip() for line in message.strip().splitlines()]
    return " ".join((lines[0] if lines else "").split())[:300]


def _short(reason: Any) -> str:
    return re.sub(r"<[^>]*>:? ?", "", str(reason)).strip() or type(reason).__name__


def send(
    server: Server,
    package: Package,
    arguments: Mapping[str, Any],
    *,
    experiment: str = "ai-vs-real",
    name: str = "",
    schedule: str = "",
    root: str = "",
    account: str = "",
) -> dict[str, Any]:
    """Upload a pipeline and start a run of it, or schedule runs.

    Args:
        server: Where to.
        package: The compiled pipeline, uploaded unless this very version is there.
        arguments: The pipeline's parameters; see Package.typed.
        experiment: Found by name, or created.
        name: Of the run or the schedule.
        schedule: Cron expression of six fields, seconds first; empty for one run now.
        root: Where the artifacts go, such as gs://BUCKET/PREFIX; empty for the server's own.
        account: Kubernetes service account of the pods; empty for the server's own.

    Returns:
        `run_id` and `link`, or `schedule_id`; `pipeline_id`, `version_id`, `experiment_id`.

    Raises:
        InputError: The server is not reachable, or refused, with its reason.
    """
    import kfp_server_api as api

    client = server.connect()
    with explained(server.place):
        pipeline_id, version_id = _uploaded(client, package, server.namespace)
        experiment_id = _experiment(client, experiment, server.namespace)
        common = {
            "display_name": name,
            "experiment_id": experiment_id,
            "pipeline_version_reference": api.V2beta1PipelineVersionReference(pipeline_id, version_id),
            "runtime_config": api.V2beta1RuntimeConfig(parameters=dict(arguments), pipeline_root=root or None),
            "service_account": account or None,
        }
        sent = {"pipeline_id": pipeline_id, "version_id": version_id, "experiment_id": experiment_id}
        if schedule:
            return {**sent, "schedule_id": _scheduled(client, schedule, common)}
        run = client.runs.run_service_create_run(api.V2beta1Run(**common))
    return {**sent, "run_id": run.run_id, "link": server.link(run.run_id)}


def _named(key: str, value: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})


def _uploaded(client: Any, package: Package, namespace: str) -> tuple[str, str]:
    import kfp_server_api as api

    own = {"namespace": namespace} if namespace else {}
    same = _named("display_name", package.name)
    pipelines = client.pipelines.pipeline_service_list_pipelines(filter=same, **own).pipelines
    if pipelines:
        pipeline_id = pipelines[0].pipeline_id
    else:
        # Not by an upload: that makes a version of its own beside the one below (pipeline_upload_server.go).
        wanted = api.V2beta1Pipeline(name=package.name, display_name=package.name, **own)
        pipeline_id = client.pipelines.pipeline_service_create_pipeline(wanted).pipeline_id
    same = _named("display_name", package.version)
    versions = client.pipelines.pipeline_service_list_pipeline_versions(pipeline_id, filter=same).pipeline_versions
    if versions:
        return pipeline_id, versions[0].pipeline_version_id
    version = client.pipeline_uploads.upload_pipeline_version(
        str(package.path), name=package.version, pipelineid=pipeline_id
    )
    return pipeline_id, version.pipeline_version_id


def _experiment(client: Any, name: str, namespace: str) -> str:
    import kfp_server_api as api

    own = {"namespace": namespace} if namespace else {}
    same = _named("display_name", name)
    experiments = client.experiments.experiment_service_list_experiments(filter=same, **own).experiments
    if experiments:
        return experiments[0].experiment_id
    wanted = api.V2beta1Experiment(display_name=name, **own)
    return client.experiments.experiment_service_create_experiment(wanted).experiment_id


def _scheduled(client: Any, schedule: str, common: Mapping[str, Any]) -> str:
    import kfp_server_api as api

    runs = client.recurring_runs
    same = {"experiment_id": common["experiment_id"], "filter": _named("display_name", common["display_name"])}
    before = runs.recurring_run_service_list_recurring_runs(**same).recurring_runs
    wanted = api.V2beta1RecurringRun(
        **common,
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=schedule)),
        mode=api.RecurringRunMode.ENABLE,
        max_concurrency="1",
        no_catchup=True,  # a cluster that was away trains once, not once for every day it missed
    )
    made = runs.recurring_run_service_create_recurring_run(wanted)
    for old in before or []:  # after the new one stands: a schedule is replaced, never lost
        runs.recurring_run_service_delete_recurring_run(old.recurring_run_id)
    return made.recurring_run_id


def cron(expression: str) -> str:
    """Return a cron expression as the server reads it: six fields, seconds first; five fields get a 0 before them."""
    fields = expression.split()
    if len(fields) not in (5, 6):
        raise InputError(
            f"schedule {expression!r} has {len(fields)} fields; give cron's five ('0 3 * * 1'), or six, seconds first"
        )
    return " ".join(["0", *fields] if len(fields) == 5 else fields)
