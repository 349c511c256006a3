"""A dataset is what its digest says, or does not open; every damage is one line."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.dataset import MANIFEST, Dataset, DatasetWriter
from components.errors import InputError

SHAPE = (1, 8, 8, 3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Five rows in two shards."""
    place = tmp_path_factory.mktemp("whole") / "dataset"
    with DatasetWriter(place, SHAPE, shard_bytes=3 * 192) as writer:
        for number in range(5):
            writer.append(np.full(SHAPE, number, np.uint8), {"path": f"{number}.jpg", "label": number % 2, "split": ""})
        writer.reject("bad.jpg", 0, "x", "empty")
    return place


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    """One to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "dataset"))


def card(place: Path, **changes) -> None:
    """Change the card."""
    (place / "dataset.json").write_text(json.dumps(json.loads((place / "dataset.json").read_text()) | changes))


def overwrite(path: Path, content: bytes, at: int) -> None:
    """Write some bytes over a file, whose size and times stay."""
    times = path.stat()
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def manifest(place: Path, change) -> None:
    """Change the manifest."""
    pq.write_table(change(pq.read_table(place / "manifest.parquet")), place / "manifest.parquet")


def shard_elsewhere(place: Path) -> None:
    """Replace a shard by a link out of the dataset."""
    shutil.move(place / "shards" / "00001.npy", place.parent / "other.npy")
    (place / "shards" / "00001.npy").symlink_to(place.parent / "other.npy")


DAMAGE = {
    "shard overwritten": lambda d: overwrite(d / "shards" / "00000.npy", b"\x77", 200),
    "shard cut": lambda d: os.truncate(d / "shards" / "00000.npy", 300),
    "shard missing": lambda d: (d / "shards" / "00001.npy").unlink(),
    "shard no array": lambda d: (d / "shards" / "00000.npy").write_bytes(b"\x00" * 500),
    "shard of floats": lambda d: np.save(d / "shards" / "00000.npy", np.zeros((3, *SHAPE))),
    "shard of pickles": lambda d: np.save(d / "shards" / "00000.npy", np.array([{}], object), allow_pickle=True),
    "shards exchanged": lambda d: card(d, shards=["00001.npy", "00000.npy"]),
    "shard outside": lambda d: card(d, shards=["../../other.npy"]),
    "shard behind a link": shard_elsewhere,
    "view_shape false": lambda d: card(d, view_shape=[1, 4, 16, 3]),
    "view_shape no shape": lambda d: card(d, view_shape=[1, "8", None]),
    "tiers no list": lambda d: card(d, tiers="clean"),
    "card no JSON": lambda d: (d / "dataset.json").write_text("{"),
    "card no text": lambda d: (d / "dataset.json").write_bytes(b"\xff\xfe\x00"),
    "card a list": lambda d: (d / "dataset.json").write_text("[]"),
    "card deep": lambda d: (d / "dataset.json").write_text("[" * 100_000),
    "digest claimed": lambda d: card(d, digest="0" * 64),
    "policy changed": lambda d: card(d, view="crops256x9"),
    "rows claimed": lambda d: card(d, rows=4),
    "no checksums": lambda d: card(d, checksums=None),
    "manifest shorter": lambda d: manifest(d, lambda table: table.slice(1)),
    "manifest without labels": lambda d: manifest(d, lambda table: table.drop_columns(["label"])),
    "manifest garbled": lambda d: (d / "manifest.parquet").write_bytes(b"PAR1" + b"\x00" * 50 + b"PAR1"),
    "manifest missing": lambda d: (d / "manifest.parquet").unlink(),
    "rejections missing": lambda d: (d / "rejections.parquet").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_damage_is_one_line(copy, damage):
    DAMAGE[damage](copy)
    with pytest.raises(InputError, match=f"^dataset {copy} is damaged: ") as caught:
        Dataset(copy)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_agrees_with_its_checksum_must_still_be_right(copy):
    """Whoever damages a dataset may write the checksum as well: length, columns and labels are checked all the same."""
    from components.dataset import _checksum

    labels = pa.array([7, 0, 1, 0, 1], pa.int8())
    at = MANIFEST.get_field_index("label")
    for change, what in (
        (lambda table: table.slice(1), "4 rows in the manifest, 5 in shards"),
        (lambda table: table.drop_columns(["label"]), "has no column label"),
        (lambda table: table.set_column(at, "label", labels), "neither 0 nor 1"),
        (lambda table: table.take([1, 0, 2, 3, 4]), "its digest is not that of"),
    ):
        shutil.copy(copy / "manifest.parquet", copy.parent / "kept")
        manifest(copy, change)
        sums = json.loads((copy / "dataset.json").read_text())["checksums"]
        card(copy, checksums=sums | {"manifest.parquet": _checksum(copy / "manifest.parquet")})
        with pytest.raises(InputError, match=what):
            Dataset(copy)
        shutil.copy(copy.parent / "kept", copy / "manifest.parquet")


def test_an_older_format_is_named(copy):
    card(copy, format=1)
    with pytest.raises(InputError, match="has format 1, this version reads 3"):
        Dataset(copy)


def test_the_digest_covers_the_pixels(whole, tmp_path):
    digests = set()
    for shade in (0, 1):
        with DatasetWriter(tmp_path / str(shade), SHAPE) as writer:
            writer.append(np.full(SHAPE, shade, np.uint8), {"path": "a", "label": 0})
        digests.add(Dataset(tmp_path / str(shade)).digest)
    assert len(digests) == 2


def test_a_dataset_is_verified_once_in_a_process_and_again_when_it_changed(copy, monkeypatch):
    from components import dataset

    read = []
    checksum = dataset._checksum
    monkeypatch.setattr(dataset, "_checksum", lambda path, *others: read.append(path.name) or checksum(path, *others))
    Dataset(copy)
    Dataset(copy)
    assert sorted(read) == ["00000.npy", "00001.npy", "manifest.parquet", "rejections.parquet"]
    overwrite(copy / "shards" / "00001.npy", b"\x77", 200)
    with pytest.raises(InputError, match=r"shards/00001\.npy has changed"):
        Dataset(copy)
