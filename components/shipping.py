"""Contract: the code that travels inside a registered model, as a package whose name collides with nothing.

MLflow puts a model's code on the module path, and Python keeps one module of each name: two versions that both brought
a package `components` would run the code of whichever was loaded first, and so would an environment that has a package
of this name itself. So what is shipped is named after its own content.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from components.containers import VERSION

ROOT = Path(__file__).resolve().parent
OURS = ROOT.name
STAY = ("records", "registry", "shipping", "tracking")  # what talks to servers answers about no file
_VERSION = 'metadata.version("ai-vs-real")'  # which cannot be asked for where the package is not installed
_IMPORT = re.compile(rf"^(\s*from ){OURS}(?=[.\s])", re.MULTILINE)


def ship(entry: str, directory: Path) -> str:
    """Write a module with every module of ours that it imports, at its top or later, as a package of its own name.

    Args:
        entry: The module, such as `components.prediction.registered`.
        directory: Where the package's directory is made.

    Returns:
        The module's name in there, such as `ai_vs_real_0123456789ab.prediction.registered`.

    Raises:
        ValueError: A module imports one of ours in a way that cannot be renamed.
    """
    sources = {}
    todo = [entry]
    while todo:
        module = todo.pop()
        path = _file(module)
        if path is None or path in sources:
            continue
        sources[path] = path.read_text(encoding="utf-8").replace(_VERSION, repr(VERSION))
        todo += [module.rpartition(".")[0], *_imported(path, sources[path])]
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(f"{path.relative_to(ROOT)}\0{sources[path]}\0".encode())
    name = f"ai_vs_real_{digest.hexdigest()[:12]}"
    for path, source in sources.items():
        target = directory / name / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_IMPORT.sub(rf"\g<1>{name}", source), encoding="utf-8")
    return entry.replace(OURS, name, 1)


def _imported(path: Path, source: str) -> Iterator[str]:
    """Yield the modules of ours that a source may import; names that are no modules among them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == OURS for alias in node.names):
            raise ValueError(f"{path}:{node.lineno} says import {OURS}; write from {OURS} import")
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == OURS:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file(module: str) -> Path | None:
    if not module or module.split(".")[:2] in [[OURS, name] for name in STAY]:
        return None
    path = ROOT.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
