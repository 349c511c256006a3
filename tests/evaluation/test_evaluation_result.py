"""The contract of evaluation.json: what is written is read, and what is not one is refused in one line."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from judged import evaluation, result

from components.errors import InputError
from components.evaluation_result import (
    METRICS,
    EvaluationResult,
    Interval,
    Measures,
    as_plain,
    change,
    in_words,
    worst_slice,
)
from components.media import degradation_names


@pytest.fixture(scope="module")
def judged():
    return evaluation("second", 2.5, ("first", 1.2, "1"))


def test_what_is_written_is_read(judged, tmp_path):
    judged.write(tmp_path / "place" / "evaluation.json")
    assert EvaluationResult.read(tmp_path / "place" / "evaluation.json") == judged
    assert list((tmp_path / "place").iterdir()) == [tmp_path / "place" / "evaluation.json"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: content.update(format=1), "has format version 1, and 2 is what can be read"),
        (lambda content: content.pop("format"), "states no format version"),
        (lambda content: content["candidate"].pop("overall"), "candidate.overall: Field required"),
        (lambda content: content["candidate"]["slices"][1]["measures"].update(n="many"), r"slices\.1\.measures\.n"),
    ],
)
def test_another_form_is_refused_in_one_line(judged, tmp_path, change, problem):
    content = as_plain(judged)
    change(content)
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=problem) as error:
        EvaluationResult.read(tmp_path / "evaluation.json")
    assert "\n" not in str(error.value)
    assert "ai-vs-real evaluate" in str(error.value)


def test_a_result_that_does_not_fit_the_contract_is_not_written(judged, tmp_path):
    wrong = replace(judged, candidate=replace(judged.candidate, threshold="half"))
    with pytest.raises(InputError, match=r"candidate\.threshold"):
        wrong.write(tmp_path / "evaluation.json")
    assert not list(tmp_path.iterdir())


def test_the_lowest_lower_end_and_not_the_lowest_value_is_the_worst():
    base = result("detector", 2.0).slices[1]

    def part(name, value, low, **changes):
        measures = replace(base.measures, balanced_accuracy=value)
        return replace(base, name=name, measures=measures, intervals={"balanced_accuracy": Interval(low, 1)}, **changes)

    blur, scale = part("blur:2", 0.583, 0.55), part("scale:0.25", 0.600, 0.52)
    everything, few = part("all", 0.5, 0.4, by="all"), part("noise:5", 0.2, 0.0, enough=False)
    undefined = replace(blur, name="label:real", intervals={"balanced_accuracy": None})
    assert worst_slice([everything, blur, few, scale, undefined]) == scale
    assert worst_slice([everything, few]) == everything
    assert worst_slice([few, undefined]) is None


def test_every_metric_has_a_value_and_a_definition():
    measured = Measures(4, 2, 2, 1, 1, 1, 1, accuracy_real=0.75, accuracy_fake=1, ece=0, eer=0)
    for name, metric in METRICS.items():
        # That metric is of sources left out, and so of a whole result.
        assert name == "confidently_wrong" or measured.value(name) is not None
        assert metric.definition.endswith(".")
    assert measured.value("false_positive_rate") == 0.25
    assert change("ece", 0.1, 0.2) == (pytest.approx(-0.1), True)
    assert change("roc_auc", 0.1, 0.2) == (pytest.approx(-0.1), False)
    assert change("roc_auc", None, 0.2) is None


def test_slices_have_words_for_people():
    assert in_words("jpeg:50") == "JPEG at quality 50"
    assert in_words("kind:clip") == "clips"
    assert in_words("source:my:camera") == "source my:camera"
    assert in_words("size:0-319px") == "short side up to 319 px"
    assert in_words("size:320-639px") == "short side of 320–639 px"
    assert in_words("size:1080px+") == "short side of 1080 px or more"
    assert in_words("clean") == "as delivered"
    assert in_words("messenger") == "sent by a messenger"
    for name in degradation_names.EVALUATED:
        assert in_words(name) != name


def test_the_contract_loads_neither_opencv_nor_a_model():
    code = "import sys, components.evaluation_result; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert "components.evaluation_result" in loaded
    assert not {"cv2", "PIL", "keras", "sklearn"} & set(loaded)
