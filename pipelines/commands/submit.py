"""Sends a pipeline to a Kubeflow Pipelines server, and waits for what becomes of it."""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.containers import VERSION
from components.errors import InputError
from components.redaction import redact, safe_cause
from pipelines.commands.options import add_pipeline_options, pipeline_arguments

PATIENCE_S = 20.0  # for one answer of the server
FORGIVEN = 30  # questions in a row that may go unanswered while waiting: a server is restarted, a network changes
FINAL = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
TOKEN = "KF_PIPELINES_TOKEN"
COOKIES = "KF_PIPELINES_COOKIES"
KINDS = {"NUMBER_INTEGER": int, "NUMBER_DOUBLE": float, "BOOLEAN": bool, "STRING": str, "LIST": list, "STRUCT": dict}


@dataclasses.dataclass(frozen=True)
class Package:
    """A compiled pipeline: both documents of its YAML.

    Attributes:
        path: The file, sent as it is.
        name: Of the pipeline.
        version: Package version and the digest of the file: equal versions mean equal bytes.
        parameters: Of the pipeline, by name: kfp's parameterType, and defaultValue or isOptional where it has one.
    """

    path: Path
    name: str
    version: str
    parameters: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "Package":
        """Read a compiled pipeline; refuses one without its platform document, where the GPU and the secrets stand."""
        import yaml

        try:
            content = path.read_bytes()
            documents = list(yaml.safe_load_all(content))
            specification, platforms = documents
            name = specification["pipelineInfo"]["name"]
        except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError):
            raise InputError(
                f"{path} is no compiled pipeline of two documents; make one with ai-vs-real compile"
            ) from None
        if "platforms" not in platforms:
            raise InputError(
                f"{path} has lost its platform document, and GPU and secrets with it; run ai-vs-real compile"
            )
        parameters = specification["root"].get("inputDefinitions", {}).get("parameters", {})
        first, _, rest = content.partition(b"\n")
        digest = hashlib.sha256(rest if first.startswith(b"# ai-vs-real ") else content).hexdigest()
        return cls(path, name, f"{VERSION}-{digest[:12]}", parameters)

    def typed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return given arguments in the pipeline's types; text is read as the type's JSON.

        Raises:
            InputError: An unknown name, a value of another type, or one missing that has no default.
        """
        if unknown := sorted(set(given) - set(self.parameters)):
            raise InputError(f"{self.name} has no parameter {unknown[0]!r}; it has {', '.join(self.parameters)}")
        for name, definition in self.parameters.items():
            if name not in given and "defaultValue" not in definition and not definition.get("isOptional"):
                raise InputError(f"{self.name} needs a value for {name!r}; give --set {name}=VALUE")
        return {name: _typed(name, value, self.parameters[name]["parameterType"]) for name, value in given.items()}


def _typed(name: str, value: Any, parameter_type: str) -> Any:
    kind = KINDS[parameter_type]
    if isinstance(value, str) and kind is not str:
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"parameter {name} is {value!r}; it takes {kind.__name__} as JSON writes it")
    return value


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
    """

    host: str = ""
    namespace: str = ""
    token: str = ""
    cookies: str = ""
    iap_client: str = ""
    authority: str = ""
    page: str = ""

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Server":
        """Return the server that `add_server_options` took; secrets come from the environment or a file."""
        token = os.environ.get(TOKEN, "")
        if options.token_file:
            try:
                token = options.token_file.read_text().strip()
            except OSError as error:
                raise InputError(f"token file {options.token_file} cannot be read ({error.strerror})") from None
        host = options.host or os.environ.get("KF_PIPELINES_ENDPOINT", "")
        rest = {"iap_client": options.iap_client, "authority": options.authority, "page": options.page}
        return cls(host, options.namespace, token, os.environ.get(COOKIES, ""), **rest)

    def connect(self) -> Any:
        """Return a kfp.Client that has had one answer of the server.

        Raises:
            InputError: The server is not reachable, does not let us in, or has no API that we know.
        """
        import kfp

        class Client(kfp.Client):
            def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
                # Once, and bounded: the parent's asks five times, five seconds apart, and logs a traceback each time.
                return self._healthz_api.healthz_service_get_healthz(_request_timeout=PATIENCE_S)

        with explained(self.host, greeting=True), warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            client = Client(
                host=self.host or None,
                namespace=self.namespace or "kubeflow",
                existing_token=self.token or None,
                cookies=self.cookies or None,
                client_id=self.iap_client or None,
                ssl_ca_cert=self.authority or None,
            )
            answer = client.healthzs.healthz_service_get_healthz(_preload_content=False, _request_timeout=PATIENCE_S)
        try:
            json.loads(answer.data)
        except ValueError:
            raise InputError(
                f"{redact(self.host) or 'the server'} answers with a page, not with the API: a login stands in "
                f"front of it; set {TOKEN} or {COOKIES}, or give --iap-client"
            ) from None
        return client

    def link(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{redact(self.page or self.host or '/pipeline').rstrip('/')}/#/runs/details/{run_id}"


@contextlib.contextmanager
def explained(host: str, greeting: bool = False) -> Iterator[None]:
    """Turn what the kfp client raises into one line for a person; `greeting` is the first question to the server."""
    import kfp_server_api
    import urllib3

    try:
        yield
    except kfp_server_api.ApiException as error:
        raise InputError(redact(_told(host or "the server", error, greeting))) from safe_cause(error)
    except urllib3.exceptions.HTTPError as error:
        pool = getattr(error, "pool", None)
        where = host or (f"{pool.scheme}://{pool.host}:{pool.port}" if pool else "any address")
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"Kubeflow Pipelines cannot be reached at {redact(where)} ({redact(_short(reason))}); "
            "give --host or KF_PIPELINES_ENDPOINT, as after kubectl -n kubeflow port-forward svc/ml-pipeline 8888"
        ) from safe_cause(error)


