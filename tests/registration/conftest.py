"""Detectors and evaluations as files: registration reads their cards and numbers, never the weights."""

import hashlib
import json

import pytest
from judged import SHARED, result


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
        card = {"format": 1, "digest": digest, "backbone": "b0", "versions": {"keras": "3.15.1"}}
        (model / "card.json").write_text(json.dumps(card))
        theirs, their_shift, version = champion or ("", 0, "")
        judged = {
            "format": 1,
            **SHARED,
            "candidate": {**result(name, shift), **changes},
            "champion": result(theirs, their_shift) if champion else None,
            "champion_version": version,
        }
        evaluation = tmp_path / f"{name}.json"
        evaluation.write_text(json.dumps(judged))
        return model, evaluation

    return write
