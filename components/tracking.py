"""Contract: what tracks a run: the MLflow server that MLFLOW_TRACKING_URI names, or a SQLite file in the run home.

Only calls that servers since 2.22 answer are used. Every call is bounded in time, and every error is one line without
secrets. Files of a run are read and written where its store is now, not where MLflow remembers to have put it, so that
a run home can be moved and copied.
"""

import errno
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from components import home, processes, servers
from components.errors import InputError
from components.redaction import redact, safe_cause

EXPERIMENT = "ai-vs-real"
PROCESS = "ai-vs-real.process"  # tag of a run: who is at work on it
QUIET = {  # standard output is for the answer, and nothing is reported to anybody
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # The client's own patience is minutes; a refused connection is tried again for some seconds.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
OURS = re.compile(r"/artifacts/([0-9a-f]{32}/artifacts(?:/.*)?)$")  # how a run's place ends in a store of ours


class MissingError(InputError):
    """MLflow has no such run, model, version or alias."""


class ExistsError(InputError):
    """MLflow has one of this name already."""


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, else the address of the SQLite file in the run home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.place() / 'mlflow.db'}"


def public_uri() -> str:
    """Return `tracking_uri()` without the secrets that it may hold."""
    return redact(tracking_uri())


def database() -> Path | None:
    """Return the SQLite file that `tracking_uri()` names; None where it names a server."""
    uri = tracking_uri()
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]).absolute() if uri.startswith("sqlite:///") else None


def connect() -> Any:
    """Return a client of `tracking_uri()` that is known to answer.

    Returns:
        An MlflowClient. Each of its methods is bounded by `servers.timeout_s` and raises MissingError, ExistsError or,
        for all else, ServerError.

    Raises:
        ServerError: The server does not answer in time, or refuses the credentials.
    """
    uri = tracking_uri()
    _configure()
    if (path := database()) and path.parent == home.place() and not path.exists():
        home.run_home()
    if uri.startswith("http"):
        _greet(uri)
    from mlflow import MlflowClient

    client = _Client(ask(MlflowClient, uri, uri))
    client.get_experiment_by_name(EXPERIMENT)
    return client


