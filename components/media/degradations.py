"""What happens to pictures on their way: recompression, rescaling, blur, crops, noise.

A degradation is named KIND:STRENGTH, such as "jpeg:50", and acts on pixels as the detector sees them, so that it does
the same to every view policy and needs no media files. Both labels always get the same.
"""

import subprocess
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from components.errors import InputError

# What evaluation judges, from mild to hard within a kind; h264 is for frames of videos alone.
EVALUATED = (
    "jpeg:90",
    "jpeg:75",
    "jpeg:50",
    "jpeg:30",
    "webp:75",
    "webp:40",
    "scale:0.5",
    "scale:0.25",
    "blur:1",
    "blur:2",
    "crop:0.8",
    "noise:5",
    "h264:23",
    "h264:28",
    "h264:35",
)
WORDS = {
    "jpeg": "JPEG at quality {}",
    "webp": "WebP at quality {}",
    "scale": "scaled to {} of the side and back",
    "blur": "blur of sigma {} pixels",
    "crop": "cropped to {} of the side",
    "noise": "noise of sigma {} gray levels",
    "h264": "H.264 at crf {}",
}
# From what `draw` draws: the bounds of the strength, and whether it is a whole number.
RANGES = {
    "jpeg": (30, 95, True),
    "webp": (30, 90, True),
    "scale": (0.25, 1.0, False),
    "blur": (0.3, 2.0, False),
    "crop": (0.6, 1.0, False),
    "noise": (1.0, 8.0, False),
    "h264": (20, 37, True),
}


def parse(text: str) -> list[str]:
    """Read a list of degradations: "all" that evaluation knows, "none", or names with commas between.

    Raises:
        InputError: A name is not known.
    """
    names = {"all": list(EVALUATED), "none": []}.get(text, [name.strip() for name in text.split(",")])
    for name in names:
        _split(name)
    return names


def applies(name: str, kind: str) -> bool:
    """Say whether a degradation makes sense for a kind (picture, frame, clip)."""
    return kind != "picture" or not name.startswith("h264")


def describe(name: str) -> str:
    """Return a degradation in words for a reader."""
    kind, _, strength = name.partition(":")
    return WORDS[kind].format(strength)


def draw(random: np.random.Generator, kind: str = "picture") -> str:
    """Draw a degradation for a kind (picture, frame, clip): each KIND alike, its strength evenly."""
    names = [name for name in RANGES if applies(name, kind)]
    name = names[random.integers(len(names))]
    low, high, whole = RANGES[name]
    strength = random.integers(low, high + 1) if whole else round(random.uniform(low, high), 3)
    return f"{name}:{strength}"


def apply(name: str, pixels: np.ndarray) -> np.ndarray:
    """Degrade pictures of one size.

    Args:
        name: KIND:STRENGTH, KIND a key of RANGES: quality of jpeg and webp, factor of scale and crop (of the side,
            then brought back to it), sigma of blur (pixels) and noise (gray levels), crf of h264.
        pixels: uint8 RGB, (n, height, width, 3).

    Returns:
        The same shape; the same input always gives the same output.

    Raises:
        InputError: The name is not of that form.
    """
    kind, value = _split(name)
    if kind == "h264":
        return _h264(pixels, round(value))
    return np.stack([_ONE[kind](one, value) for one in pixels])


def _split(name: str) -> tuple[str, float]:
    kind, _, strength = name.partition(":")
    try:
        value = float(strength)
    except ValueError:
        value = float("nan")
    if kind not in RANGES or not value > 0:
        raise InputError(f"degradation {name!r} is not known; give one such as {', '.join(EVALUATED[::3])}")
    return kind, value


def _encode(extension: str, flag: int) -> Callable[[np.ndarray, float], np.ndarray]:
    def through(pixels: np.ndarray, quality: float) -> np.ndarray:
        _, encoded = cv2.imencode(extension, pixels[..., ::-1], [flag, round(quality)])
        return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    return through


def _scale(pixels: np.ndarray, factor: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = Image.fromarray(pixels).resize(small, Image.Resampling.BICUBIC)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _blur(pixels: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), sigma)


def _crop(pixels: np.ndarray, factor: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    top, left = height * (1 - factor) / 2, width * (1 - factor) / 2
    box = (left, top, width - left, height - top)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, box=box))


def _noise(pixels: np.ndarray, sigma: float) -> np.ndarray:
    # Seeded by the picture, not by its place in a batch.
    random = np.random.default_rng(int(pixels[::7, ::7].sum(dtype=np.uint64)))
    noisy = pixels + random.normal(0, sigma, pixels.shape).astype(np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


_ONE = {
    "jpeg": _encode(".jpg", cv2.IMWRITE_JPEG_QUALITY),
    "webp": _encode(".webp", cv2.IMWRITE_WEBP_QUALITY),
    "scale": _scale,
    "blur": _blur,
    "crop": _crop,
    "noise": _noise,
}


def _h264(pixels: np.ndarray, crf: int) -> np.ndarray:
    from components.media.ffmpeg import ffmpeg_executable

    count, height, width = pixels.shape[:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    # Every frame is a key frame: sampled frames lie too far apart to be predicted from one another.
    encode = [ffmpeg_executable(), "-v", "error", *raw, "-s", f"{width}x{height}", "-r", "25", "-i", "-"]
    # 4:2:0 needs even sides; the line that is added goes again after decoding.
    encode += ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-c:v", "libx264", "-crf", str(crf), "-preset", "veryfast"]
    encode += ["-pix_fmt", "yuv420p", "-g", "1", "-threads", "1", "-f", "h264", "-"]
    decode = [ffmpeg_executable(), "-v", "error", "-f", "h264", "-i", "-"]
    decode += ["-vf", f"format=rgb24,crop={width}:{height}:0:0", *raw, "-"]
    content = np.ascontiguousarray(pixels).tobytes()
    for command in (encode, decode):
        content = subprocess.run(command, input=content, capture_output=True, check=True, timeout=600).stdout
    return np.frombuffer(content, np.uint8).reshape(count, height, width, 3).copy()
