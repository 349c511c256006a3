"""MLflow in environments of its own: as a server of each supported generation, and where a model is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from servers import running_mlflow

UV = Path(sys.executable).parent / "uv"


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Return a function from requirements to the Python of an environment that has them and nothing else."""
    made = {}

    def make(*requirements):
        if requirements not in made:
            place = tmp_path_factory.mktemp("environment")
            subprocess.run([UV, "venv", "-q", "--python", sys.executable, place], check=True)
            python = place / "bin" / "python"
            subprocess.run([UV, "pip", "install", "-q", "--python", python, *requirements], check=True)
            made[requirements] = python
        return made[requirements]

    return make


@pytest.fixture(scope="session")
def mlflow_2(environment, tmp_path_factory):
    """The URI of a running MLflow server of the 2.22 generation."""
    with running_mlflow(environment("mlflow==2.22.*", "sqlalchemy<2.1"), tmp_path_factory.mktemp("mlflow")) as server:
        yield server.uri
