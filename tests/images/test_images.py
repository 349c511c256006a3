"""The images as they are built: what is in them, and that the compiled pipeline runs in them as it does outside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.containers import VERSION, reference
from pipelines.steps.compiling import TRAINING

# All that read media hold PyAV with FFmpeg's libraries; training and serving hold OpenVINO too.
LIMITS_MB = {"media": 750, "registration": 700, "training": 2500, "serving": 1050}
pytestmark = pytest.mark.skipif(
    not os.environ.get("AI_VS_REAL_IMAGES"), reason="takes minutes and built images: make images test-images"
)


def docker(*arguments):
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def inside(name, *command):
    """Run a command in an image as somebody else, on a read-only root file system, without a network."""
    own = ["--user", "12345:12345", "--read-only", "--tmpfs", "/tmp", "--network", "none"]
    return docker("run", "--rm", *own, reference(name), *command)


@pytest.mark.parametrize("name", LIMITS_MB)
def test_size_user_and_labels(name):
    [image] = json.loads(docker("image", "inspect", reference(name)))
    assert image["Size"] <= LIMITS_MB[name] * 10**6, f"{image['Size'] / 10**6:.0f} MB"
    assert image["Config"]["User"] == "10001:10001"
    labels = image["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert len(labels["org.opencontainers.image.revision"]) == 40


@pytest.mark.parametrize("name", LIMITS_MB)
def test_nothing_is_left_of_the_building(name):
    search = "command -v gcc cc make git || true; ls -A /root/.cache /build 2>/dev/null || true"
    assert inside(name, "sh", "-c", search).strip() == ""
    code = "import components.dataset as d, kfp, os; print(all(os.path.exists(m.__cached__) for m in (d, kfp)))"
    assert inside(name, "env", "_KFP_RUNTIME=true", "python3", "-c", code).strip() == "True"  # as a step imports kfp


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("media", ["components.extraction.extract", "components.preprocessing.preprocess", "google.cloud.storage"]),
        ("training", ["tensorflow", "mlflow", "pipelines.commands.main", "components.prediction.verdict"]),
        ("serving", ["openvino", "components.serving.start", "components.prediction.scoring", "google.cloud.storage"]),
        ("registration", ["mlflow.pyfunc", "components.registration.register", "google.cloud.storage"]),
    ],
)
def test_every_step_finds_what_it_loads(name, modules):
    assert inside(name, "python3", "-c", f"import {', '.join(modules)}; print('here')").strip() == "here"


def test_the_pipeline_runs_in_the_images_as_it_does_outside(tiny_media, tmp_path):
    """The same YAML, the same media: the same dataset and the same decision."""
    quick = ["--view", "resize32", "--recipe", "plain", "--backbone", "mobilenetv2", "--weights", "none"]
    quick += ["--epochs", "1", "--fine-tune-epochs", "0"]
    before, results = TRAINING.read_bytes(), []
    for place, more in (("outside", []), ("inside", ["--in-containers"])):
        command = [sys.executable, "-m", "pipelines.commands.main", "run", str(tiny_media), "--json", *quick, *more]
        environment = {**os.environ, "AI_VS_REAL_HOME": str(tmp_path / place)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        results.append(json.loads(done.stdout))
    assert TRAINING.read_bytes() == before
    outside, inside_ = results
    assert outside["decision"] == inside_["decision"]
    assert outside["counts"] == inside_["counts"]
    digests = [json.loads((Path(result["dataset"]) / "dataset.json").read_text())["digest"] for result in results]
    assert digests[0] == digests[1]
