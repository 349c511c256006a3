import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from components.errors import InputError
from components.evaluation.evaluate import evaluate, headline
from components.evaluation_result import EvaluationResult


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
        test_degradations="jpeg:50,blur:2,h264:28",
    )
    return place


@pytest.fixture(scope="module")
def numbers(judged):
    return EvaluationResult.read(judged / "evaluation")


def test_units_are_pictures_and_clips(numbers):
    result = numbers.candidate
    assert result.overall.n == 68
    assert {kind: values.n for kind, values in result.by_kind.items()} == {"clip": 8, "picture": 60}
    assert set(result.by_source) == {"camera", "phone", "alpha", "beta"}
    assert result.by_source["camera"].roc_auc is None
    assert len(set(result.scores.unit)) == 68
    assert result.overall.roc_auc == pytest.approx(roc_auc_score(result.scores.label, result.scores.probability))


def test_the_champion_is_judged_on_the_same_rows(numbers):
    candidate, champion = numbers.candidate, numbers.champion
    assert numbers.champion_version == "7"
    assert candidate.digest != champion.digest
    assert candidate.scores.unit == champion.scores.unit
    assert candidate.overall.roc_auc == pytest.approx(champion.overall.roc_auc)  # the same order
    assert candidate.overall.balanced_accuracy > champion.overall.balanced_accuracy


def test_a_clip_is_one_answer_from_all_its_frames(dataset, detector, numbers):
    from components.dataset import Dataset
    from components.detector import Detector

    data, loaded, scores = Dataset(dataset), Detector(detector), numbers.candidate.scores
    clip = scores.kind.index("clip")
    rows = np.flatnonzero(data.column("path") == scores.unit[clip])
    assert len(rows) == 3
    logits = loaded.logits(data.views(rows))
    assert scores.probability[clip] == pytest.approx(loaded.clip_probability(logits))


def test_every_slice_is_measured_for_both_detectors(numbers):
    parts = {part.name: part for part in numbers.candidate.slices}
    assert list(parts) == [part.name for part in numbers.champion.slices]
    assert {part.by for part in parts.values()} == {"all", "label", "kind", "source", "size", "degradation"}
    assert parts["all"].measures.n == parts["jpeg:50"].measures.n == 68
    assert parts["h264:28"].measures.n == parts["kind:clip"].measures.n == 8
    assert (parts["source:alpha"].measures.n_real, parts["source:alpha"].against) == (34, "all real")
    assert parts["label:real"].measures.balanced_accuracy is None
    for part in parts.values():
        for name, interval in part.intervals.items():
            assert interval is None or interval.low - 1e-9 <= part.measures.value(name) <= interval.high + 1e-9
    assert not parts["kind:clip"].enough


def test_degraded_answers_are_kept_unit_by_unit_with_none_where_a_degradation_does_not_apply(numbers):
    scores = numbers.candidate.scores
    assert set(scores.degraded) == {"jpeg:50", "blur:2", "h264:28"}
    known = [value is not None for value in scores.degraded["h264:28"]]
    assert known == [kind == "clip" for kind in scores.kind]
    assert None not in scores.degraded["jpeg:50"]


def test_the_goals_are_what_the_slices_say(numbers):
    result = numbers.candidate
    jpeg, blur, clean = (result.slice(name) for name in ("jpeg:50", "blur:2", "all"))
    # Too few clips for h264 to count.
    lowest = min((jpeg, blur), key=lambda part: part.interval("balanced_accuracy").low)
    assert result.goals.worst_degraded == lowest.name
    ratio = lowest.measures.balanced_accuracy / clean.measures.balanced_accuracy
    assert result.goals.worst_degraded_to_clean == pytest.approx(ratio)
    assert result.goals.ece_worst == max(part.measures.ece for part in (jpeg, blur, clean))


def test_a_champion_that_looks_otherwise_reads_the_files_again(make_detector, make_files_dataset, tmp_path):
    dataset = make_files_dataset("resize32", size=32)
    candidate = make_detector(size=32, card={"view": "resize32"})
    champion = make_detector(size=48, card={"view": "crops48x2"})
    found = evaluate(dataset, candidate, tmp_path / "evaluation", champion=champion, test_degradations="none")
    assert found.candidate.scores.unit == found.champion.scores.unit
    assert found.champion.scores.probability == pytest.approx(found.candidate.scores.probability, abs=0.1)
    assert found.champion.scores.probability != found.candidate.scores.probability


