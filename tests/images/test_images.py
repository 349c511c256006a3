"""The images as they are built: what is in them, and that the compiled pipeline runs in them as it does outside."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from prediction.conftest import asked_media, brightness_detector  # noqa: F401 (fixtures)
from prediction.test_parity import fixtures  # noqa: F401

from components.containers import VERSION, reference
from components.prediction.examiner import Examiner
from pipelines.steps.compiling import TRAINING

LIMITS_MB = {"media": 600, "registration": 700, "training": 2200, "serving": 700}
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


@pytest.fixture
def serving(brightness_detector):  # noqa: F811
    """The address of the serving image's own command: not root, its root file system read-only, the detector too."""
    for path in (brightness_detector, *brightness_detector.iterdir()):
        path.chmod(0o755)
    own = [
        "--user",
        "12345:12345",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--cap-drop",
        "ALL",
        "--publish",
        "127.0.0.1::8080",
    ]
    mount = ["--volume", f"{brightness_detector}:/detector:ro"]
    command = ["ai-vs-real", "serve", "--host", "0.0.0.0", "--model", "/detector"]
    container = docker("run", "--detach", *own, *mount, reference("serving"), *command).strip()
    try:
        address = "http://" + docker("port", container, "8080").split()[0]
        for _ in range(600):
            try:
                if httpx.get(f"{address}/health/ready").status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        yield address
        docker("stop", "--time", "40", container)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() == "0"
    finally:
        docker("rm", "--force", container)


def test_the_service_answers_about_a_picture_and_a_video(serving, brightness_detector, asked_media):  # noqa: F811
    with Examiner(brightness_detector) as examiner:
        for name, kind in (("bright.png", "picture"), ("clip.mp4", "clip")):
            files = {"file": (name, (asked_media / name).read_bytes())}
            answer = httpx.post(f"{serving}/api/verdicts", files=files, data={"explain": "true"}, timeout=120)
            assert answer.status_code == 200, answer.text
            said, outside = answer.json(), examiner.examine(asked_media / name)
            assert (said["kind"], said["verdict"]) == (kind, outside.verdict)
            assert said["probability"] == pytest.approx(outside.probability, abs=1e-6)
            assert said["heat_map"].startswith("data:image/png")
    assert "<!doctype html>" in httpx.get(serving).text
    broken = httpx.post(f"{serving}/api/verdicts", files={"file": ("broken.jpg", b"no picture")}, timeout=60)
    assert broken.status_code == 422


VIEWS = """
import hashlib, pathlib, sys
from components.media.videos import Sampling
from components.media.view import Delivery, ViewPolicy
from components.prediction.examiner import read_rows
policies = ViewPolicy.parse("both64x3"), Sampling.parse("even:3"), Delivery.parse("as-is")
for path in sorted(path for path in pathlib.Path(sys.argv[1]).rglob("*") if path.is_file()):
    rows = [views.tobytes() for views, _ in read_rows(path, *policies, ("clean", "jpeg:75"), True)]
    print(path.name, len(rows), hashlib.sha256(b"".join(rows)).hexdigest())
"""


@pytest.mark.parametrize("name", ["serving", "media"])
def test_the_pixels_in_an_image_are_those_outside(name, fixtures):  # noqa: F811
    """Bit for bit, for a file of every kind, as it is and as it is delivered."""
    for path in (fixtures, *fixtures.rglob("*")):
        path.chmod(0o755)
    own = ["--user", "12345:12345", "--read-only", "--tmpfs", "/tmp", "--network", "none"]
    mount = ["--volume", f"{fixtures}:/fixtures:ro"]
    inside_ = docker("run", "--rm", *own, *mount, reference(name), "python3", "-c", VIEWS, "/fixtures")
    outside = subprocess.run([sys.executable, "-c", VIEWS, str(fixtures)], capture_output=True, text=True, check=True)
    assert len(inside_.splitlines()) == 11
    assert inside_.splitlines() == outside.stdout.splitlines()


@pytest.mark.timeout(1200)  # two whole runs
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
