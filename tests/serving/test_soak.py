"""The service while its surroundings fail, in short; `python tests/soak.py` asks 20,000 times."""

import pytest
from soak import soak

pytestmark = [
    pytest.mark.servers,
    pytest.mark.timeout(600),
]


def test_every_request_gets_its_answer_while_the_surroundings_fail(home, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # set by the soak, and put back after it
    result = soak(tmp_path / "soak", 160, 6)
    assert result["wrong"] == []
    assert sum(result["answers"].values()) == 160
    assert result["answers"]["broken"] == result["answers"]["hangs up"] == 8
    assert len(result["events"]) >= 5
    assert result["held"] == 0
