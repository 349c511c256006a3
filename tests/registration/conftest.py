"""Detectors and evaluations as files: registration reads their cards and numbers, never the weights."""

import hashlib
import json

import pytest


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a detector and its evaluation, and returns both paths."""

    def write(name, roc_auc=0.9, *, champion=None, champion_version="", **overall):
        digest = hashlib.sha256(name.encode()).hexdigest()
        model = tmp_path / name
        model.mkdir(exist_ok=True)
        (model / "model.keras").write_bytes(name.encode())
        (model / "card.json").write_text(json.dumps({"format": 1, "digest": digest, "versions": {"keras": "3.15.1"}}))
        judged = {
            "format": 1,
            "dataset_digest": "d" * 64,
            "rows_digest": "r" * 64,
            "candidate": {"digest": digest, "overall": {**GOOD, "roc_auc": roc_auc, **overall}},
            "champion": champion and {"digest": "c" * 64, "overall": {**GOOD, "roc_auc": champion}},
            "champion_version": champion_version,
        }
        evaluation = tmp_path / f"{name}.json"
        evaluation.write_text(json.dumps(judged))
        return model, evaluation

    return write


GOOD = {
    "n": 200,
    "roc_auc": 0.9,
    "average_precision": 0.9,
    "balanced_accuracy": 0.8,
    "accuracy_real": 0.8,
    "accuracy_fake": 0.8,
    "ece": 0.05,
}