def _told(host: str, error: Any, greeting: bool) -> str:
    message = str(error.body or error.reason or "")
    with contextlib.suppress(ValueError, AttributeError):
        answer = json.loads(error.body)
        message = answer.get("error") or answer.get("message") or message
    message = " ".join(str(message).split())[:300]
    said = f"({error.status}: {message})"
    if error.status in (401, 403):
        return f"{host} does not let us in {said}; set {TOKEN}, or give --token-file, --iap-client or --namespace"
    if error.status in (404, 405, 501) and greeting:
        return f"{host} has no v2beta1 API {said}; Kubeflow Pipelines 2.0 or later is needed: check address and version"
    return f"{host} refused {said}; this package is written for Kubeflow Pipelines 2.17: see ai-vs-real doctor"


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
    with explained(server.host):
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
        run = client.runs.run_service_create_run(api.V2beta1Run(**common), _request_timeout=PATIENCE_S)
    return {**sent, "run_id": run.run_id, "link": server.link(run.run_id)}


def _named(key: str, value: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})


def _uploaded(client: Any, package: Package, namespace: str) -> tuple[str, str]:
    own = {"namespace": namespace} if namespace else {}
    same = {"filter": _named("display_name", package.name), "_request_timeout": PATIENCE_S}
    pipelines = client.pipelines.pipeline_service_list_pipelines(**same, **own).pipelines
    file = str(package.path)
    if pipelines:
        pipeline_id = pipelines[0].pipeline_id
    else:
        made = client.pipeline_uploads.upload_pipeline(file, name=package.name, **own, _request_timeout=PATIENCE_S)
        pipeline_id = made.pipeline_id
    same["filter"] = _named("display_name", package.version)
    versions = client.pipelines.pipeline_service_list_pipeline_versions(pipeline_id, **same).pipeline_versions
    if versions:
        return pipeline_id, versions[0].pipeline_version_id
    version = client.pipeline_uploads.upload_pipeline_version(
        file, name=package.version, pipelineid=pipeline_id, _request_timeout=PATIENCE_S
    )
    return pipeline_id, version.pipeline_version_id


def _experiment(client: Any, name: str, namespace: str) -> str:
    import kfp_server_api as api

    own = {"namespace": namespace} if namespace else {}
    same = {"filter": _named("display_name", name), "_request_timeout": PATIENCE_S}
    found = client.experiments.experiment_service_list_experiments(**same, **own).experiments
    if found:
        return found[0].experiment_id
    wanted = api.V2beta1Experiment(display_name=name, **own)
    return client.experiments.experiment_service_create_experiment(wanted, _request_timeout=PATIENCE_S).experiment_id


