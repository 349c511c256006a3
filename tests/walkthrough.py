"""Runs pipelines/walkthrough.ipynb from a clean kernel: `python tests/walkthrough.py` keeps its small outputs."""

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).resolve().parents[1] / "pipelines" / "walkthrough.ipynb"
KEPT = ("text/plain", "text/html", "image/jpeg", "image/png")
PLACE = re.compile(r"(?<![\w.])(?:/[\w.@+-]+){2,}")


def run(home: Path) -> nbformat.NotebookNode:
    """Run the notebook in a process of its own, which works and writes below a directory.

    Args:
        home: The run home; made if need be.

    Returns:
        The notebook with its outputs, cleared of what a reader has no use for: progress, paths of this machine, times.

    Raises:
        CellExecutionError: A cell failed.
    """
    home.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(PATH, 4)
    before = os.environ.get("AI_VS_REAL_HOME")
    os.environ["AI_VS_REAL_HOME"] = str(home / "runs")
    try:
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(home)}}).execute()
    finally:
        if before is None:
            del os.environ["AI_VS_REAL_HOME"]
        else:
            os.environ["AI_VS_REAL_HOME"] = before
    return cleared(notebook)


def cleared(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a notebook without its progress, its paths of this machine and its times."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if "text" in output:
                output.text = PLACE.sub("PATH", output.text)
            if "data" in output:
                output.data = {kind: value for kind, value in output.data.items() if kind in KEPT}
                for kind in ("text/plain", "text/html"):
                    if kind in output.data:
                        output.data[kind] = PLACE.sub("PATH", output.data[kind])
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        result = run(Path(sys.argv[1] if len(sys.argv) > 1 else place))
    nbformat.write(result, PATH)
