"""The DAG in a real Airflow, which lives in an environment of its own: `make airflow`."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
AIRFLOW = Path(os.environ.get("AIRFLOW", ROOT / ".venv-airflow" / "bin" / "airflow"))
pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not AIRFLOW.is_file(), reason=f"needs Airflow at {AIRFLOW}: make airflow"),
]


@pytest.fixture
def airflow(airflow_with):
    """A function that runs the DAG and returns exit code, states and output."""
    return airflow_with()


@pytest.fixture(scope="module")
def airflow_with(tmp_path_factory):
    """An Airflow with our DAG alone; returns a function of more environment that returns what `airflow` is."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    shutil.copy(ROOT / "pipelines" / "airflow_dag.py", home / "dags" / "airflow_dag.py")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AI_VS_REAL": str(Path(sys.executable).parent / "ai-vs-real"),
        "AI_VS_REAL_INTERVAL_S": "0.5",
        "AI_VS_REAL_RETRY_S": "0",
        "AI_VS_REAL_HOME": str(home / "runs"),
        "PATH": f"{AIRFLOW.parent}:{os.environ['PATH']}",
    }
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_TOKEN", "MLFLOW_TRACKING_URI", "MONGODB_URI"):
        environment.pop(name, None)

    def call(*arguments, **more):
        whole = environment | more
        return subprocess.run([str(AIRFLOW), *arguments], env=whole, capture_output=True, text=True, check=False)

    migrated = call("db", "migrate")
    assert migrated.returncode == 0, migrated.stderr

    def test(more, when, **params):
        done = call("dags", "test", "ai_vs_real_training", when, "--conf", json.dumps(params), **more)
        with sqlite3.connect(home / "airflow.db") as database:
            run = "select state from dag_run where logical_date like ?"
            tasks = "select t.task_id, t.state from task_instance t join dag_run r using (dag_id, run_id)"
            tasks += " where r.logical_date like ?"
            [(state,)] = database.execute(run, (f"{when}%",)).fetchall()
            states = dict(database.execute(tasks, (f"{when}%",)).fetchall())
        return done.returncode, state, states, done.stdout + done.stderr

    return lambda **more: partial(test, more)


def test_on_kubeflow_the_dag_defers_until_the_run_has_succeeded(airflow, kubeflow):
    kubeflow.script = [("RUNNING", {"train": "RUNNING"})] * 2 + [("SUCCEEDED", {"train": "SUCCEEDED"})]
    options = ["--no-weights-check", "--epochs", 3]
    params = {"where": "kubeflow", "host": kubeflow.url, "media": "gs://bucket/media", "options": options}
    code, state, states, output = airflow("2026-01-01", **params)
    assert (code, state) == (0, "success"), output[-3000:]
    assert (states["run_on_kubeflow"], states["preprocess"]) == ("success", "skipped")
    [run] = kubeflow.runs.values()
    assert run.runtime_config.parameters == {"media": "gs://bucket/media", "epochs": 3}
    assert kubeflow.looks[run.run_id] == 3


def test_a_run_that_fails_on_kubeflow_fails_the_dag(airflow, kubeflow):
    kubeflow.script = [("FAILED", {"train": "FAILED"})]
    options = ["--no-weights-check"]
    params = {"where": "kubeflow", "host": kubeflow.url, "media": "gs://bucket/media", "options": options}
    code, state, states, output = airflow("2026-01-02", **params)
    assert (code, state, states["run_on_kubeflow"]) == (1, "failed", "failed")
    assert "the run ended failed: train failed" in output


LOGGED = """#!/usr/bin/env python3
import os, pathlib, sys
calls = pathlib.Path(os.environ["CALLS"])
before = calls.read_text().splitlines() if calls.exists() else []
with calls.open("a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "train" and not any(line.startswith("train ") for line in before):
    sys.exit("the worker was evicted")
print("done")
"""


def test_a_training_that_failed_is_tried_again_without_preprocessing_again(airflow_with, tmp_path):
    command, calls = tmp_path / "ai-vs-real", tmp_path / "calls"
    command.write_text(LOGGED)
    command.chmod(0o755)
    airflow = airflow_with(AI_VS_REAL=str(command), CALLS=str(calls))
    stages = {"train": ["--epochs", 1], "extract": ["--view", "resize32"]}
    code, state, states, output = airflow("2026-01-03", where="worker", media="/media", stages=stages)
    assert (code, state) == (0, "success"), output[-3000:]
    assert states["run_on_kubeflow"] == "skipped"
    lines = calls.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["extract", "preprocess", "train", "train", "evaluate", "register"]
    assert lines[0].endswith("--view resize32")
    assert lines[2] == lines[3]
    assert lines[2].endswith("--epochs 1")


def test_a_run_that_fails_on_the_worker_fails_the_dag(airflow_with):
    airflow = airflow_with()
    code, state, states, output = airflow("2026-01-04", where="worker", media="/nowhere/at/all")
    assert (code, state, states["preprocess"], states["train"]) == (1, "failed", "failed", "upstream_failed")
    assert "/nowhere/at/all" in output
