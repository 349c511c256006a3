"""The arrows between the rooms, and the shape of a Kubeflow face."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("extraction", "preprocessing", "training", "evaluation", "registration", "prediction", "serving", "versions")
MAY_IMPORT = {"serving": ("prediction",)}  # the service is the prediction behind HTTP
PYTHON = sorted([*ROOT.glob("components/**/*.py"), *ROOT.glob("pipelines/**/*.py")])
FACES = [path for path in PYTHON if path.name == "component.py"]


def imports(tree: ast.AST) -> set[str]:
    """Every module that a piece of code imports, `from a import b` counted as a and as a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def forbidden(path: Path) -> set[str]:
    """What a file imports against the direction: pipelines -> faces -> logic -> contracts."""
    room = path.relative_to(ROOT).parts[1] if path.is_relative_to(ROOT / "components") else None
    found = imports(ast.parse(path.read_text()))
    if room is None:
        return set()
    wrong = {name for name in found if name.split(".")[0] in ("pipelines", "tests")}
    if path.name != "component.py":
        wrong |= {name for name in found if name.split(".")[0] == "kfp"}
        wrong |= {name for name in found if name.startswith("components.") and name.split(".")[-1] == "component"}
    others = [other for other in ROOMS if other != room and other not in MAY_IMPORT.get(room, ())]
    return wrong | {name for name in found if any(f"{name}.".startswith(f"components.{other}.") for other in others)}


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_direction(path):
    assert not forbidden(path)


@pytest.mark.parametrize(
    "path", [p for p in PYTHON if p.is_relative_to(ROOT / "pipelines")], ids=lambda path: path.name
)
def test_only_resources_imports_kfp_kubernetes(path):
    found = imports(ast.parse(path.read_text()))
    assert path.name == "resources.py" or not {"kfp.kubernetes"} & found


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.parent.name)
def test_a_face_is_short_and_imports_lazily(path):
    tree = ast.parse(path.read_text())
    top = imports(ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], []))
    assert {name.split(".")[0] for name in top} <= {"kfp", "components", "typing"}
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        body = function.body[1:]
        assert ast.get_docstring(function)
        assert body[-1].end_lineno - body[0].lineno + 1 <= 15, f"{function.name} has a body over 15 lines"
        lazy = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {n.module for n in lazy if isinstance(n, ast.ImportFrom) and n.module.startswith("components")}
        assert len(modules) == 1, f"{function.name} imports {sorted(modules)}, not one module of logic"


@pytest.mark.parametrize("path", [p for p in PYTHON if p.name == "__init__.py"], ids=lambda path: path.parent.name)
def test_a_package_holds_only_its_docstring(path):
    tree = ast.parse(path.read_text())
    assert len(tree.body) == 1
    assert ast.get_docstring(tree)


def test_the_check_itself_sees_a_wrong_arrow(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    wrong = tmp_path / "components" / "training" / "train.py"
    wrong.parent.mkdir(parents=True)
    wrong.write_text("def f():\n    from components.evaluation import metrics\n    import kfp\n")
    assert forbidden(wrong) == {"components.evaluation", "components.evaluation.metrics", "kfp"}