def _scheduled(client: Any, schedule: str, common: Mapping[str, Any]) -> str:
    import kfp_server_api as api

    runs = client.recurring_runs
    same = {"experiment_id": common["experiment_id"], "filter": _named("display_name", common["display_name"])}
    before = runs.recurring_run_service_list_recurring_runs(**same, _request_timeout=PATIENCE_S).recurring_runs
    wanted = api.V2beta1RecurringRun(
        **common,
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=schedule)),
        mode=api.RecurringRunMode.ENABLE,
        max_concurrency="1",
        no_catchup=True,  # a cluster that was away trains once, not once for every day it missed
    )
    made = runs.recurring_run_service_create_recurring_run(wanted, _request_timeout=PATIENCE_S)
    for old in before or []:  # after the new one stands: a schedule is replaced, never lost
        runs.recurring_run_service_delete_recurring_run(old.recurring_run_id, _request_timeout=PATIENCE_S)
    return made.recurring_run_id


def cron(expression: str) -> str:
    """Return a cron expression as the server reads it: six fields, seconds first; five fields get a 0 before them."""
    fields = expression.split()
    if len(fields) not in (5, 6):
        raise InputError(
            f"schedule {expression!r} has {len(fields)} fields; give cron's five ('0 3 * * 1'), or six, seconds first"
        )
    return " ".join(["0", *fields] if len(fields) == 5 else fields)