def ask(function: Callable[..., Any], *given: Any, seconds: float = 0.0, **named: Any) -> Any:
    """Call a function of MLflow's, bounded in time, its errors one line.

    Args:
        function: What to call.
        *given: Its arguments.
        seconds: How long it may take; 0 for `servers.timeout_s`.
        **named: Its named arguments.

    Raises:
        MissingError: There is no such thing.
        ExistsError: There is such a thing already.
        InputError: A disk on this side is full, or may not be written.
        ServerError: Any other error of MLflow's, or no answer in time.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    seconds = seconds or servers.timeout_s()
    try:
        if database():  # a file answers or fails by itself, and its connections belong to their threads
            return function(*given, **named)
        return servers.bounded(function, *given, seconds=seconds, **named)
    except TimeoutError:
        raise servers.ServerError(
            f"MLflow at {public_uri()} gave no answer within {seconds:.0f} s; look at the server, or set "
            f"{servers.VARIABLE} to wait longer"
        ) from None
    except (MlflowException, SQLAlchemyError, OSError) as error:
        if getattr(error, "errno", None) in home.UNWRITABLE:
            blocked = getattr(error, "filename2", None) or getattr(error, "filename", None)  # of a copy, its target
            raise home.unwritable(Path(blocked or home.place()), error) from safe_cause(error)
        if (file := database()) and (full := "database or disk is full") in str(error):  # SQLite's words
            raise home.unwritable(file, OSError(errno.ENOSPC, full)) from safe_cause(error)
        kinds = {"RESOURCE_DOES_NOT_EXIST": MissingError, "RESOURCE_ALREADY_EXISTS": ExistsError}
        kind = kinds.get(getattr(error, "error_code", ""), servers.ServerError)
        cause = redact((str(error).strip() or type(error).__name__).splitlines()[0])
        raise kind(f"MLflow at {public_uri()} failed: {cause}; check MLFLOW_TRACKING_URI") from safe_cause(error)


def upload(run: Any, files: Mapping[str, Path]) -> None:
    """Keep files with a run.

    Args:
        run: The MLflow run.
        files: By their paths among the run's artifacts, such as `detector/MLmodel`.

    Raises:
        ServerError: They cannot be kept.
    """
    store = _store(run.info.artifact_uri)
    with tempfile.TemporaryDirectory() as part:
        for name, path in files.items():
            folder, _, base = name.rpartition("/")
            named = path
            if path.name != base:
                named = Path(part) / base
                shutil.copyfile(path, named)
            ask(store.log_artifact, str(named), folder or None, seconds=servers.transfer_s(path.stat().st_size))


def download(source: str, directory: Path) -> None:
    """Fetch the files below a place of a run.

    Args:
        source: A URI among a run's artifacts, as MLflow remembers it.
        directory: Where they shall lie; made if need be.

    Raises:
        MissingError: There is nothing.
    """
    store, written = _store(source), False
    folders = [""]
    while folders:
        folder = folders.pop()
        for entry in ask(store.list_artifacts, folder or None):
            target = directory / entry.path
            if not target.resolve().is_relative_to(directory.resolve()):
                raise servers.ServerError(f"MLflow at {public_uri()} lists {entry.path!r}, which leaves {source}")
            if entry.is_dir:
                folders.append(entry.path)
                continue
            written = True
            target.parent.mkdir(parents=True, exist_ok=True)
            # One file after another and in our thread: threads of MLflow's would keep the process from ending.
            seconds = servers.transfer_s(min(entry.file_size or 0, 10**10))
            ask(store._download_file, entry.path, str(target), seconds=seconds)
    if not written:
        raise MissingError(
            f"{redact(resident(source))} holds no files, though MLflow at {public_uri()} has them there; move what the "
            "run home had in artifacts/ with it, or register the detector again"
        )


def resident(uri: str) -> str:
    """Return where artifacts lie now: below `artifacts` beside the SQLite file, wherever that was moved or copied to.

    Args:
        uri: Where MLflow remembers that they lie: an absolute path of the day when they were written.
    """
    path = database()
    match = OURS.search(uri)
    if path is None or match is None or urlparse(uri).scheme not in ("", "file"):
        return uri
    return (path.parent / "artifacts" / unquote(match[1])).as_uri()


def enter(client: Any, run_id: str, name: str, tags: Mapping[str, str] | None = None) -> Any:
    """Return the run to work on, marked as running and as this process's.

    Args:
        client: From `connect`.
        run_id: The run asked for; where the server has none of this id, a new one is made.
        name: Of a new run.
        tags: Of a new run.

    Returns:
        The MLflow run.
    """
    if run_id:
        with suppress(MissingError):
            client.update_run(run_id, "RUNNING")
            client.set_tag(run_id, PROCESS, processes.identity())
            return client.get_run(run_id)
    experiment = _experiment(client)
    _close_killed(client, experiment)
    return client.create_run(experiment, run_name=name, tags={**(tags or {}), PROCESS: processes.identity()})


def leave(client: Any, run_id: str, status: str = "FINISHED") -> None:
    """End a run, unless it is the one that Kubeflow's plugin opened and will end itself.

    Args:
        client: From `connect`.
        run_id: The run.
        status: FINISHED, FAILED or KILLED.
    """
    if run_id != os.environ.get("MLFLOW_RUN_ID"):
        client.set_terminated(run_id, status)


def add(
    run_id: str, *, metrics: Mapping[str, float] | None = None, files: Mapping[str, Path] | None = None, note: str = ""
) -> None:
    """Add to a run what became known after it, and leave its status as it is.

    Args:
        run_id: The run.
        metrics: Finite numbers by name.
        files: By their paths among the run's artifacts.
        note: What the run is, in Markdown, where it says nothing of that yet.

    Raises:
        MissingError: The server has no such run.
    """
    from mlflow.entities import Metric, RunTag

    client = connect()
    run = client.get_run(run_id)
    now = int(time.time() * 1000)
    described = not note or run.data.tags.get("mlflow.note.content")
    client.log_batch(
        run_id,
        metrics=[Metric(key, float(value), now, 0) for key, value in (metrics or {}).items()],
        tags=[] if described else [RunTag("mlflow.note.content", redact(note))],
    )
    upload(run, files or {})


class TrackedRun:
    """One MLflow run. Use as a context manager: it ends with the block.

    Args:
        run_id: A run to go on with; where empty, MLFLOW_RUN_ID, else a new one in the experiment `ai-vs-real`.
        name: Of a new run.
        description: What the run is, in Markdown, for whoever looks at it in MLflow.
    """

    def __init__(self, run_id: str = "", name: str = "train", description: str = ""):
        self.client = connect()
        self.run = enter(self.client, run_id or os.environ.get("MLFLOW_RUN_ID", ""), name)
        self.run_id: str = self.run.info.run_id
        if description:
            self.client.set_tag(self.run_id, "mlflow.note.content", redact(description))

    def __enter__(self) -> "TrackedRun":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, servers.ServerError):
            return  # the server has failed: whoever runs next closes the run
        status = "FINISHED" if kind is None else "KILLED" if kind is KeyboardInterrupt else "FAILED"
        with suppress(Exception) if kind else nullcontext():  # never hide the error that ended the run
            leave(self.client, self.run_id, status)

    def log(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> None:
        """Record parameters, tags and the metrics of one step in one request.

        Args:
            params: Settings by name. One that the run has already with another value, as a run of Kubeflow's plugin
                may, is kept under `ai-vs-real.NAME`.
            tags: By name.
            metrics: Finite numbers by name.
            step: The epoch, counted over all phases.
        """
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        there = self.run.data.params
        named = {
            key if there.get(key, str(value)) == str(value) else f"ai-vs-real.{key}": redact(str(value))
            for key, value in (params or {}).items()
        }
        self.client.log_batch(
            self.run_id,
            metrics=[Metric(key, float(value), now, step) for key, value in (metrics or {}).items()],
            params=[Param(key, value) for key, value in named.items()],
            tags=[RunTag(key, redact(str(value))) for key, value in (tags or {}).items()],
        )

    def log_dataset(self, name: str, digest: str, source: str, context: str, profile: str = "") -> None:
        """Record a dataset as an input of the run.

        Args:
            name: What the dataset is called.
            digest: Of its content.
            source: Where it came from: a path or a URI.
            context: What it was used for, such as `training`.
            profile: JSON text with its counts.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name, digest[:36], "ai-vs-real", redact(source), profile=profile or None)
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def log_file(self, path: Path, name: str = "") -> None:
        """Keep one file with the run.

        Args:
            path: The file.
            name: Its path among the run's artifacts; its own name if not given.
        """
        upload(self.run, {name or Path(path).name: Path(path)})


