"""Buckets: a real emulator process of Google Cloud Storage, and a proxy before it that misbehaves."""

import time

import pytest
from servers import _free_port

from components.dataset import Dataset
from components.errors import InputError
from components.extraction.extract import extract
from components.media import buckets
from components.media.buckets import Buckets
from components.media.pictures import MediaError

pytestmark = pytest.mark.servers
ALWAYS = 10**6  # times


@pytest.fixture
def bucket(bucket):
    """The bucket with two objects in it."""
    bucket.put("set/real/a.jpg", b"a" * 60_000)
    bucket.put("set/fake/b.jpg", b"b" * 60_000)
    bucket.log()
    return bucket


def test_it_is_listed_once_and_only_what_is_asked_for_is_read_once(bucket):
    store = Buckets()
    assert sorted(store.names("gs://media/set")) == ["fake/b.jpg", "real/a.jpg"]
    assert store.checksum("gs://media/set/real/a.jpg") != store.checksum("gs://media/set/fake/b.jpg") != ""
    assert store.checksum("gs://media/set/real/c.jpg") == ""
    with store.fetch("gs://media/set/real/a.jpg") as path:
        assert path.suffix == ".jpg"
        assert path.read_bytes() == b"a" * 60_000
    lines = bucket.log()
    assert len([line for line in lines if "a.jpg" in line]) == 1
    assert not [line for line in lines if "b.jpg" in line]
    assert len([line for line in lines if "/o?" in line]) == 1
    with pytest.raises(MediaError, match="missing"), store.fetch("gs://media/set/real/c.jpg"):
        pass


@pytest.mark.parametrize("how", [{"fail": 429}, {"fail": 503}, {"reset": True}, {"truncate": True}])
def test_what_passes_is_asked_for_again_and_the_bytes_are_whole(bucket, how):
    bucket.behave(times=1, **how, test=str(how))
    store = Buckets()
    assert len(store.names("gs://media/set")) == 2
    with store.fetch("gs://media/set/real/a.jpg") as path:
        assert path.read_bytes() == b"a" * 60_000
    if "truncate" in how:  # it went on where it broke off
        assert any("bytes=" in line and "-59999 " in line for line in bucket.log())


def test_a_large_object_comes_in_ranges(bucket, monkeypatch):
    monkeypatch.setattr(buckets, "PART_BYTES", 1000)
    content = bytes(range(250)) * 19
    bucket.put("set/real/long.mp4", content)
    bucket.behave(times=1, fail=503, only="download")
    with Buckets().fetch("gs://media/set/real/long.mp4") as path:
        assert path.read_bytes() == content
    assert len({line.split()[1] for line in bucket.log() if "bytes=" in line}) == 5


@pytest.mark.parametrize(
    "how", [{"fail": 503, "times": ALWAYS}, {"silent": True}, {"garbage": True, "times": ALWAYS}, {"down": True}]
)
def test_a_bucket_that_stays_away_is_a_line_within_the_bound(bucket, monkeypatch, how):
    bucket.behave(**how)
    if "down" in how:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{_free_port()}")
    begun = time.monotonic()
    with pytest.raises(InputError, match="run again once it answers"):
        Buckets().names("gs://media/set")
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize("how", [{"reset": True}, {"garbage": True}])
def test_an_ingest_whose_bucket_dies_on_the_way_is_a_line_and_a_repeat_completes_it(bucket, tiny_media, tmp_path, how):
    for path in sorted(tiny_media.rglob("*.jpg")):
        bucket.put(f"tiny/{path.relative_to(tiny_media)}", path.read_bytes())
    bucket.behave(**how, times=ALWAYS, after=30, only="download", test="dies")
    begun = time.monotonic()
    with pytest.raises(InputError, match="run again once it answers"):
        extract("gs://media/tiny", tmp_path / "frames", view="resize32", tiers="clean")
    assert time.monotonic() - begun < 30
    assert list(tmp_path.iterdir()) == []
    bucket.behave()
    extract("gs://media/tiny", tmp_path / "frames", view="resize32", tiers="clean")
    paths = Dataset(tmp_path / "frames").column("path").tolist()
    assert sorted(paths) == sorted(path.relative_to(tiny_media).as_posix() for path in tiny_media.rglob("*.jpg"))


def test_an_object_that_changes_after_it_was_listed_stops_the_run(bucket):
    store = Buckets()
    store.names("gs://media/set")
    bucket.put("set/real/a.jpg", b"c" * 60_000)
    with (
        pytest.raises(InputError, match=r"a\.jpg changed after it was listed"),
        store.fetch("gs://media/set/real/a.jpg"),
    ):
        pass


def test_no_bucket_no_permission_and_no_credentials_are_a_line_each(bucket, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="no bucket nowhere"):
        Buckets().names("gs://nowhere/set")
    bucket.behave(times=ALWAYS, fail=403)
    with pytest.raises(InputError, match="Storage Object Viewer"):
        Buckets().names("gs://media/set")
    with pytest.raises(InputError, match="names no bucket"):
        Buckets().names("gs://")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(InputError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        Buckets().names("gs://media/set")


def test_results_are_written_back(bucket, tmp_path):
    (tmp_path / "verdicts.jsonl").write_text("{}\n")
    store = Buckets()
    bucket.behave(times=1, fail=503)
    store.write(tmp_path / "verdicts.jsonl", "gs://media/out/verdicts.jsonl")
    with store.fetch("gs://media/out/verdicts.jsonl") as path:
        assert path.read_text() == "{}\n"