def test_a_file_that_is_gone_stops_a_champion_of_another_view_in_one_line(make_detector, dataset, detector, tmp_path):
    champion = make_detector(card={"view": "crops48x2"})
    with pytest.raises(InputError, match="cannot be read again") as error:
        evaluate(dataset, detector, tmp_path / "evaluation", champion=champion, test_degradations="none")
    assert "\n" not in str(error.value)


def test_without_clips_the_page_is_silent_on_video_compression(make_dataset, detector, tmp_path):
    dataset = make_dataset(per_label=2, clips=0)
    found = evaluate(
        dataset, detector, tmp_path / "evaluation", report=tmp_path / "report", test_degradations="jpeg:50,h264:28"
    )
    assert [part.name for part in found.candidate.slices if part.by == "degradation"] == ["jpeg:50"]
    assert list(found.candidate.scores.degraded) == ["jpeg:50"]
    assert found.candidate.clips is found.candidate.worst_slice is None  # four pictures prove nothing
    assert found.candidate.goals.worst_degraded_to_clean is None


def test_an_unknown_degradation_is_refused(dataset, detector, tmp_path):
    with pytest.raises(InputError, match="'fog:3' is not known"):
        evaluate(dataset, detector, tmp_path / "evaluation", test_degradations="jpeg:50,fog:3")


def test_the_headline_is_plain_finite_floats(numbers):
    result = headline(numbers)
    assert all(type(value) is float and np.isfinite(value) for value in result.metrics.values())
    assert result.metrics["champion_roc_auc"] > 0.5
    assert result.confusion == numbers.candidate.overall.confusion
    assert len(result.roc[0]) == len(result.roc[2])


def test_the_same_evaluation_gives_the_same_numbers(dataset, detector, tmp_path):
    first = evaluate(dataset, detector, tmp_path / "first", test_degradations="noise:5")
    second = evaluate(dataset, detector, tmp_path / "second", test_degradations="noise:5")
    assert first == second
    assert first.champion is None


def test_the_page_stands_alone_and_shows_the_mistakes(judged, numbers):
    html = (judged / "report").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "Version 7" in html
    wrong = sum(numbers.candidate.overall.confusion[row][1 - row] for row in (0, 1))
    assert 0 < html.count("data:image/jpeg") <= max(wrong, 24) * 2


def test_the_note_of_the_dataset_leads_the_page(make_dataset, detector, tmp_path):
    dataset = make_dataset(card={"note": "Made by code: <not> field accuracy."})
    evaluate(dataset, detector, tmp_path / "evaluation", report=tmp_path / "report", test_degradations="none")
    assert "Made by code: &lt;not&gt; field accuracy." in (tmp_path / "report").read_text()


def test_what_needs_no_look_at_the_picture_stands_beside_the_accuracies(make_dataset, detector, tmp_path):
    tests = [{"name": name, "auc": auc, "counts": True} for name, auc in (("metadata", 0.987), ("thumbnail", 0.654))]
    dataset = make_dataset(card={"audit": {"verdict": "warn", "text": "Metadata tell the label.", "tests": tests}})
    evaluate(dataset, detector, tmp_path / "evaluation", report=tmp_path / "report", test_degradations="none")
    html = (tmp_path / "report").read_text()
    assert html.count("metadata alone 0.987, thumbnail alone 0.654") >= 1
    assert "Confound audit: shortcuts found, allowed by policy &#34;warn&#34;." in html


def test_a_test_split_of_one_label_is_refused_in_one_line(make_dataset, detector, tmp_path):
    with pytest.raises(InputError, match="holds nothing; it needs both labels"):
        evaluate(make_dataset(splits=("train",)), detector, tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()


def test_a_detector_that_was_exported_is_judged_without_tensorflow(dataset, make_detector, numbers, tmp_path):
    exported = make_detector(export=True)
    code = (
        "import sys\nfrom components.evaluation.evaluate import evaluate\n"
        "evaluate(*sys.argv[1:4], report=sys.argv[4], test_degradations='jpeg:50')\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    places = [dataset, exported, tmp_path / "evaluation", tmp_path / "report"]
    ended = subprocess.run([sys.executable, "-c", code, *map(str, places)], capture_output=True, text=True)
    assert ended.stdout == "set()\n", ended.stderr[-2000:]
    judged = EvaluationResult.read(tmp_path / "evaluation").candidate
    assert judged.scores.probability == pytest.approx(numbers.candidate.scores.probability, abs=1e-4)
    assert "where it looked" in (tmp_path / "report").read_text()
