"""A registry on a disk that is full: one line that says so, no version, and a repeat that registers one."""

import shutil

import pytest

from components import registry
from components.errors import InputError
from components.registration.register import register

pytestmark = pytest.mark.servers  # mounts a file system of its own


@pytest.mark.parametrize("free", [200_000, 20_000, 0])
def test_a_detector_that_no_longer_fits_is_not_registered_until_there_is_room(
    free, small_disk, home, empty_registry, make, monkeypatch
):
    disk = small_disk("4m")
    shutil.copy(empty_registry, disk.place / "mlflow.db")
    monkeypatch.setenv("AI_VS_REAL_HOME", str(disk.place))
    detector = make("first", 1.2)
    wanted = {"model_name": "ai-vs-real", "gate": "roc_auc+0.01,roc_auc>=0.7"}
    disk.fill(but=free)
    with pytest.raises(InputError, match=r"(No space left on device|is full).*; free space there"):
        register(*detector, **wanted)
    assert registry.versions("ai-vs-real") == []
    disk.enlarge()
    for _ in range(2):
        register(*detector, **wanted)
        assert [version.version for version in registry.versions("ai-vs-real")] == ["1"]
