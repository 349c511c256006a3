"""Contract: the MLflow server, or the SQLite file that stands for it: training's runs and the registry of detectors.

Only calls that servers since 2.22 answer are used: a model is saved here, its files are logged to a run, and the
version is made of them last, with all its tags, in one request. So a version that can be seen is whole, and one that
was never finished cannot be seen.
"""

import hashlib
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import home
from components.errors import InputError

EXPERIMENT = "ai-vs-real"
CHAMPION, CHALLENGER = "champion", "challenger"
PATIENCE_S = 8.0  # for a server that does not answer
MODEL_PATH = "detector"  # of the model among its run's artifacts
QUIET = {  # standard output is for the answer; nobody is told what is run here
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
KEPT = "evaluation"  # of what `keep` keeps


@dataclass(frozen=True)
class Version:
    """One registered detector.

    Attributes:
        name: Of the registered model.
        version: The registry's number, as text.
        digest: Of the detector, from its card.
        run_id: The MLflow run that holds its files.
        tags: As given to `add_version`, and `digest` and `sha256` (of model.keras).
        aliases: `champion`, `challenger`, or others set by hand.
        source: Where its files lie, a URI that the tracking server understands.
        created_s: Seconds since 1970.
    """

    name: str
    version: str
    digest: str
    run_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    source: str = ""
    created_s: float = 0.0


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, else the address of the SQLite file in the run home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.run_home() / 'mlflow.db'}"


def connect() -> Any:
    """Return an MlflowClient for `tracking_uri()`, known to answer.

    Raises:
        InputError: The server does not answer within `PATIENCE_S` seconds, or refuses the credentials.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    uri = tracking_uri()
    with _told():
        if uri.startswith("http"):
            _knock(uri)
        client = MlflowClient(uri, uri)
        client.get_experiment_by_name(EXPERIMENT)
    return client


def find(name: str, alias: str = CHAMPION) -> Version | None:
    """Return the version that an alias names, or None where there is no such model, alias or whole version."""
    uri = tracking_uri()
    if uri.startswith("sqlite:///"):
        with suppress(sqlite3.Error):  # another schema than expected: MLflow itself answers
            return _find_in_file(Path(uri.removeprefix("sqlite:///")), name, alias)
    return next((version for version in versions(name) if alias in version.aliases), None)


def versions(name: str) -> list[Version]:
    """Return the detectors registered under a name, newest first; empty where there is no such name."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"model name {name!r} is not accepted; use letters, digits, dots, dashes and underscores")
    client = connect()
    with _told():
        pointed = _aliases(client, name)
        found, token = [], None
        while token != "":
            page = client.search_model_versions(f"name = '{name}'", 200, page_token=token)
            found, token = found + list(page), page.token or ""
    whole = [_version(entry, pointed) for entry in found if "digest" in entry.tags]
    return sorted(whole, key=lambda version: -int(version.version))


def add_version(name: str, detector: Path, run_id: str = "", tags: Mapping[str, str] | None = None) -> Version:
    """Register a detector, unless one of the same digest is there: then that one is returned.

    Args:
        name: Of the registered model, made if need be.
        detector: The detector's directory.
        run_id: The MLflow run that trained it; one is made where this server knows no such run.
        tags: More tags for the version.
    """
    from components.detector import read_card

    card = read_card(detector)
    for version in versions(name):
        if version.digest == card["digest"]:
            return version
    client = connect()
    with _told(), tempfile.TemporaryDirectory() as part:
        _save_model(Path(detector), card, Path(part) / MODEL_PATH)
        run = _run(client, run_id, f"register {name}")
        client.log_artifacts(run.info.run_id, f"{part}/{MODEL_PATH}", MODEL_PATH)
        client.set_terminated(run.info.run_id)
        _make_name(client, name)
        marks = {**(tags or {}), "digest": card["digest"], "sha256": _sha256(Path(detector))}
        source = f"{run.info.artifact_uri}/{MODEL_PATH}"
        made = client.create_model_version(name, source, run.info.run_id, {key: str(marks[key]) for key in marks})
    return _version(made, {})


def download(name: str, version: str, directory: Path | None = None) -> Path:
    """Return a directory with a registered detector: `fetch` by name and number.

    Raises:
        InputError: There is no such version, or its files are not those that were registered.
    """
    for one in versions(name):
        if one.version == str(version):
            return fetch(one, directory)
    raise InputError(f"{public_uri()} has no version {version!r} of {name!r}; see: ai-vs-real models list")


