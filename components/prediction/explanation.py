"""A file in the form that a heat map of all of it is made from: read in a worker process."""

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from components.explanation import overlay
from components.media.pictures import is_animation, open_image, read_picture
from components.media.videos import Sampling, read_frames
from components.media.view import Delivery, ViewPolicy
from components.runtime import Runtime

MOST = 6  # tiles along each side: what a heat map is made of, at native resolution
SIDE = 900  # pixels of the picture in a page, its longer side


def read_tiles(
    path: str | Path, view: ViewPolicy, delivery: Delivery, sampling: Sampling, moment: float | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut a picture, or a frame of a video, into tiles of the size that the network reads.

    Args:
        path: The file.
        view: Its policy: for crops the tiles are at native resolution, for resize there is one, the resized picture.
        delivery: What is done to the pixels before the view.
        sampling: Which frames of a video are read.
        moment: Of a video, the time in seconds of the frame to take.

    Yields:
        Once: the tiles, uint8, (tiles, size, size, 3); their top left corners, int64, (tiles, 2); and the picture that
        they are cut from, uint8, (height, width, 3).
    """
    pixels = _pixels(Path(path), sampling, moment)
    pixels = delivery.apply(pixels, "0" * 64)
    size = view.size
    if view.kind == "resize":
        tile = view.views(pixels)[0]
        yield tile[None], np.zeros((1, 2), np.int64), tile
        return
    height, width = pixels.shape[:2]
    scale = max(1.0, size / min(height, width))
    if scale > 1:
        pixels = cv2.resize(pixels, (max(size, round(width * scale)), max(size, round(height * scale))))
    # Of a picture larger than the tiles cover, the middle.
    longest = MOST * size
    top, left = max(0, pixels.shape[0] - longest) // 2, max(0, pixels.shape[1] - longest) // 2
    pixels = np.ascontiguousarray(pixels[top : top + longest, left : left + longest])
    corners = [(y, x) for y in _starts(pixels.shape[0], size) for x in _starts(pixels.shape[1], size)]
    tiles = np.stack([pixels[y : y + size, x : x + size] for y, x in corners])
    yield tiles, np.array(corners), pixels


def _pixels(path: Path, sampling: Sampling, moment: float | None) -> np.ndarray:
    image = open_image(path)
    if image is not None:
        with contextlib.closing(image):
            picture = not is_animation(image)
        if picture:
            return read_picture(path).pixels
    frames = read_frames(path, sampling)
    return min(frames, key=lambda frame: abs(frame[0] - (moment or 0.0)))[1]


def _starts(length: int, size: int) -> list[int]:
    count = -(-length // size)
    return [round(number * (length - size) / max(1, count - 1)) for number in range(count)]


def heat_map(runtime: Runtime, tiles: np.ndarray, corners: np.ndarray, pixels: np.ndarray) -> str | None:
    """Colour a picture by where it looks fake and real.

    Args:
        runtime: Loaded with its depths.
        tiles: As `read_tiles` gives them, with the next two.
        corners: Of the tiles.
        pixels: The picture.

    Returns:
        A PNG as a data URI; None where the detector's head allows no such map.
    """
    maps = runtime.heat_maps(tiles)
    if maps is None:
        return None
    total, count = np.zeros(pixels.shape[:2], np.float32), np.zeros(pixels.shape[:2], np.float32)
    size = tiles.shape[1]
    for (top, left), values in zip(corners, maps, strict=True):
        total[top : top + size, left : left + size] += values
        count[top : top + size, left : left + size] += 1
    heat = cv2.GaussianBlur(total / np.maximum(count, 1), (0, 0), size / 32)
    return _png(overlay(pixels, heat, float(np.percentile(np.abs(heat), 99)) or 1.0))


def _png(pixels: np.ndarray) -> str:
    scale = SIDE / max(pixels.shape[:2])
    if scale < 1:
        shape = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
        pixels = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
    content: Any = cv2.imencode(".png", pixels[..., ::-1])[1]
    return f"data:image/png;base64,{base64.b64encode(content.tobytes()).decode()}"
