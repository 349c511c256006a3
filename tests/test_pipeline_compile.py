"""The compiled YAML: fresh, byte-stable, and complete."""

import subprocess
import sys

import pytest
import yaml

from pipelines.steps.compiling import COMPILED, compile_pipelines


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    directory = tmp_path_factory.mktemp("compiled")
    compile_pipelines(directory)
    return directory


def test_the_committed_yaml_is_fresh(compiled):
    assert {path.name for path in compiled.glob("*.yaml")} == {path.name for path in COMPILED.glob("*.yaml")}
    for path in compiled.glob("*.yaml"):
        assert path.read_bytes() == (COMPILED / path.name).read_bytes(), f"{path.name} is stale: run make compile"


def test_another_process_and_hash_seed_compile_the_same_bytes(compiled, tmp_path):
    command = [sys.executable, "-m", "pipelines.commands.main", "compile", "--output", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, env={"PYTHONHASHSEED": "7", "PATH": "/usr/bin:/bin"})
    for path in compiled.glob("*.yaml"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_every_step_runs_one_of_our_images_and_installs_nothing(compiled):
    spec = next(yaml.safe_load_all((compiled / "training.yaml").read_text()))
    executors = spec["deploymentSpec"]["executors"]
    assert len(executors) == 7
    for executor in executors.values():
        assert executor["container"]["image"].startswith("ai-vs-real-")
        assert "pip install" not in " ".join(executor["container"]["command"])