def follow(
    client: Any,
    host: str,
    run_id: str,
    *,
    interval_s: float | None = 10.0,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Wait for a run to end, telling the change of every step.

    Args:
        client: Of Server.connect.
        host: For messages.
        run_id: Of the run.
        interval_s: Between two questions, seconds; None to look once.
        say: Takes each line.

    Returns:
        `state` (SUCCEEDED, FAILED, SKIPPED, CANCELED), `final` (whether it is one of these), `error` (empty without
        one), `steps` (state by name).

    Raises:
        InputError: The server gave no answer FORGIVEN times in a row, or does not know the run.
    """
    steps: dict[str, str] = {}
    silent = 0
    while True:
        try:
            with explained(host):
                run = client.runs.run_service_get_run(run_id, _request_timeout=PATIENCE_S)
            silent = 0
        except InputError as error:
            silent += 1
            if (
                interval_s is None
                or silent > FORGIVEN
                or getattr(error.__cause__, "status", 500) in (400, 401, 403, 404)
            ):
                raise
            time.sleep(interval_s)
            continue
        for step, state, message in step_states(run):
            if steps.get(step) != state:
                steps[step] = state
                say(f"{step}: {state.lower()}{': ' + message if message else ''}")
        if run.state in FINAL or interval_s is None:
            error = _short(run.error.message) if run.error else ""
            return {"state": run.state, "final": run.state in FINAL, "error": error, "steps": steps}
        time.sleep(interval_s)


def step_states(run: Any) -> list[tuple[str, str, str]]:
    """Return (name, state, error) of a run's steps; the server's own tasks, its drivers, only where they failed."""
    tasks = (run.run_details and run.run_details.task_details) or []
    found = []
    for task in sorted(tasks, key=lambda task: str(task.start_time or task.create_time or "")):
        own = task.display_name in (None, "", "root", "executor") or task.display_name.endswith("-driver")
        if task.state and (not own or task.state == "FAILED"):
            message = " ".join((task.error.message or "").split()) if task.error else ""
            found.append((task.display_name or "run", task.state, message))
    return found


def add_server_options(command: argparse.ArgumentParser) -> None:
    """Add the options by which a Kubeflow Pipelines server is reached."""
    options = command.add_argument_group(
        "server", f"secrets come from {TOKEN}, {COOKIES} or a file, never from an option"
    )
    options.add_argument("--host", default="", metavar="URL", help="(KF_PIPELINES_ENDPOINT, else this cluster)")
    options.add_argument("--namespace", default="", help="of a multi-user installation")
    options.add_argument("--token-file", type=Path, metavar="FILE", help="holds a bearer token")
    options.add_argument("--iap-client", default="", metavar="ID", help="OAuth client of Identity-Aware Proxy")
    options.add_argument("--authority", default="", metavar="FILE", help="certificate authority of the server")
    options.add_argument("--page", default="", metavar="URL", help="of the web page, where it is not the host's")


def add_parser(commands: Any) -> None:
    """Add the command `submit`."""
    command = commands.add_parser("submit", description=_submit.__doc__)
    command.add_argument("media", nargs="?", default="", help="gs://BUCKET/PREFIX, or a path that the pods see")
    add_pipeline_options(command)
    command.add_argument("--pipeline", type=Path, metavar="FILE", help="another compiled pipeline; parameters by --set")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter by name")
    command.add_argument(
        "--cluster", type=Path, metavar="FILE", help="compile for the cluster that this YAML describes"
    )
    command.add_argument("--experiment", default="ai-vs-real", help="(%(default)s)")
    command.add_argument("--name", default="", help="of the run or schedule (pipeline and time)")
    command.add_argument("--root", default="", metavar="URI", help="where artifacts go (the server's own)")
    command.add_argument("--account", default="", help="service account of the pods (the server's own)")
    command.add_argument("--schedule", default="", metavar="CRON", help="run again and again, such as '0 3 * * 1'")
    command.add_argument("--wait", action="store_true", help="follow the run; the exit code is its outcome")
    command.add_argument("--run", default="", metavar="ID", dest="run_id", help="tell of this run, and send nothing")
    command.add_argument("--interval", type=float, default=10.0, metavar="SECONDS", help="between looks (%(default)g)")
    command.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")
    add_server_options(command)
    command.set_defaults(run=_submit)


def _submit(options: argparse.Namespace) -> int:
    """Send the compiled training pipeline to Kubeflow Pipelines: upload, run or schedule, and wait for it if asked."""
    server = Server.of(options)
    if options.run_id:
        return _tell(options, server)
    schedule = cron(options.schedule) if options.schedule else ""
    if schedule and options.wait:
        raise InputError("--wait follows one run, --schedule makes many; leave one of them out")
    with package_for(options.pipeline, options.cluster) as package:
        arguments = package.typed(_arguments(options))
        default = package.name if schedule else f"{package.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        more = {"experiment": options.experiment, "name": options.name or default, "root": options.root}
        more |= {"schedule": schedule, "account": options.account}
        document = {
            "host": redact(server.host) or "this cluster",
            "namespace": server.namespace,
            "pipeline": package.name,
        }
        document |= {"version": package.version, **more, "parameters": arguments}
        if options.dry_run:
            print(json.dumps({**document, "documents": package.path.read_text().split("\n---\n")}, indent=1))
            return 0
        document |= send(server, package, arguments, **more)
    if schedule:
        _print(options, document, f"scheduled {document['name']} at {schedule!r}, id {document['schedule_id']}")
        return 0
    print(document["link"], file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.wait:
        try:
            document |= follow(server.connect(), server.host, document["run_id"], interval_s=options.interval, say=_say)
        except KeyboardInterrupt:
            print(f"no longer waiting; the run goes on: {document['link']}", file=sys.stderr)
            raise
    _print(options, document, _outcome(document))
    return 0 if document.get("state", "SUCCEEDED") == "SUCCEEDED" else 1


def _tell(options: argparse.Namespace, server: Server) -> int:
    document = {"run_id": options.run_id, "link": server.link(options.run_id), "name": options.run_id}
    interval_s = options.interval if options.wait else None
    document |= follow(server.connect(), server.host, options.run_id, interval_s=interval_s, say=_say)
    _print(options, document, _outcome(document))
    return 1 if options.wait and document["state"] != "SUCCEEDED" else 0


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    arguments = pipeline_arguments(options)
    if options.media:
        arguments["media"] = options.media
    for item in options.set:
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"--set {item!r} has no =; give --set NAME=VALUE")
        arguments[name] = value
    return arguments


@contextlib.contextmanager
def package_for(pipeline: Path | None = None, cluster: Path | None = None) -> Iterator[Package]:
    """Give the compiled pipeline to send: a given file, the one that comes with the package, or one for a cluster."""
    from pipelines.steps.compiling import TRAINING, compile_pipelines, compiled_for

    if cluster is None:
        yield Package.read(pipeline or TRAINING)
        return
    if pipeline is not None:
        raise InputError("--pipeline names a compiled file, --cluster compiles anew; leave one of them out")
    with tempfile.TemporaryDirectory() as directory, compiled_for(cluster):
        compile_pipelines(Path(directory))
        yield Package.read(Path(directory) / TRAINING.name)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


def _print(options: argparse.Namespace, document: Mapping[str, Any], line: str) -> None:
    print(json.dumps(document, indent=1) if options.json else line)


def _outcome(document: Mapping[str, Any]) -> str:
    if "state" not in document:
        return f"submitted {document['name']}, run {document['run_id']}"
    return f"{document['state'].lower()}{': ' + document['error'] if document['error'] else ''}"
