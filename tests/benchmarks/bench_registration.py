"""Registry and records: against the plain ways of asking MLflow and of writing one record after another."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from timing import fastest, speed_row

from components import registry, tracking
from components.records import open_records

MODEL_BYTES = 16_000_000  # of an EfficientNetB0
RECORDS = 2_000


def rows(media: Path | None, work: Path) -> Iterator[dict]:
    """Measure; `media` is not needed: what matters is the work, not what is registered."""
    model = work / "detector"
    model.mkdir()
    (model / "model.keras").write_bytes(bytes(MODEL_BYTES))
    card = {"format": 1, "digest": hashlib.sha256(b"detector").hexdigest(), "view": "resize64", "threshold": 0.5}
    (model / "card.json").write_text(json.dumps(card))
    version = registry.add_version("bench", model)
    registry.set_alias("bench", registry.CHAMPION, version.version)
    yield _champion()
    yield _records()


def _champion() -> dict:
    """Ask who is champion, as every step and every check does in a process of its own."""
    uri = tracking.tracking_uri()
    plain = (
        f"from mlflow import MlflowClient; client = MlflowClient({uri!r}, {uri!r})\n"
        "print(client.get_model_version_by_alias('bench', 'champion').version)"
    )
    ours = "from components import registry; print(registry.find('bench').version)"
    (plain_s, expected), (ours_s, found) = fastest(lambda: _answer(plain), lambda: _answer(ours))
    assert found == expected
    return speed_row("who is champion, in a fresh process", "MlflowClient", plain_s, ours_s, "registry.find", 5)


def _answer(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def _records() -> dict:
    """Write what became of each file of a dataset."""
    media = [
        {"_id": f"{number}", "dataset": "d", "path": f"{number}.jpg", "status": "accepted"} for number in range(RECORDS)
    ]
    with open_records() as records:
        [(plain_s, _)] = fastest(lambda: [records.put("media", document) for document in media])
        single = sorted(document["path"] for document in records.find("media"))
        [(ours_s, _)] = fastest(lambda: records.put_many("media", media))
        assert sorted(document["path"] for document in records.find("media")) == single
    return speed_row(f"{RECORDS:,} records of media, SQLite", "one by one", plain_s, ours_s, "all at once", 10)
