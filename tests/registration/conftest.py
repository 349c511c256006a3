"""Detectors and evaluations as files: registration reads their cards and numbers, never the weights."""

import hashlib
import json

import pytest
from judged import evaluation


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a detector and its evaluation, and returns both paths.

    `shift` is how good it is; the champion is another's name, shift and version.
    """

    def write(name, shift=2.0, champion=None, **changes):
        model = tmp_path / name
        model.mkdir(exist_ok=True)
        (model / "model.keras").write_bytes(name.encode())
        digest = hashlib.sha256(name.encode()).hexdigest()
        card = {"format": 1, "digest": digest, "backbone": "b0", "view": "resize64", "threshold": 0.5}
        card["runtime"] = {"holds": True, "sha256": {}}
        (model / "card.json").write_text(json.dumps(card))
        path = tmp_path / f"{name}.json"
        evaluation(name, shift, champion, **changes).write(path)
        return model, path

    return write
