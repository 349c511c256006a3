"""The scoring pipeline as it is compiled, run here: one detector for the whole run, nothing scored twice."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components import registry
from components.errors import InputError
from components.prediction.scoring import list_shards, score_shard, summarize
from components.records import open_records
from pipelines.local import engine
from pipelines.steps.compiling import COMPILED

NAME = "ai-vs-real"


@pytest.fixture
def champion(home, brightness_detector):
    """The detector of brightness as champion of an empty run home."""
    version = registry.add_version(NAME, brightness_detector)
    registry.set_alias(NAME, registry.CHAMPION, version.version)
    return version


def test_a_collection_becomes_a_table_records_and_a_page_and_only_new_files_are_scored_again(
    champion, home, asked_media, tmp_path
):
    media = tmp_path / "media"
    shutil.copytree(asked_media, media)
    arguments = {"media": str(media), "shards": 2}
    first = engine.run(COMPILED / "scoring.yaml", arguments, home, cache=False).outputs
    rows = pq.read_table(first["table"].path).to_pylist()
    assert {row["path"].rpartition("/")[2]: row["verdict"] for row in rows} == {
        "bright.png": "fake", "broken.jpg": None, "clip.mp4": "unsure", "dark.png": "real",
        "generated.png": "fake", "gray.png": "unsure",
    }  # fmt: skip
    assert {row["version"] for row in rows} == {champion.version}
    page = Path(first["report"].path).read_text()
    assert all(words in page for words in ("6 files: 1 real, 2 fake, 2 unsure, 1 unreadable", "Surest fakes"))
    with open_records() as records:
        assert records.count("verdicts") == 6
        (remembered,) = records.find("verdicts", {"path": str(media / "dark.png")})
        remembered["answer"]["reason"] = "remembered"
        records.put("verdicts", remembered)
    shutil.copy(media / "dark.png", media / "new.png")
    shutil.copy(media / "bright.png", media / "gray.png")  # changed since
    (shard,) = list_shards(str(media), NAME, "", 1)
    assert score_shard(str(media), shard, NAME, tmp_path / "shard") == {
        "real": 2, "fake": 3, "unsure": 1, "unreadable": 1,
    }  # fmt: skip
    summarize([tmp_path / "shard"], tmp_path / "table", tmp_path / "page.html")
    again = {row["path"].rpartition("/")[2]: row for row in pq.read_table(tmp_path / "table").to_pylist()}
    assert again["dark.png"]["reason"] == "remembered"
    assert (again["new.png"]["verdict"], again["gray.png"]["verdict"]) == ("real", "fake")
    assert len(again) == 7


def test_every_file_is_in_one_shard_and_the_version_is_pinned(champion, asked_media, tmp_path):
    shards = list_shards(str(asked_media), NAME, "", 4)
    assert len(shards) == len(set(shards)) <= 4
    assert all(f"@{champion.version}:" in shard for shard in shards)
    assert list_shards(str(asked_media), NAME, champion.version, 4) == shards
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no file; give a directory or gs://"):
        list_shards(str(tmp_path / "empty"), NAME, "", 4)
    with pytest.raises(InputError, match=r"has no version 99"):
        list_shards(str(asked_media), NAME, "99", 4)
