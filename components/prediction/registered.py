"""The detector as MLflow serves it: from pictures and videos, as bytes, base64 or paths, to verdicts.

This module and what it imports travel inside the registered model (`components.shipping`).
"""

import base64
import binascii
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.prediction.examiner import Examiner

COLUMN = "media"
COLUMNS = ("verdict", "probability", "reason", "error")


class RegisteredDetector:
    """A registered detector, loaded.

    Args:
        directory: Where the detector lies.

    Raises:
        InputError: There is no whole detector in the directory.
    """

    def __init__(self, directory: str | Path):
        self._examiner = Examiner(directory)

    def predict(self, media: Any, params: dict[str, Any] | None = None) -> Any:
        """Answer about pictures and videos.

        Args:
            media: A DataFrame whose column `media` (or whose only column) holds them, or a list, array or Series of
                them. Each is the file's bytes, its base64 (also as a data URI), or its path.
            params: Not used.

        Returns:
            A DataFrame with a row for each: `verdict` ("real", "fake" or "unsure"; None for what cannot be read),
            `probability` of fake in [0, 1] (None for what cannot be read), `reason` of an unsure verdict, and
            `error`, why it cannot be read, else None.
        """
        import pandas

        answers = [self._answer(item) for item in _items(media)]
        return pandas.DataFrame(answers, columns=list(COLUMNS), dtype=object)

    def _answer(self, item: Any) -> tuple[str | None, float | None, str, str | None]:
        try:
            with tempfile.TemporaryDirectory() as part:
                answer = self._examiner.examine(_path(item, Path(part)))
        except (InputError, OSError) as error:
            return None, None, "", str(error)
        return answer.verdict, answer.probability, answer.reason, answer.error


def _load_pyfunc(path: str) -> RegisteredDetector:
    """What `mlflow.pyfunc` calls to load the model."""
    return RegisteredDetector(path)


def _items(media: Any) -> Iterable[Any]:
    if hasattr(media, "columns"):
        if COLUMN not in media.columns and len(media.columns) != 1:
            raise InputError(f"the columns are {list(media.columns)}; give one that is called {COLUMN}")
        return media[COLUMN if COLUMN in media.columns else media.columns[0]].tolist()
    if isinstance(media, dict):
        return _items(media[COLUMN]) if COLUMN in media else _items(next(iter(media.values())))
    return [media] if isinstance(media, str | bytes | bytearray | os.PathLike) else list(media)


def _path(item: Any, directory: Path) -> Path:
    """Return a file with one picture or video in it."""
    if isinstance(item, os.PathLike):
        item = os.fspath(item)
    if isinstance(item, str):
        if len(item) < 4096 and "\0" not in item and os.path.exists(item):
            return Path(item)
        text = item.partition(",")[2] if item.startswith("data:") else item
        try:
            item = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise InputError(f"{item[:80]!r} is neither a file that exists nor base64") from None
    if not isinstance(item, bytes | bytearray | memoryview) or not len(item):
        raise InputError(f"a {type(item).__name__} is no picture and no video; give bytes, base64 or a path")
    path = directory / "media"
    path.write_bytes(item)
    return path
