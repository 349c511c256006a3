"""What is listed, with which label, source, group and split; and what is refused in one line."""

import json
import os
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.dataset import Dataset
from components.errors import InputError
from components.extraction import sources
from components.extraction.extract import extract
from components.extraction.sources import digest, list_media, shards, take
from components.media.pictures import MediaError


def tree(root: Path, *names: str) -> Path:
    """A tree of tiny files, each holding its own name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_labels_and_sources_from_folders(tmp_path):
    root = tree(
        tmp_path / "m", "real/a.jpg", "real/canon/b.jpg", "fake/sdxl/x/c.png", "Fake2/no.png", "fake/clips/d.mp4"
    )
    items = list_media(root)
    assert [(item.path, item.label, item.source, item.split) for item in items] == [
        ("fake/clips/d.mp4", 1, "clips", ""),
        ("fake/sdxl/x/c.png", 1, "sdxl", ""),
        ("real/a.jpg", 0, "real", ""),
        ("real/canon/b.jpg", 0, "canon", ""),
    ]
    assert Path(items[0].location).read_text() == "fake/clips/d.mp4"


def test_a_given_split(tmp_path):
    root = tree(
        tmp_path / "m", "train/real/a", "train/fake/b", "val/Real/c", "val/fake/d", "test/real/cam/e", "test/FAKE/f"
    )
    assert [(item.path, item.label, item.source, item.split) for item in list_media(root)] == [
        ("test/FAKE/f", 1, "fake", "test"),
        ("test/real/cam/e", 0, "cam", "test"),
        ("train/fake/b", 1, "fake", "train"),
        ("train/real/a", 0, "real", "train"),
        ("val/Real/c", 0, "real", "validation"),
        ("val/fake/d", 1, "fake", "validation"),
    ]


def test_hidden_files_and_circular_links(tmp_path):
    root = tree(tmp_path / "m", "real/a", "real/.DS_Store", "real/.cache/b", "fake/c")
    (root / "real" / "again").symlink_to(root / "real", target_is_directory=True)
    tree(tmp_path / "elsewhere", "d")
    (root / "fake" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "fake" / "passwd.jpg").symlink_to("/etc/passwd")
    (root / "real" / "b").symlink_to(root / "real" / "a")
    items = list_media(root)
    assert [(item.path, item.refused == "") for item in items] == [
        ("fake/c", True), ("fake/linked", False), ("fake/passwd.jpg", False), ("real/a", True), ("real/b", True)
    ]  # fmt: skip
    with pytest.raises(MediaError, match="not media: it leads out of the directory"):
        sources.fetch(items[2])
    assert digest(items)


def test_what_the_kernel_makes_up_is_not_waited_for(tmp_path):
    """Reading /proc/kmsg waits for ever, and it calls itself a regular file."""
    root = tree(tmp_path / "m", "real/a", "fake/c")
    (root / "real" / "log.jpg").symlink_to("/proc/kmsg")
    (tmp_path / "list.csv").write_text("path,label\n/proc/kmsg,0\nm/real/a,0\n../x,0\nm/fake/c,1\n")
    assert len(digest(list_media(root))) == 64
    items = list_media(tmp_path / "list.csv")
    assert len(digest(items)) == 64
    assert [item.refused != "" for item in items] == [True, False, False, False]  # ../x


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".jsonl", b'{"path": "\\ud800.jpg", "label": 0}\n', "entry 1 has a value that is no valid text"),
        (".jsonl", b'{"path": "a", "label": ' + b"[" * 20_000, "RecursionError"),
        (".jsonl", b'{"path": "a", "label": ' + b"[" * 100_000, "a line of more than"),
        (".jsonl", b'{"path": ["a"], "label": 0}\n', "entry 1 has a value that is no text"),
        (".jsonl", b"7\n", "no column path and label in entry 1"),
        (".csv", b"path,label\n" + b"a" * 5000 + b",0\n", "entry 1 has a value that is no text of at most"),
        (".csv", b"path,label\na\0b,0\n", "no valid text|line contains NUL"),
        (".csv", b"path,label\n\xff\xfe,0\n", "UnicodeDecodeError"),
    ],
)
def test_a_hostile_list_is_refused_in_one_line(tmp_path, suffix, content, message):
    (tmp_path / f"list{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list_media(tmp_path / f"list{suffix}")
    assert "\n" not in str(caught.value)


def test_a_parquet_list_that_unpacks_over_the_memory_is_refused(tmp_path):
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 9000, pa.int32()), pa.array(["x" * 300_000]))
    pq.write_table(pa.table({"path": same, "label": pa.array([0] * 9000)}), tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 500_000
    with pytest.raises(InputError, match="cannot be read"):
        list_media(tmp_path / "bomb.parquet")


def test_names_that_are_not_text(tmp_path):
    root = tree(tmp_path / "m", "real/a", "fake/b")
    odd = os.path.join(os.fsencode(root), b"real", b"\xff\xfe.jpg")
    with open(odd, "w") as file:
        file.write("x")
    item = list_media(root)[1]
    assert item.path == "real/\\xff\\xfe.jpg"
    with sources.fetch(item) as path:
        assert path.read_text() == "x"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no media"),
        (["loose.jpg"], "holds no media"),
        (["cats/a", "dogs/b"], r"no folders real and fake \(it holds cats, dogs\)"),
        (["real/a"], "no files in a folder fake"),
        (["train/real/a", "train/fake/b", "test/real/c"], "no files in a folder test/fake"),
        (
            ["real/a", "fake/b", "train/real/c"],
            r"folders of splits \(train\) and of labels \((real, fake|fake, real)\)",
        ),
    ],
)
def test_a_tree_that_is_wrong(tmp_path, names, message):
    (tmp_path / "m").mkdir()
    with pytest.raises(InputError, match=message) as caught:
        list_media(tree(tmp_path / "m", *names))
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_none(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        list_media(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is not a directory"):
        list_media(tmp_path / "file")
    with pytest.raises(InputError, match="no media given"):
        list_media("")


ROWS = [
    {"path": "b, c.jpg", "label": "fake", "source": "sdxl", "group": "prompt 7", "split": "train"},
    {"path": "sub/a.jpg", "label": "0", "source": "", "group": "", "split": "val"},
    {"path": "gone.jpg", "label": "Real", "source": "canon", "group": "", "split": ""},
]


def write_list(path: Path, rows: list[dict]) -> Path:
    """Write rows as the suffix says."""
    if path.suffix == ".csv":
        lines = [",".join(f'"{row.get(name, "")}"' for name in rows[0]) for row in rows]
        path.write_text("\n".join([",".join(rows[0]), *lines]) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_lists(tmp_path, suffix):
    tree(tmp_path, "b, c.jpg", "sub/a.jpg")
    items = list_media(write_list(tmp_path / f"list{suffix}", ROWS))
    assert [(item.path, item.label, item.source, item.group, item.split) for item in items] == [
        ("b, c.jpg", 1, "sdxl", "prompt 7", "train"),
        ("gone.jpg", 0, "canon", "", ""),  # missing: extraction rejects it by name
        ("sub/a.jpg", 0, "sub", "", "validation"),
    ]
    assert Path(items[0].location).read_text() == "b, c.jpg"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"path": "a", "label": "0", "colour": "x"}], "unknown column colour"),
        ([{"path": "a"}], "no column label"),
        ([{"path": "a", "label": "0"}, {"path": "b", "label": "maybe"}], "label 'maybe' in entry 2"),
        ([{"path": "a", "label": "0"}, {"path": "", "label": "1"}], "no path in entry 2"),
        ([{"path": "a", "label": "0", "split": "later"}], "split 'later' in entry 1"),
        ([{"path": "x", "label": "0"}, {"path": "y", "label": "1"}], "none of the 2 files"),
        ([{"path": "a", "label": "0"}, {"path": "b", "label": "0"}], "2 real files and no fake one"),
    ],
)
def test_a_list_that_is_wrong(tmp_path, suffix, rows, message):
    tree(tmp_path, "a", "b")
    with pytest.raises(InputError, match=message) as caught:
        list_media(write_list(tmp_path / f"list{suffix}", rows))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.parquet"])
def test_a_list_that_is_none(tmp_path, name):
    with pytest.raises(InputError, match="does not exist"):
        list_media(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x00\xff{" * 20)
    with pytest.raises(InputError, match=r"cannot be read|no column|unknown column"):
        list_media(tmp_path / name)


def test_the_digest_changes_with_all_that_matters(tmp_path):
    root = tree(tmp_path / "m", "real/a", "real/b", "fake/c")
    first = digest(list_media(root))
    assert digest(list_media(root)) == first
    (root / "real" / "a").write_text("other")
    changed = digest(list_media(root))
    assert changed != first
    (root / "real" / "a").write_text("real/a")
    assert digest(list_media(root)) == first
    (root / "real" / "a").rename(root / "real" / "z")
    assert digest(list_media(root)) != first
    moved = root.rename(tmp_path / "elsewhere")
    (moved / "real" / "z").rename(moved / "real" / "a")
    assert digest(list_media(moved)) == first


def test_shards_hold_every_item_once_and_change_alone(tmp_path):
    root = tree(tmp_path / "m", *(f"real/{n}" for n in range(5)), *(f"fake/{n}" for n in range(5)))
    items = list_media(root)
    parts = shards(items, 3)
    assert sorted((item for part in parts for item in take(items, part)), key=lambda item: item.path) == items
    assert [len(take(items, part)) for part in parts] == [4, 3, 3]
    (root / "fake" / "1").write_text("changed")
    assert [old == new for old, new in zip(parts, shards(items, 3), strict=True)] == [True, False, True]
    with pytest.raises(InputError, match="shard 1 of 3 changed after they were listed"):
        take(items, parts[1])
    assert len(shards(items, 64)) == 10
    with pytest.raises(InputError, match="shards is 0"):
        shards(items, 0)
    with pytest.raises(InputError, match="must be INDEX/COUNT@DIGEST"):
        take(items, "1/1")


def test_the_note_of_a_collection(tmp_path):
    root = tree(tmp_path / "m", "real/a", "fake/b")
    assert sources.note(str(root)) == ""
    (root / "SAMPLE.txt").write_text("Not field accuracy.\nMore.\n")
    assert sources.note(str(root)) == "Not field accuracy."
    assert len(list_media(root)) == 2
    (root / "SAMPLE.txt").write_bytes(b"\xff\x1b[31mred\x07 note" + b"x" * 5000)
    assert sources.note(str(root)).startswith("\N{REPLACEMENT CHARACTER}[31mred note")
    assert len(sources.note(str(root))) == 300
    (root / "SAMPLE.txt").unlink()
    (root / "SAMPLE.txt").symlink_to("/etc/passwd")
    assert sources.note(str(root)) == ""


@pytest.fixture(scope="module")
def bucket():
    """A bucket of a real storage server, in memory."""
    from gcp_storage_emulator.server import create_server
    from google.cloud import storage

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    server = create_server("localhost", port, in_memory=True, default_bucket="media")
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{port}")
        patch.setenv("GOOGLE_CLOUD_PROJECT", "test")
        yield storage.Client().bucket("media")
    server.stop()


def test_a_bucket_is_listed_digested_and_fetched(bucket, monkeypatch):
    for name in ("set/real/a.jpg", "set/fake/sdxl/b c.png", "set/real/.hidden", "other/fake/no.png", "set/real/"):
        bucket.blob(name).upload_from_string(name)
    items = list_media("gs://media/set")
    assert [(item.path, item.label, item.source) for item in items] == [
        ("fake/sdxl/b c.png", 1, "sdxl"),
        ("real/a.jpg", 0, "real"),
    ]
    before = digest(items)
    with sources.fetch(items[0]) as path:
        assert path.read_text() == "set/fake/sdxl/b c.png"
        assert path.suffix == ".png"
    assert not path.exists()
    bucket.blob("set/real/a.jpg").upload_from_string("changed")
    assert digest(list_media("gs://media/set")) != before
    assert sources.note("gs://media/set") == ""
    bucket.blob("set/SAMPLE.txt").upload_from_string("A note.\n")
    list_media("gs://media/set")
    assert sources.note("gs://media/set") == "A note."


def test_a_bucket_is_extracted(bucket, tiny_media, tmp_path):
    for name in ("real/camera/000.jpg", "real/camera/001.jpg", "fake/spectral/000.jpg"):
        bucket.blob(f"tiny/{name}").upload_from_filename(tiny_media / name)
    bucket.blob("tiny/fake/empty.jpg").upload_from_string("")
    card = extract("gs://media/tiny", tmp_path / "frames", view="resize32")
    assert (card["files"], card["rejected"]) == (4, 1)
    dataset = Dataset(tmp_path / "frames")
    assert list(dataset.column("path")) == ["fake/spectral/000.jpg", "real/camera/000.jpg", "real/camera/001.jpg"]
    assert dataset.rejections.to_pylist()[0]["reason"] == "empty"


def test_a_list_in_a_bucket_and_of_a_bucket(bucket, tmp_path):
    for name in ("l/a.jpg", "l/b.jpg"):
        bucket.blob(name).upload_from_string(name)
    bucket.blob("l/list.csv").upload_from_string("path,label\na.jpg,real\nb.jpg,fake\ngone.jpg,fake\n")
    items = list_media("gs://media/l/list.csv")
    assert [item.location for item in items] == ["gs://media/l/a.jpg", "gs://media/l/b.jpg", "gs://media/l/gone.jpg"]
    with pytest.raises(MediaError, match="missing"), sources.fetch(items[2]):
        pass
    (tmp_path / "list.csv").write_text("path,label\ngs://media/l/a.jpg,1\ngs://media/l/b.jpg,0\n")
    assert [item.location for item in list_media(tmp_path / "list.csv")] == ["gs://media/l/a.jpg", "gs://media/l/b.jpg"]


@pytest.mark.parametrize("media", ["gs://absent/set", "gs://media/nothing", "gs://"])
def test_a_bucket_that_is_wrong(bucket, media):
    with pytest.raises(InputError, match=r"cannot be listed|holds no media|names no bucket") as caught:
        list_media(media)
    assert "\n" not in str(caught.value)
