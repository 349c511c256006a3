"""The pages of a run together: each leads to the others and says which run it belongs to; the index sums the run up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.evaluation_result import METRICS, WORST_BY, DetectorResult, SliceResult
from components.page import parts
from components.page.slices import ends

PAGES = {
    "index": ("Overview", ""),
    "decision": ("Decision", "What the gate asked, and how the detector compares with the champion."),
    "evaluation": ("Evaluation", "How well it does, slice by slice, and its worst mistakes."),
    "data": ("Data", "What it was trained and judged on: splits, duplicates, shortcuts."),
    "training": ("Training", "Learning curves and settings."),
}


@dataclass(frozen=True)
class About:
    """What identifies a run.

    Attributes:
        run_id: Of the run.
        date: When it was started, such as "2026-01-31 15:00 UTC".
        commit: The revision of the code, in words.
        dataset: Digest of the dataset, and its version in the data repository where it has one.
        version: Of the model that the run registered, in the registry.
    """

    run_id: str
    date: str
    commit: str
    dataset: str
    version: str

    def __str__(self) -> str:
        return (
            f"Run {self.run_id} · {self.date} · commit {self.commit} · dataset {self.dataset} · "
            f"model version {self.version}"
        )


def bind(name: str, html: str, about: About) -> str:
    """Return a page with the header of its run: the way to the other pages, and what identifies the run.

    Args:
        name: A key of PAGES.
        html: The page, as `parts.page` made it.
        about: The run.
    """
    links = [(title, f"{key}.html", key == name) for key, (title, _) in PAGES.items()]
    return html.replace(parts.RUN_MARK, parts.run_header(links, str(about)), 1)


def index(
    about: About,
    decision: str,
    reasons: Sequence[str],
    result: DetectorResult,
    files: int,
    note: str = "",
) -> str:
    """Return the page that sums a run up: the decision, three numbers, the gravest limit, and the way to the rest.

    Args:
        about: The run.
        decision: promoted or refused.
        reasons: The checks that decided, as clauses.
        result: What came of the detector.
        files: Number of files in the dataset.
        note: What must not be missed.
    """
    everything, worst = result.slice("all"), result.worst_slice
    numbers = {
        METRICS["roc_auc"].title: _figure("roc_auc", everything),
        METRICS[WORST_BY].title: _figure(WORST_BY, everything),
        f"{METRICS[WORST_BY].title} in the worst slice" + (f": {worst.words}" if worst else ""): _figure(
            WORST_BY, worst
        ),
    }
    page = parts.page(
        f"{decision.capitalize()}: model version {about.version}",
        [
            parts.numbers(numbers),
            parts.section("The gravest limit", result.limits[0]) if result.limits else "",
            parts.section("Why", parts.bullets(parts.sentence(reason) for reason in reasons)),
            parts.links([(title, f"{name}.html", words) for name, (title, words) in PAGES.items() if words]),
        ],
        lead=f"Trained and judged on {files:,} files, {result.overall.n:,} of them in the test split.",
        notice=note,
    )
    return bind("index", page, about)


def _figure(metric: str, part: SliceResult | None) -> Any:
    value, interval = (part.measures.value(metric), part.interval(metric)) if part else (None, None)
    return parts.with_small(parts.reading(value), f"95 %: {ends(interval)}") if interval else value
