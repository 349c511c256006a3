import json
import re

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.errors import InputError
from components.evaluation.evaluate import evaluate, headline


@pytest.fixture(scope="module")
def judged(dataset, detector, make_detector, tmp_path_factory):
    place = tmp_path_factory.mktemp("judged")
    champion = make_detector(slope=0.01, centre=100.0)
    evaluate(
        dataset,
        detector,
        place / "evaluation",
        champion=champion,
        champion_version="7",
        report=place / "report",
    )
    return place


@pytest.fixture(scope="module")
def numbers(judged):
    return json.loads((judged / "evaluation").read_text())


def test_units_are_pictures_and_clips(numbers):
    result = numbers["candidate"]
    assert result["overall"]["n"] == 68
    assert {kind: values["n"] for kind, values in result["by_kind"].items()} == {"clip": 8, "picture": 60}
    assert set(result["by_source"]) == {"camera", "phone", "alpha", "beta"}
    assert result["by_source"]["camera"]["roc_auc"] is None
    assert len(set(result["scores"]["unit"])) == 68
    scores = result["scores"]
    assert result["overall"]["roc_auc"] == pytest.approx(roc_auc_score(scores["label"], scores["probability"]))


def test_the_champion_is_judged_on_the_same_rows(numbers):
    candidate, champion = numbers["candidate"], numbers["champion"]
    assert numbers["champion_version"] == "7"
    assert candidate["digest"] != champion["digest"]
    assert candidate["scores"]["unit"] == champion["scores"]["unit"]
    assert candidate["overall"]["roc_auc"] == pytest.approx(champion["overall"]["roc_auc"])  # the same order
    assert candidate["overall"]["balanced_accuracy"] > champion["overall"]["balanced_accuracy"]


def test_a_clip_is_one_answer_from_all_its_frames(dataset, detector, numbers):
    from components.dataset import Dataset
    from components.detector import Detector

    data, loaded, scores = Dataset(dataset), Detector(detector), numbers["candidate"]["scores"]
    clip = scores["kind"].index("clip")
    rows = np.flatnonzero(data.column("path") == scores["unit"][clip])
    assert len(rows) == 3
    logits = loaded.logits(data.views(rows))
    assert scores["probability"][clip] == pytest.approx(loaded.clip_probability(logits))


def test_the_headline_is_plain_finite_floats(numbers):
    result = headline(numbers)
    assert all(type(value) is float and np.isfinite(value) for value in result.metrics.values())
    assert result.metrics["champion_roc_auc"] > 0.5
    assert result.confusion == numbers["candidate"]["overall"]["confusion"]
    assert len(result.roc[0]) == len(result.roc[2])


def test_the_same_evaluation_gives_the_same_numbers(dataset, detector, tmp_path):
    first = evaluate(dataset, detector, tmp_path / "first")
    second = evaluate(dataset, detector, tmp_path / "second")
    assert first == second
    assert first["champion"] is None


def test_the_page_stands_alone_and_shows_the_mistakes(judged, numbers):
    html = (judged / "report").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "Version 7" in html
    wrong = sum(numbers["candidate"]["overall"]["confusion"][row][1 - row] for row in (0, 1))
    assert 0 < html.count("data:image/jpeg") <= max(wrong, 24) * 2


def test_the_note_of_the_dataset_leads_the_page(make_dataset, detector, tmp_path):
    dataset = make_dataset(card={"note": "Made by code: <not> field accuracy."})
    evaluate(dataset, detector, tmp_path / "evaluation", report=tmp_path / "report")
    assert "Made by code: &lt;not&gt; field accuracy." in (tmp_path / "report").read_text()


def test_a_test_split_of_one_label_is_refused_in_one_line(make_dataset, detector, tmp_path):
    with pytest.raises(InputError, match="holds nothing; a judgement needs both labels"):
        evaluate(make_dataset(splits=("train",)), detector, tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()