class _Client:
    """An MlflowClient whose methods are called through `ask`."""

    def __init__(self, client: Any):
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *given, **named: ask(method, *given, **named)


def _configure() -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, int(servers.timeout_s()))))
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _store(uri: str) -> Any:
    """Return MLflow's repository of artifacts at a URI, where it lies now."""
    _configure()
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return ask(get_artifact_repository, resident(uri), tracking_uri())


def _experiment(client: Any) -> str:
    """Return the id of the experiment for new runs, made if need be.

    MLflow keeps an experiment's artifacts at the absolute path of the day when it was made. So a run home that was
    moved or copied begins an experiment of its own at its new place.
    """
    path = database()
    place = (path.parent / "artifacts").as_uri() if path else None
    names = [EXPERIMENT, f"{EXPERIMENT} at {path.parent}"] if path else [EXPERIMENT]
    for name in names:
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            with suppress(ExistsError):  # made by another process just now
                return client.create_experiment(name, place)
            experiment = client.get_experiment_by_name(name)
        if place is None or experiment.artifact_location.rstrip("/") == place:
            return experiment.experiment_id
    raise InputError(f"MLflow at {public_uri()} keeps artifacts at {experiment.artifact_location}, not at {place}")


def _close_killed(client: Any, experiment: str) -> None:
    """End the runs whose process was killed before it could."""
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'", max_results=200):
        if processes.has_ended(run.data.tags.get(PROCESS, "")):
            client.set_terminated(run.info.run_id, "KILLED")


def _greet(uri: str) -> None:
    """Ask the server one question, without the client's retries, to say what is wrong at once."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    seconds = servers.timeout_s()
    try:
        answer = servers.bounded(
            http_request,
            get_default_host_creds(uri),
            "/api/2.0/mlflow/experiments/get-by-name",
            "GET",
            max_retries=0,
            timeout=seconds,
            raise_on_status=False,
            params={"experiment_name": EXPERIMENT},
            seconds=seconds,
        )
    except (MlflowException, OSError, ValueError) as error:
        raise servers.ServerError(
            f"no MLflow server answers at {public_uri()} within {seconds:.0f} s; start it, or set "
            "MLFLOW_TRACKING_URI to one that runs, or unset it to use the run home"
        ) from safe_cause(error)
    if answer.status_code in (401, 403):
        raise servers.ServerError(
            f"MLflow at {public_uri()} refuses the credentials (HTTP {answer.status_code}); set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if answer.status_code >= 500:
        raise servers.ServerError(
            f"MLflow at {public_uri()} answers with HTTP {answer.status_code}; repair it, or set MLFLOW_TRACKING_URI"
        )
    known = answer.status_code == 404 and "RESOURCE_DOES_NOT_EXIST" in answer.text
    if not known and not (answer.status_code == 200 and '"experiment"' in answer.text):
        raise servers.ServerError(
            f"{public_uri()} is no MLflow server: it answers with HTTP {answer.status_code} and something else than "
            "MLflow's API; set MLFLOW_TRACKING_URI to one"
        )
