"""What happens to media on their way: recompression, rescaling, screenshots, second hands.

A degradation is named by its steps, KIND:STRENGTH with "+" between, such as "fit:1440+jpeg:62", and acts on the decoded
picture or frames of a file, before any view is cut. A chain ("messenger") and a tier ("web") are names too: what they
stand for is drawn anew for each file. Both labels always get the same.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from components.errors import InputError
from components.media.degradation_names import CHAINS, EVALUATED, SINGLE, TIERS, WORDS, split_steps

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
RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class _Draws:
    """The draws of a chain's strengths.

    What judges is held out from training: odd qualities against even ones, other resampling, other sizes of video.
    """

    random: np.random.Generator
    held_out: bool

    def quality(self, low: int, high: int) -> int:
        return 2 * int(self.random.integers(low // 2, high // 2)) + self.held_out

    def pixels(self, low: int, high: int) -> int:
        return 2 * int(self.random.integers(low // 2, high // 2)) + self.held_out

    def factor(self, low: float, high: float) -> float:
        return round(float(self.random.uniform(low, high)), 3)

    def often(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def video_side(self, *sides: int) -> int:
        return sides[int(self.random.integers(len(sides)))] * (9 if self.held_out else 8) // 8

    def resampling(self) -> str:
        return ("lanczos", "bilinear")[int(self.random.integers(2))] if self.held_out else "bicubic"


def parse(text: str) -> list[str]:
    """Read a list of degradations: "all" that evaluation knows, "none", or names with commas between.

    Raises:
        InputError: A name is not known.
    """
    names = {"all": list(EVALUATED), "none": []}.get(text, [name.strip() for name in text.split(",")])
    for name in names:
        if name not in TIERS and name not in CHAINS:
            _steps(name)
    return names


def applies(name: str, kind: str) -> bool:
    """Say whether a degradation makes sense for a kind (picture, frame, clip)."""
    if name in CHAINS:
        return kind == "picture" or name in ("upload", "messenger", "second-hand")
    return kind != "picture" or not name.startswith("h264")


def draw(random: np.random.Generator, kind: str = "picture") -> str:
    """Draw a single degradation for a kind (picture, frame, clip): each KIND alike, its strength evenly."""
    names = [name for name in RANGES if applies(name, kind)]
    name = names[random.integers(len(names))]
    low, high, whole = RANGES[name]
    strength = random.integers(int(low), int(high) + 1) if whole else round(random.uniform(low, high), 3)
    return f"{name}:{strength}"


def resolve(name: str, random: np.random.Generator, kind: str = "picture", *, held_out: bool = True) -> tuple[str, str]:
    """Draw what a tier or a chain does to one file.

    Args:
        name: A tier, a chain, or steps, which stand for themselves.
        random: Where the draws come from.
        kind: picture, frame or clip.
        held_out: Draw the parameters that judge, or those of training.

    Returns:
        The chain that was drawn ("" for steps), and its steps as a name.
    """
    draws = _Draws(random, held_out)
    if name in TIERS:
        chains = [chain for chain in TIERS[name] if applies(chain, kind)]
        name = chains[int(random.integers(len(chains)))]
    if name not in CHAINS:
        return "", name
    return name, "+".join(_chain(name, draws) if kind == "picture" else _video_chain(name, draws))


def _chain(name: str, draws: _Draws) -> list[str]:
    how = draws.resampling()
    if name == "upload":
        codec = "webp" if draws.often(0.3) else "jpeg"
        return [f"fit:{draws.pixels(1080, 2048)}:{how}", f"{codec}:{draws.quality(70, 90)}"]
    if name == "messenger":
        return [f"fit:{draws.pixels(1280, 1600)}:{how}", f"jpeg:{draws.quality(50, 76)}"]
    if name == "second-hand":
        first, second = (TIERS["web"][int(draws.random.integers(2))] for _ in range(2))
        between = [f"cut:{draws.factor(0.7, 0.95)}", f"resize:{draws.factor(0.6, 0.95)}:{how}"]
        return [*_chain(first, draws), *between, *_chain(second, draws)]
    if name == "screenshot":
        taken = [f"resize:{draws.factor(0.5, 0.9)}:{how}"]
        return [*taken, f"jpeg:{draws.quality(70, 96)}"] if draws.often(0.5) else taken
    if name == "frame-grab":
        grabbed = [f"fit:{draws.video_side(640, 848, 1280)}:{how}", f"h264:{draws.quality(20, 30)}"]
        return [*grabbed, f"jpeg:{draws.quality(70, 96)}"] if draws.often(0.5) else grabbed
    return [f"resize:{0.5 if draws.often(0.7) else 0.25}:{how}", f"jpeg:{draws.quality(58, 88)}"]


def _video_chain(name: str, draws: _Draws) -> list[str]:
    how = draws.resampling()
    if name == "upload":
        return [f"fit:{draws.video_side(1280, 1920)}:{how}", f"h264:{draws.quality(22, 28)}"]
    if name == "messenger":
        return [f"fit:{draws.video_side(640, 848)}:{how}", f"h264:{draws.quality(26, 32)}"]
    return [
        *_video_chain("upload", draws),
        f"resize:{draws.factor(0.6, 0.95)}:{how}",
        *_video_chain("messenger", draws),
    ]


def acts_on_files(name: str) -> bool:
    """Say whether a degradation changes the size of a picture, so that it must act on the file before views are cut."""
    if name in TIERS or name in CHAINS:
        return True
    return any(kind in ("fit", "resize", "cut") for kind, _, _ in _steps(name))


def apply(name: str, pixels: np.ndarray) -> np.ndarray:
    """Degrade a picture, or pictures of one size.

    Args:
        name: Steps: quality of jpeg and webp, pixels of fit, factor of resize and cut, factor of scale and crop (of
            the side, then brought back to it), sigma of blur (pixels) and noise (gray levels), crf of h264. Or a chain
            or a tier, drawn by the first picture's content.
        pixels: uint8 RGB, (height, width, 3) of any size, or (n, height, width, 3): the sampled frames of a video.

    Returns:
        The same number of axes; fit, resize and cut change height and width. The same input always gives the same
        output.

    Raises:
        InputError: The name is not of that form.
    """
    single = pixels.ndim == 3
    frames = pixels[None] if single else pixels
    if name in TIERS or name in CHAINS:
        random = np.random.default_rng(content_seed(frames[0]))
        name = resolve(name, random, "picture" if single else "frame")[1]
    for kind, value, how in _steps(name):
        if kind == "h264":
            frames = _h264(frames, round(value))
        else:
            frames = np.stack([_ONE[kind](frame, value, how) for frame in frames])
    return frames[0] if single else frames


def content_seed(pixels: np.ndarray) -> int:
    """Return a random seed that depends on a picture's pixels alone."""
    return int(pixels[::7, ::7].sum(dtype=np.uint64))


