"""Media that lie in a bucket, and verdicts that are written back to one."""

import io
import json

import pyarrow.parquet as pq
import pytest

from components import registry
from components.prediction.scoring import list_shards, score_shard, summarize
from pipelines.commands.main import main

pytestmark = pytest.mark.servers
NAMES = ("bright.png", "broken.jpg", "clip.mp4", "dark.png", "generated.png", "gray.png")


@pytest.fixture
def inbox(bucket, asked_media, home):
    """The media that are asked about, in the bucket, which fails once at each address."""
    from components.media import stores

    stores.forget()
    for name in NAMES:
        bucket.put(f"inbox/{name}", (asked_media / name).read_bytes())
    bucket.behave(fail=503, times=1, test=str(home))
    return bucket


def verdicts(bucket, name):
    content = io.BytesIO(bucket.client.bucket("media").blob(name).download_as_bytes())
    return {row["path"]: row["verdict"] for row in pq.read_table(content).to_pylist()}


def test_a_bucket_is_checked_and_its_verdicts_are_written_to_it(inbox, brightness_detector, capsys):
    command = ["check", "gs://media/inbox", "gs://media/inbox/dark.png", "gs://media/nothing"]
    out = "gs://media/out/verdicts.parquet"
    assert main([*command, "--model", str(brightness_detector), "--json", "--parquet", out]) == 4
    answers = json.loads(capsys.readouterr().out)["answers"]
    places = [f"gs://media/inbox/{name}" for name in NAMES]
    assert [answer["path"] for answer in answers] == [*places, places[3], "gs://media/nothing"]
    inbox.behave()
    kept = verdicts(inbox, "out/verdicts.parquet")
    assert kept == {answer["path"]: answer["verdict"] for answer in answers}
    assert [kept[place] for place in places] == ["fake", None, "unsure", "real", "fake", "unsure"]


def test_where_the_bucket_takes_nothing_the_verdicts_are_printed_all_the_same(inbox, brightness_detector, capsys):
    inbox.behave()
    options = ["--model", str(brightness_detector), "--json", "--parquet"]
    assert main(["check", "gs://media/inbox/dark.png", *options, "gs://nowhere/verdicts.parquet"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["answers"][0]["verdict"] == "real"
    assert "there is no bucket nowhere" in captured.err.splitlines()[-1]


def test_a_scored_collection_leaves_table_and_page_in_the_bucket(inbox, brightness_detector, tmp_path):
    version = registry.add_version("ai-vs-real", brightness_detector)
    registry.set_alias("ai-vs-real", registry.CHAMPION, version.version)
    (shard,) = list_shards("gs://media/inbox", "ai-vs-real", "", 1)
    counted = score_shard("gs://media/inbox", shard, "ai-vs-real", tmp_path / "shard")
    assert summarize([tmp_path / "shard"], tmp_path / "table", tmp_path / "page", "gs://media/scored/") == counted
    inbox.behave()
    kept = verdicts(inbox, "scored/verdicts.parquet")
    assert sorted(kept) == [f"gs://media/inbox/{name}" for name in NAMES]
    page = inbox.client.bucket("media").blob("scored/verdicts.html").download_as_text()
    assert page == (tmp_path / "page").read_text()
    assert "6 files: 1 real, 2 fake, 2 unsure, 1 unreadable" in page
