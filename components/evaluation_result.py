"""Contract: evaluation.json, what a detector was judged on and what came of it.

`evaluate` writes it, the gate and the pages read it:

    result = EvaluationResult.read(path)
    result.candidate.overall.roc_auc
    result.candidate.worst_slice.words

The metrics, the rule for the worst slice and the words for a slice are written here and nowhere else. Importing this
module loads neither OpenCV nor a model.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.media import degradation_names
from components.media.degradation_names import CLEAN

FORMAT = 2
LEVEL = 0.95  # confidence of every interval
ENOUGH = 10  # units of each label, below which a slice is shown but never called the worst


@dataclass(frozen=True)
class Metric:
    """A number that sums up a detector's answers.

    Attributes:
        name: As it is written in gates, in JSON and in the tracking server.
        title: As a person reads it.
        definition: What it means, in a sentence.
        greater_is_better: Whether a larger value is the better one.
        can_be_beaten: Whether a gate may ask a challenger to beat the champion on it.
        can_be_bounded: Whether a gate may state a floor or a cap for it.
    """

    name: str
    title: str
    definition: str
    greater_is_better: bool = True
    can_be_beaten: bool = True
    can_be_bounded: bool = True


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "roc_auc", "ROC AUC", "The probability that a fake gets a higher probability of fake than a real file does."
        ),
        Metric("average_precision", "average precision", "The area under the curve of precision over recall of fakes."),
        Metric(
            "balanced_accuracy",
            "balanced accuracy",
            "The mean of the accuracies on real and on fake media; 0.5 is guessing.",
        ),
        Metric("accuracy", "accuracy", "The share of answers that are right."),
        Metric("accuracy_real", "accuracy on real media", "The share of real media that are called real."),
        Metric("accuracy_fake", "accuracy on fake media", "The share of fake media that are called fake."),
        Metric(
            "false_positive_rate",
            "false positive rate",
            "The share of real media that are called fake.",
            greater_is_better=False,
            can_be_beaten=False,
        ),
        Metric(
            "ece",
            "calibration error (ECE)",
            "The mean distance between the probability that was stated and the share that came true.",
            greater_is_better=False,
            can_be_beaten=False,
        ),
        Metric(
            "eer",
            "equal error rate",
            "The error rate at the threshold where as many real media are called fake as fakes are called real.",
            greater_is_better=False,
            can_be_beaten=False,
        ),
        Metric(
            "confidently_wrong",
            "confidently wrong on left-out sources",
            "The largest share of a source, left out of training, that is answered wrongly; needs --cross-source.",
            greater_is_better=False,
            can_be_beaten=False,
        ),
    )
}
HEADLINE = ("roc_auc", "average_precision", "balanced_accuracy", "accuracy_real", "accuracy_fake", "ece", "eer")
WORST_BY = "balanced_accuracy"  # what a threshold does on a slice, not how it ranks
WORST_RULE = (
    f"The worst slice is the one whose {METRICS[WORST_BY].title} has the lowest lower end of its {LEVEL:.0%} interval, "
    f"among the slices with at least {ENOUGH} units of each of their labels."
).replace("95%", "95 %")


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        method: How it was computed: "bootstrap" over groups, "exact", or "conservative" (covers at least as often as
            it says).
    """

    low: float
    high: float
    method: str = "bootstrap"


@dataclass(frozen=True)
class Measures:
    """What was measured of a detector's answers on some units; None where the labels leave a measure undefined.

    Attributes:
        n: Number of units: pictures and clips.
        n_real: Real ones among them.
        n_fake: Fake ones among them.
        confusion: [[real called real, real called fake], [fake called real, fake called fake]].
    """

    n: int
    n_real: int
    n_fake: int
    roc_auc: float | None = None
    average_precision: float | None = None
    balanced_accuracy: float | None = None
    accuracy: float | None = None
    accuracy_real: float | None = None
    accuracy_fake: float | None = None
    ece: float | None = None
    eer: float | None = None
    confusion: list[list[int]] = field(default_factory=lambda: [[0, 0], [0, 0]])

    @property
    def false_positive_rate(self) -> float | None:
        """The share of real media that are called fake."""
        return None if self.accuracy_real is None else 1 - self.accuracy_real

    def value(self, metric: str) -> float | None:
        """Return the value of a metric by its name, a key of METRICS."""
        return getattr(self, METRICS[metric].name)


