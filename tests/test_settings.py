"""Every setting is stated once, and everything that takes it agrees; what a step would refuse is refused before."""

import ast
import inspect
import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import pytest
import yaml

from components.errors import InputError
from components.settings import DEFAULTS, PLAIN_VIEW, SETTINGS, names_of
from pipelines.commands.main import parse
from pipelines.commands.options import stage_arguments
from pipelines.steps.compiling import TRAINING
from pipelines.steps.validation import validate

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted([*ROOT.glob("components/**/*.py"), *ROOT.glob("pipelines/**/*.py")])
FACES = {
    "extraction": ("extract_frames", "extract"),
    "preprocessing": ("preprocess", "preprocess"),
    "training": ("train", "train"),
    "evaluation": ("evaluate", "evaluate"),
    "registration": ("register", "register"),
}


def defaults_in(tree: ast.AST) -> list[tuple[str, ast.expr]]:
    """Every parameter, dataclass field and console option of a file that has a default, by its name."""
    stated: list[tuple[str, ast.expr]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            positional = [*node.args.posonlyargs, *node.args.args]
            paired = [*zip(positional[::-1], node.args.defaults[::-1], strict=False)]
            paired += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            stated += [(argument.arg, default) for argument, default in paired if default is not None]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            stated.append((node.target.id, node.value))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument" and node.args:
            flag = getattr(node.args[0], "value", "")
            stated += [(str(flag)[2:].replace("-", "_"), word.value) for word in node.keywords if word.arg == "default"]
    return stated


def restated(path: Path) -> list[str]:
    """The defaults of a file that repeat the default of a setting in place of naming it."""
    wrong = []
    for name, default in defaults_in(ast.parse(path.read_text())):
        repeated = isinstance(default, ast.Constant) and DEFAULTS.get(name) not in (None, "", 0, False)
        if repeated and default.value == DEFAULTS[name]:
            wrong.append(f"{name}={ast.unparse(default)}")
    return wrong


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_default_of_a_setting_is_stated_in_settings_alone(path):
    assert not restated(path)


def test_the_check_itself_sees_a_restated_default(tmp_path):
    (tmp_path / "wrong.py").write_text(
        f"def f(epochs=10, *, view={DEFAULTS['view']!r}, size=32): pass\n"
        "class A:\n    recipe: str = 'deep'\n"
        "command.add_argument('--model-name', default='ai-vs-real')\n"
    )
    wrong = {"epochs=10", f"view={DEFAULTS['view']!r}", "model_name='ai-vs-real'", "recipe='deep'"}
    assert set(restated(tmp_path / "wrong.py")) == wrong


def test_the_compiled_pipeline_has_every_setting_with_its_default_and_meaning():
    specification = next(yaml.safe_load_all(TRAINING.read_text()))
    parameters = dict(specification["root"]["inputDefinitions"]["parameters"])
    assert "description" in parameters.pop("media")
    kinds = {bool: "BOOLEAN", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", str: "STRING"}
    assert parameters == {
        setting.name: {
            "defaultValue": setting.default,
            "description": setting.help,
            "isOptional": True,
            "parameterType": kinds[type(setting.default)],
        }
        for setting in SETTINGS.values()
    }


@pytest.mark.parametrize("room", FACES)
def test_a_face_takes_the_settings_of_its_stage_and_says_of_each_what_settings_says(room):
    name, stage = FACES[room]
    tree = ast.parse((ROOT / "components" / room / "component.py").read_text())
    [face] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    taken = {argument.arg for argument in face.args.args} & set(SETTINGS)
    assert taken == set(names_of(stage))
    assert not face.args.defaults
    text = ast.get_docstring(face).partition("Args:\n")[2].partition("\n\n")[0]
    said = dict(re.findall(r"^(\w+): (.*(?:\n    .*)*)", textwrap.dedent(text), re.M))
    for setting in taken:
        assert " ".join(said[setting].split()) == SETTINGS[setting].help


def test_the_choices_are_those_of_the_stage_that_reads_them():
    from components.training.backbones import BACKBONES
    from components.training.recipes import RECIPES

    assert SETTINGS["backbone"].choices == tuple(BACKBONES)
    assert set(SETTINGS["recipe"].choices) == set(RECIPES)


def test_the_jobs_train_what_run_trains():
    """The command lines of the jobs prepare and train, with their parameters, give each stage the defaults."""
    seen = set()
    for job in ("prepare", "train"):
        folder = ROOT / "manifests" / "jobs" / job
        parameters = yaml.safe_load((folder / "parameters.yaml").read_text())["data"]
        script = yaml.safe_load((folder / "job.yaml").read_text())["spec"]["template"]["spec"]["containers"][0]["args"]
        for line in " ".join(script).replace("\\\n", " ").splitlines():
            if "ai-vs-real" not in line:
                continue
            line = line.partition("ai-vs-real")[2]
            for name, value in parameters.items():
                line = line.replace(f'"${name}"', shlex.quote(value))
            words = shlex.split(line.replace("$OUTPUT", parameters.get("OUTPUT", "")))
            given = {word[2:].replace("-", "_") for word in words if word.startswith("--")} & set(SETTINGS)
            options = parse(words)
            assert {name: getattr(options, name) for name in given} == {name: DEFAULTS[name] for name in given}
            seen |= given
    assert {setting.name for setting in SETTINGS.values() if setting.brief} - {"cross_source"} <= seen


def test_a_stage_alone_has_the_defaults_of_the_pipeline():
    assert stage_arguments(parse(["extract", "media"]), "extract") == {n: DEFAULTS[n] for n in names_of("extract")}
    options = parse(["train", "data", "--recipe", "plain", "--weights", "none"])
    expected = {name: DEFAULTS[name] for name in names_of("extract")} | {"view": PLAIN_VIEW}
    assert stage_arguments(options, "extract") == expected


def test_the_pipeline_has_the_order_and_the_types_of_settings():
    from pipelines.steps.training import training

    parameters = list(inspect.signature(training.function).parameters.values())[1:]
    assert [parameter.name for parameter in parameters] == list(SETTINGS)
    assert [parameter.annotation for parameter in parameters] == [type(default) for default in DEFAULTS.values()]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampling", "odd:3"),
        ("view", "resize9"),
        ("delivery", "by-mail"),
        ("tiers", "hard"),
        ("hold_out", "newest"),
        ("audit", "maybe"),
        ("balance", "evenly"),
        ("backbone", "alexnet"),
        ("recipe", "best"),
        ("epochs", 0),
        ("epochs", "10"),
        ("batch_size", True),
        ("learning_rate", float("nan")),
        ("test_degradations", "fog:3"),
        ("training_degradations", 1.5),
        ("precision", "float8"),
        ("families", "a+b"),
        ("gate", "roc_auc>0.7"),
        ("model_name", "a/b"),
        ("fine_tune", 3),
    ],
)
def test_what_a_step_would_refuse_is_refused_before_the_first(name, value):
    with pytest.raises(InputError, match=name if name not in ("test_degradations",) else "fog") as caught:
        validate({"weights": "none", name: value})
    assert "\n" not in str(caught.value)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match="consistency"):
        validate({"weights": "none", "consistency": 1.0})


