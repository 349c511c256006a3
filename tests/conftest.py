"""What tests of several rooms share: a tiny labelled collection and a run home of one's own."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from kfp.dsl import pipeline_task
from servers import (  # noqa: F401 (fixtures)
    bucket,
    bucket_emulator,
    empty_registry,
    ferretdb,
    mlflow_server,
    mongodb,
    registry_home,
    silent_address,
)
from small_disk import small_disk  # noqa: F401 (a fixture)
from tiny import write_pictures

from pipelines.local import sample

# A shell that starts tests in the background has them ignore ctrl-C, and so would the processes that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Files of a few long tests. They begin first, for a worker that is left with one at the end keeps the others waiting.
LONG = ("test_pipeline_run.py", "test_run_from_version.py", "test_train.py", "test_servers_that_fail.py")


def pytest_collection_modifyitems(items) -> None:
    """Begin with the files whose tests are long, in the order of `LONG`."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real media beside the project, where there is one."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the real media in ../shared, which is absent")
    return folder


@pytest.fixture(scope="session", autouse=True)
def nobodys_home(tmp_path_factory) -> None:
    """Keep tests that do not care where a run leaves its records away from ./runs."""
    os.environ["AI_VS_REAL_HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session", autouse=True)
def callers_by_frame() -> Iterator[None]:
    """Spare each setting of a task of a pipeline a search of the thousands of modules that a process of tests has.

    kfp reads the name of its caller, for a message, from `inspect.stack`, which looks up the module of every frame.
    """

    def stack() -> list[tuple]:
        return [("", "", 0, frame.f_code.co_name) for frame in (sys._getframe(1), sys._getframe(2))]

    with patch.object(pipeline_task, "inspect", SimpleNamespace(stack=stack)):
        yield


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty run home, and no server named."""
    monkeypatch.setenv("AI_VS_REAL_HOME", str(tmp_path / "home"))
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MONGODB_URI", "MONGODB_URI_FILE"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def tiny_media(tmp_path_factory) -> Path:
    """A labelled tree of 2 x 30 pictures of 48 x 48 pixels; read it, do not change it."""
    root = tmp_path_factory.mktemp("media")
    write_pictures(root / "real" / "camera", 30, sample.camera_coarse, 1)
    write_pictures(root / "fake" / "spectral", 30, sample.generator_spectral, 2)
    return root