@dataclass(frozen=True)
class SliceResult:
    """A part of the test split, or all of it under a degradation.

    Attributes:
        name: "all", BY:VALUE such as "source:flux", or a degradation such as "jpeg:50".
        by: What it is sliced by: all, label, kind, source, size or degradation.
        against: The units of the other label that a slice of one label is measured against, in words; else empty.
        enough: Whether it holds enough units to be called the worst.
        measures: What was measured on it.
        ece_by_chance: The ECE below which perfect probabilities stay 19 times in 20 on as few units.
        intervals: By metric; None where no interval is defined.
    """

    name: str
    by: str
    enough: bool
    measures: Measures
    intervals: dict[str, Interval | None]
    ece_by_chance: float | None = None
    against: str = ""

    @property
    def words(self) -> str:
        """The slice in words."""
        return in_words(self.name)

    def interval(self, metric: str) -> Interval | None:
        """Return the interval of a metric; None where it has none."""
        if metric == "false_positive_rate":
            right = self.intervals.get("accuracy_real")
            return right and Interval(1 - right.high, 1 - right.low, right.method)
        return self.intervals.get(metric)


@dataclass(frozen=True)
class Band:
    """The probabilities of fake between which the answer is "unsure".

    Attributes:
        low: Below it the answer is real.
        high: From it on the answer is fake.
        false_positive_rate: Share of real media that may be called fake, as it was stated in training; None if it was
            not.
        false_negative_rate: Share of fakes that may be called real, likewise.
    """

    low: float
    high: float
    false_positive_rate: float | None = None
    false_negative_rate: float | None = None


@dataclass(frozen=True)
class Banded:
    """The answers when those inside the band are "unsure"; rates are None where there are no such units.

    Attributes:
        coverage: Share of units that are answered.
        error: Share of the answers that are wrong.
        false_positive_rate: Share of all real units that are called fake.
        true_positive_rate: Share of all fake units that are called fake.
        unsure_real: Share of all real units without an answer.
        unsure_fake: Share of all fake units without an answer.
    """

    coverage: float
    error: float | None
    false_positive_rate: float | None
    true_positive_rate: float | None
    unsure_real: float | None
    unsure_fake: float | None


@dataclass(frozen=True)
class RiskCoverage:
    """The error among the answers when only the surest are given.

    Attributes:
        coverage: Shares of units answered, ascending.
        error: The share of wrong answers at each of them.
        error_full: Where everything is answered.
        error_at_80: Where 80 % are answered.
        ratio_80: The second over the first; None where no error is made.
        area: Under the curve.
        banded: What the detector's own band does.
    """

    coverage: list[float]
    error: list[float]
    error_full: float
    error_at_80: float
    ratio_80: float | None
    area: float
    banded: Banded


@dataclass(frozen=True)
class Selective:
    """What is gained by not answering everything, on clean media and on degraded ones (None if none were judged)."""

    band: Band
    clean: RiskCoverage
    degraded: RiskCoverage | None = None

    @property
    def parts(self) -> dict[str, RiskCoverage]:
        """The curves that there are, by the words for their media."""
        both = {"as delivered": self.clean, "degraded": self.degraded}
        return {name: curve for name, curve in both.items() if curve}


@dataclass(frozen=True)
class ClipAnswers:
    """Clips measured by their own calibrated aggregate, and by the mean of their frames' probabilities."""

    aggregate: Measures
    mean: Measures


@dataclass(frozen=True)
class Clips:
    """The clips, as delivered and degraded (None if no degradation was judged)."""

    clean: ClipAnswers
    degraded: ClipAnswers | None = None


