"""The registered model in environments of its own, as its users load and serve it."""

import base64
import io
import json
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import requests
from brightness import write_detector
from PIL import Image
from servers import _server

from components import registry, runtime, shipping

pytestmark = pytest.mark.servers
NAME = "detector"
SIZE = 48


def png(level):
    data = io.BytesIO()
    Image.fromarray(np.full((60, 80, 3), level, np.uint8)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a function that writes an exported detector that sees brightness alone, by its centre."""

    def write(centre):
        import keras

        card = {"view": f"resize{SIZE}", "sampling": "even:4", "abstention": {"low": 0.2, "high": 0.8}}
        place = tmp_path_factory.mktemp("models") / "detector"
        write_detector(place, centre=centre, size=SIZE, card=card)
        views = np.random.default_rng(0).integers(0, 256, (1, 1, SIZE, SIZE, 3), dtype=np.uint8)
        runtime.export(place, keras.saving.load_model(place / "model.keras"), [(views, "picture")])
        return place

    return write


@pytest.fixture
def versions(registry_home, exported, tmp_path, monkeypatch):
    """Two versions, the second with code that names what it cannot read in other words."""
    first = registry.add_version(NAME, exported(130.0))
    changed = tmp_path / "changed" / "components"
    shutil.copytree(shipping.ROOT, changed, ignore=shutil.ignore_patterns("__pycache__"))
    code = changed / "prediction" / "registered.py"
    code.write_text(code.read_text().replace("neither a file that exists nor base64", "of the second's own code"))
    monkeypatch.setattr(shipping, "ROOT", changed)
    return first, registry.add_version(NAME, exported(160.0))


@pytest.fixture(scope="module")
def python(environment):
    """An environment with what the model asks for, where this package is not installed."""
    return environment("mlflow==3.17.2", *registry._requirements())


def test_two_versions_answer_side_by_side_where_components_is_another_package(versions, python, tmp_path):
    (tmp_path / "own" / "components").mkdir(parents=True)
    (tmp_path / "own" / "components" / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "bright.png").write_bytes(png(200))
    media = [base64.b64encode(png(60)).decode(), str(tmp_path / "bright.png"), "nothing"]
    code = (
        "import base64, json, sys, components, mlflow.pyfunc, pandas\n"
        "media = json.loads(sys.argv[1])\n"
        "models = [mlflow.pyfunc.load_model(place) for place in sys.argv[2:]]\n"
        "frame = pandas.DataFrame({'media': [base64.b64decode(media[0]), *media[1:]]})\n"
        "answers = [model.predict(given).to_dict('records') for model in models for given in (media, frame)]\n"
        "assert components.MINE and len({type(model._model_impl).__module__ for model in models}) == 2\n"
        "print('ANSWERS' + json.dumps(answers))"
    )
    loaded = subprocess.run(
        [python, "-c", code, json.dumps(media), *(version.source for version in versions)],
        capture_output=True,
        text=True,
        cwd=tmp_path / "own",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path / "own"), "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    assert loaded.returncode == 0, loaded.stderr
    of_list, of_frame, second, _ = json.loads(loaded.stdout.partition("ANSWERS")[2])
    assert of_list == of_frame
    assert [answer["verdict"] for answer in of_list] == ["real", "fake", None]
    assert second[1]["probability"] < of_list[1]["probability"]
    assert "neither a file" in of_list[2]["error"]
    assert "of the second's own code" in second[2]["error"]


def test_mlflow_serves_the_model_and_its_input_example(versions, python, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = versions[0].source.removeprefix("file://")
    command = [python, "-m", "mlflow", "models", "serve", "-m", place, "-p", str(port), "--env-manager", "local"]
    example = json.loads(Path(place, "serving_input_example.json").read_text())
    with _server(command, port, tmp_path) as server:
        for asked in (example, {"dataframe_records": [{"media": base64.b64encode(png(200)).decode()}]}):
            answer = requests.post(f"{server.uri}/invocations", json=asked, timeout=60)
            assert answer.status_code == 200, answer.text
            (verdict,) = answer.json()["predictions"]
    assert verdict["verdict"] == "fake"
    assert verdict["probability"] > 0.9
