"""A run on a version of a dataset: what was snapshot is what is trained on, and the records say so."""

import json
import subprocess

import pytest

from components.dataset import Dataset
from components.extraction.extract import extract
from components.preprocessing.preprocess import preprocess
from components.records import open_records
from components.versions.repository import DataRepository
from pipelines.commands.main import main

pytestmark = pytest.mark.servers  # half a minute of training, and the real DVC

QUICK = ["--weights", "none", "--backbone", "mobilenetv2", "--epochs", "1", "--fine-tune-epochs", "0"]
QUICK += ["--recipe", "plain", "--test-degradations", "none", "--json"]


def test_a_run_on_a_version_trains_on_what_was_snapshot(tiny_media, registry_home, tmp_path, monkeypatch, capsys):
    for key in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{key}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{key}_EMAIL", "somebody@example.org")
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    extract(str(tiny_media), tmp_path / "frames", view="resize32")
    preprocess([tmp_path / "frames"], tmp_path / "dataset")
    version = DataRepository(repository).snapshot(tmp_path / "dataset")
    assert main(["run", "--data-version", version[:8], "--repository", str(repository), *QUICK]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["data_version"] == version == Dataset(tmp_path / "dataset").version
    with open_records() as records:
        runs = records.find("runs", {"data_version": version})
        assert sorted(run["type"] for run in runs) == ["pipeline", "training"]
        assert {run["digest"] for run in runs} == {result["digest"]}
    shard = "shards/00000.npy"
    assert (repository / "data" / version / shard).read_bytes() == (tmp_path / "dataset" / shard).read_bytes()
    assert main(["lineage"]) == 0 or result["decision"] == "refused"
