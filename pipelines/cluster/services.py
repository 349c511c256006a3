"""What a run needs around it, looked at: FFmpeg, the run home, MLflow, MongoDB, a bucket, Kubeflow Pipelines."""

import contextlib
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from components.errors import InputError
from components.servers import bounded, timeout_s
from pipelines.cluster.finding import Finding, line_of
from pipelines.cluster.kubeflow import Server

DISK_BYTES = 10 * 2**30  # frames and shards of some thousand pictures, checkpoints, registry


def machine() -> Iterator[Finding]:
    """Look at this machine: FFmpeg, the run home, MLflow and MongoDB as they are set."""
    yield _ffmpeg()
    yield _disk()
    yield in_time("MLflow", lambda: mlflow(os.environ.get("MLFLOW_TRACKING_URI", "")))
    yield in_time("MongoDB", lambda: mongodb(os.environ.get("MONGODB_URI", "")))


def settings(given: Mapping[str, Any]) -> Finding:
    """Look whether a run would accept its settings, and whether the weights that training starts from can be had.

    Args:
        given: The settings that differ from their defaults.
    """
    from pipelines.steps.validation import validate

    try:
        values = validate(given)
    except InputError as error:
        return Finding("settings", False, line_of(error))
    return Finding("settings", True, f"accepted; {values['backbone']} from weights {values['weights']}")


def in_time(what: str, look: Callable[[], Finding]) -> Finding:
    """Return a finding about a server, or the one that it did not answer in time.

    Args:
        what: The server's kind.
        look: Asks it.
    """
    try:
        return bounded(look, seconds=timeout_s())
    except TimeoutError as error:
        return Finding(what, False, str(error), "a server that answers", "look at its address, and whether it runs")


def _ffmpeg() -> Finding:
    from components.media.ffmpeg import ffmpeg_executable

    try:
        printed = subprocess.run(
            [ffmpeg_executable(), "-version"], capture_output=True, text=True, check=True, timeout=20
        ).stdout
    except (InputError, OSError, subprocess.SubprocessError) as error:
        return Finding("FFmpeg", False, line_of(error), "any of the last years", "install ffmpeg, or imageio-ffmpeg")
    return Finding("FFmpeg", True, " ".join(printed.split()[:3]))


def _disk() -> Finding:
    from components.home import run_home

    try:
        home = run_home()
    except InputError as error:
        return Finding("run home", False, line_of(error), "a directory that can be written", "set AI_VS_REAL_HOME")
    free = shutil.disk_usage(home).free
    needed = f"{DISK_BYTES / 2**30:.0f} GiB"
    return Finding(
        "run home",
        free >= DISK_BYTES,
        f"{home}, {free / 2**30:.0f} GiB free",
        needed,
        "make room, or set AI_VS_REAL_HOME",
    )


def mlflow(uri: str) -> Finding:
    """Look whether MLflow answers and lets us write."""
    import requests

    if not uri.startswith("http"):
        return Finding("MLflow", True, f"{uri or 'none is set'}: runs and registry are kept in a file")
    session = requests.Session()
    session.auth = (os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    fix = "look at MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    base = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments"
    try:
        answer = session.post(f"{base}/search", json={"max_results": 1}, timeout=timeout_s())
        answer.raise_for_status()
        experiment = answer.json()["experiments"][0]["experiment_id"]
        tag = {"experiment_id": experiment, "key": "ai-vs-real.doctor", "value": "wrote"}
        session.post(f"{base}/set-experiment-tag", json=tag, timeout=timeout_s()).raise_for_status()
    except (requests.RequestException, LookupError, TypeError, ValueError) as error:
        return Finding("MLflow", False, f"{uri}: {line_of(error)}", "a server that lets us write", fix)
    return Finding("MLflow", True, f"{uri} answers and can be written")


def mongodb(uri: str) -> Finding:
    """Look whether MongoDB answers and lets us write."""
    if not uri:
        return Finding("MongoDB", True, "none is set: records are kept in a file")
    import pymongo

    shown = re.sub(r"//[^@/]*@", "//", uri)
    bounded: dict[str, Any] = {} if "serverSelectionTimeoutMS" in uri else {"serverSelectionTimeoutMS": 5000}
    try:
        with pymongo.MongoClient(uri, **bounded) as client:
            probe = client.get_default_database("ai_vs_real")["doctor"]
            made = probe.insert_one({"wrote": True}).inserted_id
            probe.delete_one({"_id": made})
    except pymongo.errors.PyMongoError as error:
        text = line_of(error).split(", Timeout:")[0].replace(uri, shown)
        return Finding("MongoDB", False, f"{shown}: {text}", "a database that lets us write", "look at MONGODB_URI")
    return Finding("MongoDB", True, f"{shown} answers and can be written")


def bucket(uri: str) -> Finding:
    """Look whether a gs:// bucket is there and lets us write and delete."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import storage

    name, _, prefix = uri.removeprefix("gs://").partition("/")
    fix = (
        "look at the name, and give roles/storage.objectAdmin to the account; see gcloud auth application-default login"
    )
    try:
        blob = (
            storage.Client()
            .bucket(name)
            .blob("/".join(filter(None, (prefix, f"ai-vs-real-doctor-{uuid.uuid4().hex}"))))
        )
        blob.upload_from_string(b"wrote", timeout=timeout_s(), retry=None)
        blob.delete(timeout=timeout_s(), retry=None)
    except (GoogleAPIError, GoogleAuthError, OSError) as error:
        return Finding("bucket", False, f"{uri}: {line_of(error)}", "a bucket that lets us write", fix)
    return Finding("bucket", True, f"{uri} can be written")


def kubeflow(server: Server) -> Finding:
    """Look whether Kubeflow Pipelines answers and lets us in, and which version it is."""
    import requests

    try:
        server.connect()
    except InputError as error:
        return Finding("Kubeflow Pipelines", False, str(error), "a server of 2.x with its v2beta1 API", "")
    version = "version unknown"
    with contextlib.suppress(requests.RequestException, ValueError, KeyError):  # only its oldest API says
        headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
        answer = requests.get(f"{server.host}/apis/v1beta1/healthz", headers=headers, timeout=timeout_s())
        version = f"version {answer.json()['tag_name']}"
    return Finding("Kubeflow Pipelines", True, f"{server.place or 'this cluster'} answers, {version}")