def test_an_autoencoder_that_cannot_be_had_is_refused_by_each_stage_that_reads_it(tmp_path):
    missing = {"last_component": str(tmp_path / "missing.npz")}
    for names in (names_of("train"), names_of("evaluate")):
        given = {"weights": "none"} if "weights" in names else {}
        with pytest.raises(InputError, match="last_component"):
            validate(given | missing, names)
    assert validate(missing, names_of("evaluate"), weights=False)["last_component"] == missing["last_component"]


def test_weights_that_cannot_be_had_are_refused_before_the_first_step(tmp_path, monkeypatch):
    from components.training import backbones

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setitem(
        backbones.BACKBONES,
        "resnet50",
        backbones.Backbone("ResNet50", "caffe", "http://127.0.0.1:9/resnet50.h5", "4d47", 5),
    )
    with pytest.raises(InputError, match=r"fetch http://127.0.0.1:9/resnet50.h5 \(md5 4d47\) .* --weights FILE"):
        validate({"backbone": "resnet50"})
    with pytest.raises(InputError, match="is not a file"):
        validate({"backbone": "resnet50", "weights": str(tmp_path / "absent.h5")})
    (tmp_path / "words.h5").write_text("no weights")
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        validate({"backbone": "resnet50", "weights": str(tmp_path / "words.h5")})
    with h5py.File(tmp_path / "other.weights.h5", "w") as file:
        file["layers/a/vars/0"] = [1.0, 2.0]
    with pytest.raises(InputError, match="holds 2 parameters, the backbone has 5"):
        validate({"backbone": "resnet50", "weights": str(tmp_path / "other.weights.h5")})
    with h5py.File(tmp_path / "right.weights.h5", "w") as file:
        file["layers/a/vars/0"] = [1.0, 2.0, 3.0, 4.0, 5.0]
    validate({"backbone": "resnet50", "weights": str(tmp_path / "right.weights.h5")})
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "resnet50.h5").write_text("as Keras left it")
    validate({"backbone": "resnet50"})


def test_validation_needs_no_tensorflow():
    code = (
        "import json, sys\nfrom pipelines.steps.validation import validate\n"
        "validate({'weights': 'none'})\nprint(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"tensorflow", "keras", "mlflow", "kfp"} & set(json.loads(done.stdout))