@dataclass(frozen=True)
class Goals:
    """The few numbers that sum up how a detector stands degradation; None where nothing was judged.

    Attributes:
        clean_balanced_accuracy: On media as delivered.
        degraded_mean_balanced_accuracy: Its mean over the degradations.
        worst_degraded: The degradation that the rule for the worst slice picks.
        worst_degraded_to_clean: The share of the clean balanced accuracy that is left there.
        ece_worst: The largest ECE, clean or degraded.
        error_at_80_to_full: Of degraded media, the error at 80 % coverage over the error at full coverage.
    """

    clean_balanced_accuracy: float | None
    degraded_mean_balanced_accuracy: float | None
    worst_degraded: str | None
    worst_degraded_to_clean: float | None
    ece_worst: float | None
    error_at_80_to_full: float | None


@dataclass(frozen=True)
class LeftOutSource:
    """A source judged with and without it in training, against all test units of the other label.

    Attributes:
        source: Its name.
        label: real or fake.
        n: Its units, all of them: none of them is seen.
        seen: Trained with it; `accuracy` is of the source alone. On its test units.
        unseen: Trained without it and its family, likewise. On all its units.
        familiarity_auc: How well familiarity tells it from known media: the probability that a unit of it is less
            familiar than a known test unit. None where familiarity could not be fitted, like the next two.
        wrong: Share of it that is answered wrongly.
        right: Share of it that is answered rightly; the rest is "unsure".
    """

    source: str
    label: str
    n: int
    seen: Measures
    unseen: Measures
    familiarity_auc: float | None = None
    wrong: float | None = None
    right: float | None = None


@dataclass(frozen=True)
class Scores:
    """Every unit's answer, all lists in one order.

    Attributes:
        unit: The file, as the manifest names it.
        group: What the bootstrap draws together.
        label: 0 real, 1 fake.
        kind: picture or clip.
        source: Camera or generator.
        probability: Of fake, on media as delivered.
        degraded: The same under each degradation; None where it does not apply to the unit.
    """

    unit: list[str]
    group: list[str]
    label: list[int]
    kind: list[str]
    source: list[str]
    probability: list[float]
    degraded: dict[str, list[float | None]] = field(default_factory=dict)

    @property
    def conditions(self) -> dict[str, list[float | None]]:
        """The probabilities by condition: clean, and under each degradation."""
        return {CLEAN: list(self.probability), **self.degraded}


@dataclass(frozen=True)
class SourceAnswers:
    """The verdicts on one source.

    Attributes:
        source: Its name; "all" for all of them.
        label: real, fake, or both.
        n: Number of units.
        answered: Share with a verdict other than "unsure".
        wrong: Share, of all its units, with the verdict of the other label: wrong with confidence.
        unfamiliar: Share that was unlike the training media.
    """

    source: str
    label: str
    n: int
    answered: float
    wrong: float
    unfamiliar: float

    @property
    def wrong_of_answered(self) -> float:
        """Share of the answered that are wrong; 0 where nothing is answered."""
        return self.wrong / self.answered if self.answered else 0.0


