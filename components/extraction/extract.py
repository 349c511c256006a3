"""From labelled media to a dataset of views: every picture, and the sampled frames of every video."""

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from components import outputs
from components.dataset import DatasetWriter
from components.errors import InputError
from components.extraction.sources import MediaItem, fetch, list_media, note, shards, take
from components.media import degradation_names
from components.media.pictures import MediaError
from components.media.videos import Sampling
from components.media.view import Delivery, ViewPolicy, read_views
from components.media.workers import Reading, Workers
from components.progress import follow, say
from components.settings import DEFAULTS

# Processes that decode; more than a few only use memory.
WORKERS = min(4, os.cpu_count() or 1)
FETCHING = 16  # files at a time: a bucket answers many at once, each after a while
AHEAD_BYTES = 64 * 1024 * 1024

Row = tuple[np.ndarray, dict[str, Any]]
Policies = tuple[ViewPolicy, Sampling, Delivery, tuple[str, ...]]
STORED = (degradation_names.CLEAN, *degradation_names.TIERS)


def listing(media: str, count: int) -> list[str]:
    """Cut the media of a directory or list into shards; see `sources.shards`."""
    items = list_media(media)
    parts = shards(items, count)
    say("extract", f"{len(items):,} files in {media}, {len(parts)} shards")
    return parts


def extract(
    media: str,
    output: Path,
    *,
    sampling: str = DEFAULTS["sampling"],
    view: str = DEFAULTS["view"],
    delivery: str = DEFAULTS["delivery"],
    tiers: str = DEFAULTS["tiers"],
    shard: str = "",
    overwrite: bool = True,
) -> dict[str, Any]:
    """Write the views of the media, or of one shard of them, as a dataset of frames.

    Args:
        media: A directory or a list; see `sources.list_media`.
        output: Directory of the dataset; see `outputs.claim`.
        sampling: Which frames of a video; see `Sampling`.
        view: What of a picture is kept; see `ViewPolicy`.
        delivery: What is done to the pixels before the view; see `Delivery`.
        tiers: The tiers in which each file is stored, "clean" first, for training to learn from.
        shard: Which part of the media, as `sources.shards` writes it; "" for all.
        overwrite: Whether a dataset that is there may be replaced.

    Returns:
        The dataset's card, with the policies, and how many files were read and rejected.

    Raises:
        InputError: A parameter or the layout is wrong, or not one file could be read.
    """
    stored = parse_tiers(tiers)
    policies = ViewPolicy.parse(view), Sampling.parse(sampling), Delivery.parse(delivery), stored
    outputs.claim(output, outputs.DATASET, overwrite=overwrite, inputs=[media])
    items = take(list_media(media), shard)
    rejections = []
    with DatasetWriter(output, policies[0].shape, stored, overwrite=overwrite) as writer:
        for item, rows in follow(_in_order(items, policies), "extract", "files", len(items)):
            try:
                for views, about in rows:
                    writer.append(views, _manifest_row(item, about))
            except MediaError as error:
                rejections.append(f"{item.path}: {error}")
                writer.reject(item.path, item.label, item.source, error.reason, error.detail)
        if len(rejections) == len(items):
            raise InputError(
                f"none of the {len(items)} files of {media} could be read ({rejections[0]}); give pictures or videos"
            )
        writer.card = {"view": str(policies[0]), "sampling": str(policies[1]), "delivery": str(policies[2])}
        writer.card |= {"media": str(media), "note": note(media), "files": len(items)}
    if rejections:
        say("extract", f"left out {len(rejections)} of {len(items)} files, such as {rejections[0]}")
    return {**writer.card, "rejected": len(rejections)}


def parse_tiers(text: str) -> tuple[str, ...]:
    """Read the tiers in which a file is stored.

    Args:
        text: Names with commas between, "clean" first.

    Raises:
        InputError: A name is unknown, or clean is missing.
    """
    names = tuple(name.strip() for name in text.split(","))
    if names[0] != degradation_names.CLEAN or len(set(names)) < len(names) or not set(names) <= set(STORED):
        raise InputError(f"tiers is {text!r}; it must be {','.join(STORED)}, or clean alone, or with one of the others")
    return names


def _manifest_row(item: MediaItem, about: dict[str, Any]) -> dict[str, Any]:
    group = item.group or (item.path if about["kind"] == "frame" else about["content_sha256"])
    given = {"path": item.path, "label": item.label, "source": item.source, "split": item.split}
    return {**about, **given, "group": group, "weight": 1.0}


def _in_order(items: Sequence[MediaItem], policies: Policies) -> Iterator[tuple[MediaItem, Iterator[Row]]]:
    """Read files ahead in a few processes; give each one's rows in the order of the list.

    Of a long video only the first rows are read ahead, so that memory stays bounded.
    """
    queue = iter(items)
    fetching: deque[tuple[MediaItem, Future]] = deque()
    reading: deque[tuple[MediaItem, Reading | MediaError, contextlib.ExitStack]] = deque()
    pool = ThreadPoolExecutor(FETCHING, "fetch")
    with Workers(WORKERS, ahead_bytes=AHEAD_BYTES // (2 * WORKERS)) as workers:
        try:
            while True:
                for item in islice(queue, 2 * FETCHING - len(fetching) - len(reading)):
                    fetching.append((item, pool.submit(_fetched, item)))
                # In the order of the list, so that what is waited for was begun before what waits.
                while fetching and len(reading) < 2 * WORKERS and (not reading or fetching[0][1].done()):
                    item, future = fetching.popleft()
                    path, files = future.result()
                    begun = path if isinstance(path, MediaError) else workers.submit(read_views, path, *policies)
                    reading.append((item, begun, files))
                if not reading:
                    return
                item, begun, files = reading.popleft()
                with files:
                    yield item, _rows(begun)
        finally:
            pool.shutdown(cancel_futures=True)
            for *_, files in reading:
                files.close()


def _fetched(item: MediaItem) -> tuple[Path | MediaError, contextlib.ExitStack]:
    files = contextlib.ExitStack()
    try:
        return files.enter_context(fetch(item)), files
    except MediaError as error:
        return error, files


def _rows(begun: Reading | MediaError) -> Iterator[Row]:
    if isinstance(begun, MediaError):
        raise begun
    with contextlib.closing(begun):
        yield from begun
