"""The notebook, run from a clean kernel on the sample set, and what of it is committed."""

import re

import nbformat
import pytest
import walkthrough

OUTPUT_BYTES = 400_000


def text_of(notebook):
    """All that a reader of the outputs sees, but the pixels."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [value for output in outputs for kind, value in output.get("data", {}).items() if "image" not in kind]
    return "\n".join([*(output.get("text", "") for output in outputs), *data])


def pictures_of(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if any(kind.startswith("image/") for kind in output.get("data", {}))]


def test_what_is_committed_has_small_outputs_without_paths_and_times():
    notebook = nbformat.read(walkthrough.PATH, 4)
    nbformat.validate(notebook)
    assert walkthrough.PATH.stat().st_size < OUTPUT_BYTES
    assert len(pictures_of(notebook)) >= 7
    assert not re.search(r"/(home|tmp|root|work|Users|private)/", text_of(notebook))
    assert not any(cell.metadata for cell in notebook.cells)
    assert not any(output.get("name") == "stderr" for cell in notebook.cells for output in cell.get("outputs", []))
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == list(
        range(1, 1 + sum(cell.cell_type == "code" for cell in notebook.cells))
    )


@pytest.mark.servers
@pytest.mark.timeout(1200)
def test_it_runs_from_a_clean_kernel_to_a_verdict_and_its_lineage(tmp_path):
    notebook = walkthrough.run(tmp_path / "home")
    committed = nbformat.read(walkthrough.PATH, 4)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in committed.cells]
    assert len(pictures_of(notebook)) >= 7
    said = text_of(notebook)
    assert "No group, file or picture stands in two splits" in said
    assert re.search(r"(promoted|refused): version 1", said)
    assert re.search(r"fake/\S+\.jpg: (real|fake|unsure), \d\.\d\d fake", said)
    assert "was judged on 1" in said
    assert str(tmp_path) not in said
    assert (tmp_path / "home" / "runs" / "records.db").is_file()
