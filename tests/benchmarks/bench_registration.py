"""Registry and records: against the plain ways of asking MLflow and of writing one record after another."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from components import registry
from components.records import open_records

MODEL_BYTES = 16_000_000  # of an EfficientNetB0
RECORDS = 2_000


def rows(media: Path | None, work: Path) -> Iterator[dict]:
    """Measure; `media` is not needed: what matters is the work, not what is registered."""
    model = work / "detector"
    model.mkdir()
    (model / "model.keras").write_bytes(bytes(MODEL_BYTES))
    card = {"format": 1, "digest": hashlib.sha256(b"detector").hexdigest(), "versions": {"keras": "3.15.1"}}
    (model / "card.json").write_text(json.dumps(card))
    version = registry.add_version("bench", model)
    registry.set_alias("bench", registry.CHAMPION, version.version)
    yield _champion()
    yield _records()


def _champion() -> dict:
    """Ask who is champion, as every step and every check does in a process of its own."""
    uri = registry.tracking_uri()
    plain = (
        f"from mlflow import MlflowClient; client = MlflowClient({uri!r}, {uri!r})\n"
        "print(client.get_model_version_by_alias('bench', 'champion').version)"
    )
    ours = "from components import registry; print(registry.find('bench').version)"
    before, after = (_seconds(lambda code=code: _answer(code)) for code in (plain, ours))
    assert _answer(plain) == _answer(ours)
    return _row("who is champion, in a fresh process", "MlflowClient", before, after, "registry.find", 5.0)


def _answer(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def _records() -> dict:
    """Write what became of each file of a dataset."""
    media = [{"_id": f"{number}", "path": f"real/{number}.jpg", "status": "accepted"} for number in range(RECORDS)]
    with open_records() as records:
        before = _seconds(lambda: [records.put("media", document) for document in media])
        single = sorted(document["path"] for document in records.find("media"))
        after = _seconds(lambda: records.put_many("media", media))
        assert sorted(document["path"] for document in records.find("media")) == single
    return _row(f"{RECORDS:,} records of media, SQLite", "one by one", before, after, "all at once", 10.0)


def _seconds(work: Callable[[], object]) -> float:
    found = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def _row(name: str, plain: str, before: float, after: float, ours: str, goal: float) -> dict:
    ratio = before / after
    return {
        "name": name,
        "baseline": f"{plain}: {before:.2f} s",
        "ours": f"{ours}: {after:.2f} s",
        "ratio": ratio,
        "goal": f">= {goal:g}x",
        "met": ratio >= goal,
    }
