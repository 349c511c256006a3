"""The compiled pipeline on this machine, as a user runs it: the console command as a process of its own."""

import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from striped import write_weights
from tiny import write_pictures

from components.records import open_records
from pipelines.local import sample
from pipelines.local.engine import _Console, _redirected

SMALL = ["--view", "resize32", "--backbone", "mobilenetv2"]


def ai_vs_real(*arguments, home, **variables):
    environment = {**os.environ, "AI_VS_REAL_HOME": str(home), **variables}
    command = [sys.executable, "-m", "pipelines.commands.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Options of a run whose head learns for an epoch on a drawn, frozen backbone."""
    weights = write_weights(tmp_path_factory.mktemp("weights") / "backbone.weights.h5")
    # One epoch teaches nothing: the gate lets the first detector through so that there is a champion to ask.
    learning = ["--weights", str(weights), "--recipe", "plain", "--epochs", "1", "--fine-tune-epochs", "0"]
    return [*SMALL, *learning, "--gate", "roc_auc+0.9", "--shards", "4", "--json"]


@pytest.fixture(scope="module")
def media(tiny_media, tmp_path_factory):
    """The tiny collection with two clips and every kind of bad file among the good ones."""
    root = tmp_path_factory.mktemp("run") / "media"
    shutil.copytree(tiny_media, root)
    picture = (root / "real" / "camera" / "000.jpg").read_bytes()
    (root / "real" / "camera" / "empty.jpg").write_bytes(b"")
    (root / "real" / "camera" / "cut.jpg").write_bytes(picture[: len(picture) // 3])
    (root / "fake" / "spectral" / "words.jpg").write_text("This is not a picture.")
    (root / "real" / "camera" / "again.jpg").write_bytes(picture)
    return root


@pytest.fixture(scope="module")
def first(media, quick, tmp_path_factory):
    """A home and the document of a first run in it."""
    home = tmp_path_factory.mktemp("home")
    done = ai_vs_real("run", media, *quick, home=home)
    assert done.returncode == 0, done.stderr
    return home, json.loads(done.stdout), done.stderr


def test_a_run_states_what_it_decided_and_where_everything_is(first):
    home, result, _ = first
    assert result["decision"] == "promoted"
    assert "there is no champion to beat" in result["reasons"]
    assert result["model_version"] == "1"
    assert {"roc_auc", "average_precision", "balanced_accuracy", "ece", "by_source", "by_kind"} <= set(
        result["metrics"]
    )
    assert set(result["metrics"]["by_source"]) == {"camera", "spectral"}
    assert sum(result["counts"][split] for split in ("train", "validation", "test")) == 60
    counts = result["counts"]
    assert (counts["found"], counts["files"], counts["duplicates_dropped"]) == (64, 60, 1)
    assert sum(counts["rejected"].values()) == 3
    for page in result["pages"].values():
        assert "<html" in Path(page).read_text()
    assert os.path.isdir(result["dataset"])
    assert str(home) in result["registry"]
    assert set(result["seconds"]) == {
        "list-media", "extract-frames", "preprocess", "train", "find-champion", "evaluate", "register"
    }  # fmt: skip


def test_standard_error_shows_progress_and_no_noise(first):
    _, _, shown = first
    assert "extract-frames: done" in shown
    assert "[train]" in shown
    assert "executorInput" not in shown
    assert "KFP Executor" not in shown


def test_the_run_is_in_the_records(first, monkeypatch):
    home, result, _ = first
    monkeypatch.setenv("AI_VS_REAL_HOME", str(home))
    monkeypatch.delenv("MONGODB_URI", raising=False)
    record = open_records().get("runs", result["_id"])
    assert record["outcome"] == "completed"
    assert record["decision"] == result["decision"]


def test_two_steps_at_a_time_leave_print_as_it_was():
    from kfp.local.logging_utils import indented_print

    one, other, own = indented_print(), indented_print(), print
    with _redirected(_Console(io.StringIO(), say=print)):
        one.__enter__()
        other.__enter__()
        one.__exit__(None, None, None)
        other.__exit__(None, None, None)
        assert print is not own, "kfp puts back what it found first; the engine need not"
    assert print is own


def test_an_unchanged_run_does_no_work(first, media, quick):
    home, result, _ = first
    done = ai_vs_real("run", media, *quick, home=home)
    again = json.loads(done.stdout)
    assert set(again["seconds"]) - set(again["cached"]) == {"list-media", "find-champion", "register"}
    assert again["metrics"] == result["metrics"]


def test_a_changed_parameter_reruns_its_step_and_what_follows(first, media, quick):
    home, _, _ = first
    done = json.loads(ai_vs_real("run", media, *quick, "--model-name", "other", home=home).stdout)
    assert set(done["seconds"]) - set(done["cached"]) == {"list-media", "find-champion", "evaluate", "register"}


def test_changed_media_rerun_their_shard_and_what_follows_and_no_better_detector_is_refused(
    first, media, quick, tmp_path
):
    home, _, _ = first
    # The media's own path is a parameter too, so the changed collection takes the place of the first one.
    before = tmp_path / "before"
    shutil.copytree(media, before)
    write_pictures(tmp_path / "more", 1, sample.camera_fine, 77)
    shutil.copy(tmp_path / "more" / "000.jpg", media / "real" / "camera" / "001.jpg")
    try:
        done = json.loads(ai_vs_real("run", media, *quick, home=home).stdout)
    finally:
        shutil.rmtree(media)
        before.rename(media)
    assert done["cached"] == ["extract-frames"] * 3
    assert done["decision"] == "refused"
    assert done["champion_version"] == "1"
    assert int(done["model_version"]) > 1


def test_the_champion_answers_for_pictures_and_clips(first, media, tmp_path):
    home, _, _ = first
    rng = np.random.default_rng(9)
    first_frame, *frames = (Image.fromarray(sample.camera_fine(sample.scene(rng, 64), rng)) for _ in range(3))
    first_frame.save(tmp_path / "animated.gif", save_all=True, append_images=frames)
    files = [
        media / "real" / "camera" / "003.jpg",
        tmp_path / "animated.gif",
        media / "fake" / "spectral" / "words.jpg",
    ]
    done = ai_vs_real("check", *files, "--json", home=home)
    assert done.returncode == 4, done.stderr
    document = json.loads(done.stdout)
    picture, clip, words = document["answers"]
    assert picture["receipt"]["version"] == "1"
    assert picture["receipt"]["alias"] == "champion"
    assert picture["verdict"] in ("real", "fake", "unsure")
    assert 0 <= picture["probability"] <= 1
    assert (picture["kind"], clip["kind"]) == ("picture", "clip")
    assert words["verdict"] is None
    assert "not media" in words["error"]


def test_the_stages_alone_lead_from_a_plain_tree_to_the_registry(tiny_media, quick, tmp_path):
    tree, home = tmp_path / "tree", tmp_path / "home"
    for label in ("real", "fake"):
        for index, path in enumerate(sorted((tiny_media / label).rglob("*.jpg"))):
            folder = tree / ("train" if index < 18 else "val" if index < 24 else "test") / label
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / path.name)
    done = ai_vs_real("train", tree, *quick[:-5], home=home)
    assert done.returncode == 0, done.stderr
    model = Path(done.stdout.strip())
    done = ai_vs_real("evaluate", model, home / "dataset", "--json", home=home)
    evaluation = json.loads(done.stdout)
    assert evaluation["candidate"]["overall"]["n"] == 12
    done = ai_vs_real("register", model, home / "evaluation" / "evaluation.json", "--json", home=home)
    assert json.loads(done.stdout)["decision"] in ("promoted", "refused")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda root: None, "does not exist"),
        (lambda root: root.mkdir(), "real"),
        (lambda root: write_pictures(root / "real" / "a", 3, sample.camera_fine, 5), "fake"),
    ],
    ids=["missing", "empty", "one label"],
)
def test_bad_media_are_reported_in_one_line(make, expected, quick, tmp_path):
    make(tmp_path / "media")
    done = ai_vs_real("run", tmp_path / "media", *quick, home=tmp_path / "home")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ai-vs-real: ")
    assert expected in last
    assert "Inner task failed" not in done.stderr
    assert not done.stdout