def fetch(version: Version, directory: Path | None = None) -> Path:
    """Return a directory with a detector's files.

    Args:
        version: From `find` or `versions`.
        directory: Where it shall lie; by default a place in the run home, where it is kept for the next time.
    """
    kept = directory or home.run_home() / "detectors" / version.tags["sha256"]
    if directory is None and kept.exists():
        return kept
    connect()
    from mlflow.artifacts import download_artifacts

    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch.", dir=kept.parent) as part:
        with _told():
            fetched = Path(
                download_artifacts(f"{version.source}/data/detector", dst_path=part, tracking_uri=tracking_uri())
            )
        if _sha256(fetched) != version.tags["sha256"]:
            raise InputError(f"{version.source} does not hold the files registered as {version}; restore them")
        try:
            os.rename(fetched, kept)
        except OSError:  # another process was first
            if directory is not None or not kept.exists():
                raise
    return kept


def keep(version: Version, files: Mapping[str, Path]) -> None:
    """Keep files beside a version, in place of those of the same names."""
    client = connect()
    with _told(), tempfile.TemporaryDirectory() as part:
        for name, path in files.items():
            shutil.copy(path, f"{part}/{name}")
        client.log_artifacts(version.run_id, part, KEPT)


def kept(version: Version, name: str, directory: Path) -> Path:
    """Fetch a file that `keep` kept into a directory and return its path.

    Raises:
        InputError: There is none.
    """
    connect()
    from mlflow.artifacts import download_artifacts

    uri = f"{version.source.removesuffix(MODEL_PATH)}{KEPT}/{name}"
    with _told():
        return Path(download_artifacts(uri, dst_path=str(directory), tracking_uri=tracking_uri()))


def set_alias(name: str, alias: str, version: str) -> None:
    """Point an alias at a version; an empty version removes the alias."""
    client = connect()
    with _told():
        if version:
            client.set_registered_model_alias(name, alias, version)
        else:
            client.delete_registered_model_alias(name, alias)