def _steps(name: str) -> list[tuple[str, float, str]]:
    steps = []
    for kind, strength, how in split_steps(name):
        try:
            value = float(strength)
        except ValueError:
            value = float("nan")
        if kind not in WORDS or not 0 < value < float("inf") or how not in RESAMPLING:
            known = ", ".join((*TIERS, *CHAINS, *SINGLE[::3]))
            raise InputError(f"degradation {name!r} is not known; give one such as {known}, or steps: fit:1440+jpeg:62")
        steps.append((kind, value, how))
    return steps


def _encode(extension: str, flag: int) -> Callable[[np.ndarray, float, str], np.ndarray]:
    def through(pixels: np.ndarray, quality: float, _: str) -> np.ndarray:
        encoded = cv2.imencode(extension, pixels[..., ::-1], [flag, round(quality)])[1]
        return cv2.cvtColor(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)

    return through


def _fit(pixels: np.ndarray, side: float, how: str) -> np.ndarray:
    factor = side / max(pixels.shape[:2])
    return pixels if factor >= 1 else _resize(pixels, factor, how)


def _resize(pixels: np.ndarray, factor: float, how: str) -> np.ndarray:
    height, width = pixels.shape[:2]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(pixels).resize(small, RESAMPLING[how]))


def _cut(pixels: np.ndarray, factor: float, _: str) -> np.ndarray:
    height, width = pixels.shape[:2]
    down, right = max(1, round(height * min(1.0, factor))), max(1, round(width * min(1.0, factor)))
    top, left = (height - down) // 2, (width - right) // 2
    return pixels[top : top + down, left : left + right]


def _scale(pixels: np.ndarray, factor: float, how: str) -> np.ndarray:
    height, width = pixels.shape[:2]
    image = Image.fromarray(_resize(pixels, factor, how))
    return np.asarray(image.resize((width, height), RESAMPLING[how]))


def _blur(pixels: np.ndarray, sigma: float, _: str) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), sigma)


def _crop(pixels: np.ndarray, factor: float, how: str) -> np.ndarray:
    height, width = pixels.shape[:2]
    top, left = height * (1 - factor) / 2, width * (1 - factor) / 2
    box = (left, top, width - left, height - top)
    return np.asarray(Image.fromarray(pixels).resize((width, height), RESAMPLING[how], box=box))


def _noise(pixels: np.ndarray, sigma: float, _: str) -> np.ndarray:
    # Seeded by the picture, not by its place in a batch.
    random = np.random.default_rng(content_seed(pixels))
    noisy = pixels + random.normal(0, sigma, pixels.shape).astype(np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


_ONE = {
    "jpeg": _encode(".jpg", cv2.IMWRITE_JPEG_QUALITY),
    "webp": _encode(".webp", cv2.IMWRITE_WEBP_QUALITY),
    "fit": _fit,
    "resize": _resize,
    "cut": _cut,
    "scale": _scale,
    "blur": _blur,
    "crop": _crop,
    "noise": _noise,
}


def _h264(pixels: np.ndarray, crf: int) -> np.ndarray:
    import av

    height, width = pixels.shape[1:3]
    # 4:2:0 needs even sides; the line that is added goes again after decoding.
    even = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    kept = io.BytesIO()
    with av.open(kept, "w", format="h264") as container:
        # Every frame is a key frame: sampled frames lie too far apart to be predicted from one another.
        options = {"crf": str(crf), "preset": "veryfast", "g": "1", "threads": "1"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *even.shape[1:3], "yuv420p"
        for frame in even:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    kept.seek(0)
    with av.open(kept, mode="r", format="h264") as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(decoded)[:, :height, :width]
