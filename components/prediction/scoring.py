"""Score a collection: what to score, shard by shard, and what came of it."""

import json
import os
from pathlib import Path

from components.errors import InputError
from components.prediction.examiner import Examiner
from components.prediction.selection import select
from components.progress import follow


def check_media(media: str | Path, model_name: str, version: str, output: str | Path) -> None:
    """Write the verdict on every file below a directory as lines of JSON.

    Args:
        media: The directory, or one file.
        model_name: Name of the registered model.
        version: Its version in the registry; empty for the champion.
        output: The file to write, there whole or not at all.

    Raises:
        InputError: There is no media, no such model, or no such version.
    """
    media, output = Path(media), Path(output)
    paths = [media] if media.is_file() else sorted(path for path in media.rglob("[!.]*") if path.is_file())
    if not paths:
        raise InputError(f"{media} holds no file; give a picture, a video, or a directory of them")
    selected = select(f"{model_name}/{version}" if version else model_name, model_name)
    part = output.with_name(f".{output.name}.part")
    with (
        Examiner(selected.directory, version=selected.version, limits=selected.limits) as examiner,
        part.open("w", encoding="utf-8") as lines,
    ):
        for path in follow(paths, "check", "files", len(paths)):
            lines.write(json.dumps(examiner.examine(path).to_json()) + "\n")
    os.replace(part, output)
