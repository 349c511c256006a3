"""The proof of the split: it holds for what preprocessing made, and finds what is smuggled in afterwards."""

import ast
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from components.dataset import Dataset
from components.preprocessing import certificate
from components.preprocessing.preprocess import preprocess


def certify(rows: list[tuple[np.ndarray, dict]], splits: list[str]) -> tuple[dict, np.ndarray]:
    names = ("path", "group", "content_sha256", "pixel_sha256")
    entries = [{name: entry[name] for name in names} for _, entry in rows]
    thumbnails = np.frombuffer(b"".join(entry["thumbnail"] for _, entry in rows), np.uint8).reshape(-1, 32, 32)
    manifest = pa.Table.from_pylist([entry | {"split": split} for entry, split in zip(entries, splits, strict=True)])
    return certificate.certify(manifest, thumbnails)


def test_it_holds_for_a_dataset_and_stands_in_its_card(data, tmp_path):
    rows = [data.row(f"{number}.png", number % 2, data.scene(number)) for number in range(40)]
    preprocess([data.frames(rows)], tmp_path / "out")
    card = Dataset(tmp_path / "out").card["certificate"]
    amounts = [card["splits"][name]["rows"] for name in ("train", "validation", "test")]
    assert card["holds"] is True
    assert card["crossing"] == {"groups": 0, "files": 0, "exact pairs": 0, "near pairs": 0}
    assert sum(amounts) == 40
    assert card["compared"] == (40**2 - sum(amount**2 for amount in amounts)) / 2
    assert "none alike" in card["text"]


@pytest.mark.parametrize("changed", ["jpeg", "half", "crop", "corner", "brighter"])
@pytest.mark.parametrize("first", ["original", "copy"])
def test_a_copy_in_another_split_refutes_it(data, changed, first):
    original = data.scene(1)
    copy = {
        "jpeg": lambda p: cv2.imdecode(cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1),
        "half": lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "crop": lambda p: np.ascontiguousarray(p[4:-4, 4:-4]),
        "corner": lambda p: np.ascontiguousarray(p[8:, 8:]),
        "brighter": lambda p: np.clip(p * 1.25, 0, 255).astype(np.uint8),
    }[changed](original)
    pair = [original, copy] if first == "original" else [copy, original]
    others = [data.row(f"{number}.png", 0, data.scene(number)) for number in range(2, 20)]
    rows = [data.row("a.png", 0, pair[0]), *others, data.row("b.png", 0, pair[1])]
    splits = ["train"] * 10 + ["validation"] * 5 + ["test"] * 5
    proof, near = certify(rows, splits)
    assert proof["holds"] is False
    assert proof["crossing"] == {"groups": 0, "files": 0, "exact pairs": 0, "near pairs": 1}
    assert proof["pairs"] == [{"what": "near pairs", "a": "a.png", "a_split": "train", "b": "b.png", "b_split": "test"}]
    assert near.tolist() == [[0, 19]]


def test_a_copy_in_the_same_split_does_not(data):
    rows = [
        data.row("a.png", 0, data.scene(1)),
        data.row("b.png", 0, data.scene(1)),
        data.row("c.png", 0, data.scene(2)),
    ]
    assert certify(rows, ["train", "train", "test"])[0]["holds"] is True


def test_shared_groups_files_and_pixels_refute_it(data):
    rows = [
        data.row("a.png", 0, data.scene(1), group="person"),
        data.row("b.png", 0, data.scene(2), group="person"),
        data.row("c.png", 0, data.scene(3), content="one file"),
        data.row("d.png", 0, data.scene(4), content="one file"),
        data.row("e.png", 0, data.scene(5)),
        data.row("f.png", 0, data.scene(5)),
    ]
    proof, _ = certify(rows, ["train", "test"] * 3)
    assert proof["crossing"] == {"groups": 1, "files": 1, "exact pairs": 1, "near pairs": 0}
    assert [(pair["what"], pair["a"], pair["b"]) for pair in proof["pairs"]] == [
        ("groups", "a.png", "b.png"),
        ("files", "c.png", "d.png"),
        ("exact pairs", "e.png", "f.png"),
    ]
    assert proof["text"].startswith("The splits have seen each other: 1 groups, 1 files, 1 exact pairs")


def test_it_shares_no_code_with_what_it_judges():
    tree = ast.parse(Path(certificate.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not any(name.startswith("components") for name in imported)