@dataclass(frozen=True)
class ConditionAnswers:
    """The verdicts under one condition, probability and familiarity together.

    Attributes:
        name: "clean" or a degradation.
        all: On all units.
        by_source: On each source.
        least_familiar: The units, by path, that are least like the training media, the least familiar first.
    """

    name: str
    all: SourceAnswers
    by_source: list[SourceAnswers]
    least_familiar: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DetectorResult:
    """What came of one detector.

    Attributes:
        digest: Of the detector.
        backbone: Its architecture.
        recipe: How it was trained.
        view: What it sees of a file.
        threshold: Probability of fake from which its answer is fake.
        overall: Measures on all units as delivered.
        by_kind: The same by kind: picture, clip.
        by_label: The same by label: real, fake.
        by_source: The same by source.
        slices: Parts of the test split, and all of it under each degradation.
        selective: What is gained by not answering everything.
        clips: How clips are answered; None without any.
        goals: How it stands degradation, in a few numbers.
        cross_source: Each source left out of training; None where that was not asked for or is not possible.
        answers: The verdicts as delivered and in each tier; empty where familiarity was not measured.
        limits: What it must not be used for, in sentences, the gravest first.
        scores: Every unit's answer.
    """

    digest: str
    threshold: float
    overall: Measures
    slices: list[SliceResult]
    scores: Scores
    selective: Selective
    goals: Goals
    by_kind: dict[str, Measures]
    by_label: dict[str, Measures]
    by_source: dict[str, Measures]
    backbone: str = ""
    recipe: str = ""
    view: str = ""
    clips: Clips | None = None
    cross_source: list[LeftOutSource] | None = None
    answers: list[ConditionAnswers] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)

    @property
    def worst_slice(self) -> SliceResult | None:
        """The slice that the rule for the worst one picks; None where no slice holds enough units."""
        return worst_slice(self.slices)

    @property
    def confidently_wrong(self) -> float | None:
        """The largest share of a left-out source that is answered wrongly; None where that was not measured."""
        return max((part.wrong for part in self.cross_source or [] if part.wrong is not None), default=None)

    def value(self, metric: str) -> float | None:
        """Return the value of a metric by its name, a key of METRICS."""
        return self.confidently_wrong if metric == "confidently_wrong" else self.overall.value(metric)

    def slice(self, name: str) -> SliceResult | None:
        """Return a slice by its name; None where there is none."""
        return next((part for part in self.slices if part.name == name), None)


@dataclass(frozen=True)
class Judged:
    """One detector's result with what it was judged on, as the gate compares two of them.

    Attributes:
        result: What came of it.
        dataset_digest: Of the dataset.
        rows_digest: Of the test rows.
        certificate: The dataset's split certificate; None if it has none.
        audit: The dataset's confound audit; None if it has none.
        note: What the dataset says of itself.
        version: In the registry; empty where it has none yet.
    """

    result: DetectorResult
    dataset_digest: str
    rows_digest: str
    certificate: dict[str, Any] | None = None
    audit: dict[str, Any] | None = None
    note: str = ""
    version: str = ""


@dataclass(frozen=True)
class EvaluationResult:
    """Everything in evaluation.json.

    Attributes:
        dataset_digest: Of the dataset.
        rows_digest: Of the test rows: the same rows, seen in whatever way, have the same.
        candidate: The detector that is judged.
        champion: The one that it has to beat, on the same rows; None where there is none.
        champion_version: Its version in the registry; empty where there is none.
        certificate: As in the dataset's card.
        audit: As in the dataset's card.
        note: What the dataset says of itself.
        format: Version of this contract.
    """

    dataset_digest: str
    rows_digest: str
    candidate: DetectorResult
    champion: DetectorResult | None = None
    champion_version: str = ""
    certificate: dict[str, Any] | None = None
    audit: dict[str, Any] | None = None
    note: str = ""
    format: int = FORMAT

    @property
    def sides(self) -> tuple[Judged, Judged | None]:
        """The candidate and the champion (None where there is none), each with what both were judged on."""
        shared = {
            name: getattr(self, name) for name in ("dataset_digest", "rows_digest", "certificate", "audit", "note")
        }
        champion = Judged(self.champion, version=self.champion_version, **shared) if self.champion else None
        return Judged(self.candidate, **shared), champion

    @classmethod
    def read(cls, path: str | Path) -> "EvaluationResult":
        """Read an evaluation and check it against this contract.

        Args:
            path: A file that `write` wrote.

        Raises:
            InputError: The file cannot be read, has another format version, or is no evaluation.
        """
        again = "make it again with: ai-vs-real evaluate MODEL DATASET"
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not an evaluation ({error}); {again}") from error
        version = content.get("format") if isinstance(content, dict) else None
        if version is None:
            raise InputError(f"{path} is not an evaluation: it states no format version; {again}")
        if version != FORMAT:
            raise InputError(f"{path} has format version {version!r}, and {FORMAT} is what can be read; {again}")
        return _checked(content, path, again)

    def write(self, path: str | Path) -> None:
        """Check the evaluation against this contract and write it as JSON: whole or not at all.

        Args:
            path: The file; its directory is made.

        Raises:
            InputError: A value does not fit this contract.
        """
        path, text = Path(path), self.to_json()
        _checked(json.loads(text), path, "this is a defect of the evaluation")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)

    def to_json(self) -> str:
        """Return the evaluation as JSON text; equal evaluations give equal text."""
        return json.dumps(as_plain(self), allow_nan=False)