class TrackedRun:
    """One MLflow run, for training to tell what it does. Use as a context manager: it ends with the block.

    Args:
        run_id: A run to go on with; where empty, MLFLOW_RUN_ID, else a new one in the experiment `ai-vs-real`.
        name: Of a new run.
    """

    def __init__(self, run_id: str = "", name: str = "train"):
        self.client = connect()
        with _told():
            self.run_id: str = _run(self.client, run_id or os.environ.get("MLFLOW_RUN_ID", ""), name).info.run_id

    def __enter__(self) -> "TrackedRun":
        return self

    def __exit__(self, kind, error, trace) -> None:
        status = "FINISHED" if kind is None else "KILLED" if kind is KeyboardInterrupt else "FAILED"
        with suppress(Exception) if kind else nullcontext():  # never hide the error that ended the run
            self.client.set_terminated(self.run_id, status)

    def log(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> None:
        """Record parameters, tags and the metrics of one step (an epoch) in one request."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        with _told():
            self.client.log_batch(
                self.run_id,
                metrics=[Metric(key, float(value), now, step) for key, value in (metrics or {}).items()],
                params=[Param(key, str(value)) for key, value in (params or {}).items()],
                tags=[RunTag(key, str(value)) for key, value in (tags or {}).items()],
            )

    def log_file(self, path: Path, folder: str = "") -> None:
        """Keep one file with the run."""
        with _told():
            self.client.log_artifact(self.run_id, str(path), folder or None)


def public_uri() -> str:
    """Return `tracking_uri()` without the password that it may hold."""
    return re.sub(r"//[^/@]+@", "//", tracking_uri())


@contextmanager
def _told() -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        cause = str(error).strip().splitlines()[0]
        raise InputError(f"MLflow at {public_uri()} failed: {cause}; check MLFLOW_TRACKING_URI") from error


def _knock(uri: str) -> None:
    # The client alone would try for minutes before it gave up.
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(
            get_default_host_creds(uri),
            "/api/2.0/mlflow/experiments/get-by-name",
            "GET",
            max_retries=0,
            timeout=PATIENCE_S,
            raise_on_status=False,
            params={"experiment_name": EXPERIMENT},
        )
    except Exception as error:
        raise InputError(
            f"no MLflow server answers at {public_uri()} within {PATIENCE_S:.0f} s; start it, or set "
            "MLFLOW_TRACKING_URI to one that runs, or unset it to use the run home"
        ) from error
    if answer.status_code in (401, 403):
        raise InputError(
            f"MLflow at {public_uri()} refuses the credentials (HTTP {answer.status_code}); set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if answer.status_code >= 500:
        raise InputError(
            f"MLflow at {public_uri()} answers with HTTP {answer.status_code}; mend it, or set MLFLOW_TRACKING_URI"
        )


def _find_in_file(path: Path, name: str, alias: str) -> Version | None:
    # The same answer as MLflow's, without the second and a half that importing and opening it takes.
    if not path.exists():
        return None
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
        row = file.execute(
            "SELECT version, run_id, source, creation_time FROM model_versions JOIN registered_model_aliases"
            " USING (workspace, name, version) WHERE name = ? AND alias = ? AND workspace = 'default'",
            (name, alias),
        ).fetchone()
        if row is None:
            return None
        number, run_id, source, created = row
        where = "WHERE name = ? AND version = ? AND workspace = 'default'"
        tags = dict(file.execute(f"SELECT key, value FROM model_version_tags {where}", (name, number)))
        aliases = file.execute(f"SELECT alias FROM registered_model_aliases {where} ORDER BY alias", (name, number))
        if "digest" not in tags:
            return None
        pointed = tuple(alias for (alias,) in aliases)
    return Version(name, str(number), tags["digest"], run_id or "", tags, pointed, source, created / 1000)


def _aliases(client: Any, name: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_registered_model(name).aliases)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def _version(entry: Any, pointed: Mapping[str, str]) -> Version:
    aliases = tuple(sorted(alias for alias, number in pointed.items() if str(number) == str(entry.version)))
    created = entry.creation_timestamp / 1000
    tags = dict(entry.tags)
    return Version(
        entry.name, str(entry.version), tags["digest"], entry.run_id or "", tags, aliases, entry.source, created
    )


def _make_name(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _run(client: Any, run_id: str, name: str) -> Any:
    """Return a run of this server: the one asked for where it is there, else a new one."""
    from mlflow.exceptions import MlflowException

    if run_id:
        try:
            client.update_run(run_id, "RUNNING")
            return client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        local = tracking_uri().startswith("sqlite:")
        place = (home.run_home() / "artifacts").as_uri() if local else None
        experiment = client.get_experiment(client.create_experiment(EXPERIMENT, place))
    return client.create_run(experiment.experiment_id, run_name=name)


def _save_model(detector: Path, card: Mapping[str, Any], path: Path) -> None:
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    with tempfile.TemporaryDirectory() as part, warnings.catch_warnings():
        # What scoring needs travels with the model, so that it loads where this package is not installed.
        code = Path(part) / "components"
        code.mkdir()
        for module in ("__init__.py", "errors.py", "detector.py"):
            shutil.copy(Path(__file__).parent / module, code / module)
        files = Path(part) / "detector"
        shutil.copytree(detector, files)
        warnings.simplefilter("ignore")  # that there is no input example; the signature is written by hand
        pyfunc.save_model(
            path,
            loader_module="components.detector",
            data_path=str(files),
            code_paths=[str(code)],
            signature=ModelSignature(
                Schema([TensorSpec(np.dtype("uint8"), (-1, *card.get("view_shape", (-1, -1, -1, 3))))]),
                Schema([TensorSpec(np.dtype("float32"), (-1,))]),
            ),
            pip_requirements=_requirements(card.get("versions", {})),
        )


def _requirements(versions: Mapping[str, str]) -> list[str]:
    """Return what loading the detector needs, pinned as it was trained; `backend` is a name and its version."""
    pinned = {name: versions[name] for name in ("keras", "numpy") if name in versions}
    if "backend" in versions:
        name, number = versions["backend"].split()
        pinned[name] = number
    return [f"{name}=={number}" for name, number in pinned.items()]


def _sha256(detector: Path) -> str:
    digest = hashlib.sha256()
    for name in ("card.json", "model.keras"):
        digest.update((detector / name).read_bytes())
    return digest.hexdigest()