def test_too_few_items_are_reported_by_the_step_that_counts_them(quick, tmp_path):
    write_pictures(tmp_path / "media" / "real" / "a", 2, sample.camera_fine, 5)
    write_pictures(tmp_path / "media" / "fake" / "b", 2, sample.generator_smooth, 6)
    done = ai_vs_real("run", tmp_path / "media", *quick, home=tmp_path / "home")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_weights_file_that_is_not_there(tiny_media, tmp_path):
    done = ai_vs_real("run", tiny_media, "--weights", tmp_path / "none.h5", home=tmp_path / "home")
    assert done.returncode == 2
    assert "none.h5" in done.stderr


def test_a_home_that_cannot_be_written(tiny_media, quick, tmp_path):
    (tmp_path / "file").write_text("")
    done = ai_vs_real("run", tiny_media, *quick, home=tmp_path / "file" / "home")
    assert done.returncode == 2
    assert "AI_VS_REAL_HOME" in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("variable", "address"),
    [("MLFLOW_TRACKING_URI", "http://127.0.0.1:9"), ("MONGODB_URI", "mongodb://127.0.0.1:9/x")],
)
def test_a_server_that_does_not_answer_is_reported_before_any_work(variable, address, tiny_media, quick, tmp_path):
    done = ai_vs_real(
        "run", tiny_media, *quick, home=tmp_path / "home", AI_VS_REAL_SERVER_TIMEOUT_S="3", **{variable: address}
    )
    assert done.returncode == 2
    assert variable in done.stderr.strip().splitlines()[-1]
    assert "extract" not in done.stderr


def test_interrupted_in_training_leaves_nothing_half_written(tiny_media, quick, tmp_path, monkeypatch):
    home = tmp_path / "home"
    environment = {**os.environ, "AI_VS_REAL_HOME": str(home)}
    command = [sys.executable, "-m", "pipelines.commands.main", "run", str(tiny_media), *quick, "--epochs", "10000"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        for line in run.stderr:
            if "[train] head 2/" in line:
                break
        time.sleep(0.5)
        os.killpg(run.pid, signal.SIGINT)
        rest = run.stderr.read()
        assert run.wait(timeout=30) == 130
    assert "interrupted" in rest.strip().splitlines()[-1]
    assert not list(home.glob("pipelines/**/model.keras"))
    monkeypatch.setenv("AI_VS_REAL_HOME", str(home))
    assert open_records().find("runs", {})[0]["outcome"] == "interrupted"
    database = home / "mlflow.db"
    if database.exists():
        assert not sqlite3.connect(database).execute("select count(*) from model_versions").fetchone()[0]