def worst_slice(slices: Iterable[SliceResult]) -> SliceResult | None:
    """Pick the worst slice by the one rule for it, WORST_RULE.

    The lower end of the interval and not the value decides, so that a slice of few units is not cleared by luck. The
    whole test split counts only where no part of it holds enough units.

    Args:
        slices: The slices of a detector.

    Returns:
        The slice; None where none holds enough units.
    """

    def lower_end(part: SliceResult) -> float:
        interval = part.interval(WORST_BY)
        return interval.low if interval else 1.0

    eligible = [part for part in slices if part.enough and part.interval(WORST_BY)]
    return min([part for part in eligible if part.by != "all"] or eligible, key=lower_end, default=None)


SLICED_BY = {
    "all": "all media as delivered",
    "label": "{} media",
    "kind": "{}s",
    "source": "source {}",
    "size": "short side {}",
}


def in_words(name: str) -> str:
    """Put the name of a slice, a condition or a degradation into words.

    Args:
        name: As in `SliceResult.name`, or "clean"; the words for degradations are those of `degradation_names`.
    """
    by, _, value = name.partition(":")
    if by == "size":
        low, _, high = value.removesuffix("px").partition("-")
        limits = f"of {low}\N{EN DASH}{high} px" if low != "0" else f"up to {high} px"
        value = limits if high else f"of {low.removesuffix('px+')} px or more"
    return SLICED_BY[by].format(value) if by in SLICED_BY else degradation_names.describe(name)


def audit_in_words(audit: Mapping[str, Any] | None) -> str:
    """Sum up the confound audit of a dataset in a sentence or two.

    Args:
        audit: As in the dataset's card; None if it has none.
    """
    if not audit:
        return "Confound audit: the dataset has none."
    count = sum(bool(test.get("exceeds")) for test in audit.get("tests", []))
    shortcuts = f"{count} shortcut{'' if count == 1 else 's'}" if count else "shortcuts"
    if audit["verdict"] == "pass":
        return "Confound audit: no shortcuts found."
    allowed = "allowed" if audit["verdict"] == "warn" else "not allowed"
    return f'Confound audit: {shortcuts} found, {allowed} by policy "{audit["verdict"]}". See the data report.'


def change(metric: str, ours: float | None, theirs: float | None) -> tuple[float, bool] | None:
    """Compare two values of a metric.

    Args:
        metric: A key of METRICS.
        ours: The value of the challenger.
        theirs: The value of the champion.

    Returns:
        The difference, and whether it is for the better; None where a value is undefined.
    """
    if ours is None or theirs is None:
        return None
    return ours - theirs, (ours > theirs) == METRICS[metric].greater_is_better


def as_plain(value: Any) -> Any:
    """Return a value of this contract as what JSON can hold: no dataclasses, no NaN."""
    if dataclasses.is_dataclass(value):
        return {entry.name: as_plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(entry) for entry in value]
    return None if isinstance(value, float) and value != value else value


@functools.cache
def _schema() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(EvaluationResult)


def _checked(content: Any, path: str | Path, advice: str) -> EvaluationResult:
    from pydantic import ValidationError

    try:
        return _schema().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path} is not an evaluation: {place}: {first['msg']}; {advice}") from error
