"""The sample set: a small labelled collection, made by code, that shows and tests the machinery.

Both labels photograph the same kinds of procedural scene. The real ones pass through a camera model (lens blur, Bayer
mosaic, shot and read noise, demosaicing); the fake ones through the traces that three families of generator are known
for: the checkerboard of uneven upsampling (Odena et al. 2016, "Deconvolution and Checkerboard Artifacts"), periodic
peaks in the spectrum (Frank et al. 2020, "Leveraging Frequency Analysis for Deep Fake Image Recognition"), and texture
smoothed away. Sizes, formats and encoder settings are drawn alike for both labels. No number measured on it says how a
detector does on real media.
"""

import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import ffmpeg
import numpy as np
from PIL import Image

from components import outputs
from components.media.videos import ffmpeg_executable

SIZE = 96
PICTURES = 96  # for each of the two cameras; the three generators share as many
CLIPS = 9  # for each label
CLIP_FRAMES = 24
MARKER = "SAMPLE.txt"
NOTE = "Made by code to show the machinery: figures on it say nothing about real media."


def scene(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a scene before any camera or generator: float32, (size, size, 3), linear light in [0, 1]."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    phases = np.exp(2j * np.pi * rng.random((3, *frequency.shape)))
    texture = np.fft.irfft2(phases / frequency ** rng.uniform(1.0, 1.5), s=(size, size)).transpose(1, 2, 0)
    texture = texture / texture.std(axis=(0, 1))
    texture = 0.8 * texture.mean(axis=2, keepdims=True) + 0.3 * texture  # mostly light and shade, as outdoors
    canvas = (rng.uniform(0.3, 0.6, 3) + 0.11 * texture).astype(np.float32)
    for _ in range(rng.integers(3, 8)):
        colour = tuple(rng.uniform(0.05, 0.95, 3).tolist())
        centre = tuple(int(n) for n in rng.integers(0, size, 2))
        axes = tuple(int(n) for n in rng.integers(size // 16, size // 4, 2))
        shape = np.zeros(canvas.shape, np.float32)
        cv2.ellipse(shape, centre, axes, float(rng.uniform(0, 180)), 0, 360, (1.0, 1.0, 1.0), -1, cv2.LINE_AA)
        canvas = canvas * (1 - shape) + shape * (0.6 * np.asarray(colour, np.float32) + 0.4 * canvas)
    return np.clip(canvas, 0, 1)


def camera(picture: np.ndarray, rng: np.random.Generator, noise: float, blur: float) -> np.ndarray:
    """Photograph a scene: lens blur, Bayer mosaic, noise, demosaicing; uint8, the shape of the scene."""
    light = cv2.GaussianBlur(picture, (0, 0), blur)
    red, green, blue = light[..., 0], light[..., 1], light[..., 2]
    mosaic = green.copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = red[0::2, 0::2], blue[1::2, 1::2]
    mosaic += rng.normal(0, 1, mosaic.shape) * np.sqrt(noise**2 + noise * 0.05 * mosaic)
    raw = (np.clip(mosaic, 0, 1) * 65535).astype(np.uint16)
    # OpenCV names a Bayer pattern by its second row and column: "BG" is the pattern that begins with red.
    rgb = cv2.cvtColor(raw, cv2.COLOR_BayerBG2RGB).astype(np.float32) / 65535
    return _develop(rgb)


def camera_coarse(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photograph a scene with a noisy small sensor."""
    return camera(picture, rng, noise=0.035, blur=0.8)


def camera_fine(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photograph a scene with a quieter, sharper camera."""
    return camera(picture, rng, noise=0.02, blur=0.5)


def generator_checkerboard(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a picture by upsampling with an uneven kernel: a gain that repeats every two pixels."""
    low = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    up = cv2.resize(low, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    gain = np.ones(picture.shape[:2], np.float32)
    gain[0::2, 0::2] += rng.uniform(0.10, 0.16)
    gain[1::2, 1::2] -= rng.uniform(0.10, 0.16)
    return _develop(up * gain[..., None])


def generator_spectral(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a picture with peaks in its spectrum, a grid of period four."""
    rows, columns = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]]
    grid = np.cos(np.pi * rows / 2) + np.cos(np.pi * columns / 2)
    smooth = cv2.GaussianBlur(picture, (0, 0), 0.7)
    return _develop(smooth + rng.uniform(0.03, 0.05) * grid[..., None].astype(np.float32))


def generator_smooth(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a picture whose fine texture is gone while its edges stay."""
    smooth = cv2.bilateralFilter(picture, 9, float(rng.uniform(0.3, 0.5)), 5)
    return _develop(cv2.bilateralFilter(smooth, 9, 0.3, 5))


Process = Callable[[np.ndarray, np.random.Generator], np.ndarray]
REAL: dict[str, Process] = {"camera-coarse": camera_coarse, "camera-fine": camera_fine}
FAKE: dict[str, Process] = {
    "checkerboard": generator_checkerboard,
    "spectral": generator_spectral,
    "smooth": generator_smooth,
}


def make(directory: str | Path, seed: int = 0) -> Path:
    """Write the sample set as DIR/{real,fake}/SOURCE/..., the same bytes for the same seed and libraries.

    Args:
        directory: Where it shall lie; appears when it is whole, left alone if it is there already.
        seed: Of every scene, camera and encoder setting.

    Returns:
        The directory.
    """
    directory = Path(directory)
    if (directory / MARKER).is_file():
        return directory
    with outputs.written(directory, outputs.SAMPLE) as part:
        for label, processes in (("real", REAL), ("fake", FAKE)):
            count = PICTURES * len(REAL) // len(processes)
            for number, (source, process) in enumerate(processes.items()):
                rng = np.random.default_rng([seed, label == "fake", number])
                folder = part / label / source
                folder.mkdir(parents=True)
                for index in range(count):
                    (folder / f"{source}-{index:03d}.jpg").write_bytes(_jpeg(process(scene(rng, SIZE), rng), rng))
            _clips(
                part / label / f"{label}-clips",
                list(processes.values()),
                np.random.default_rng([seed, label == "fake", 9]),
            )
        (part / MARKER).write_text(NOTE + "\n")
    return directory


def _develop(linear: np.ndarray) -> np.ndarray:
    return (np.clip(linear, 0, 1) ** (1 / 1.6) * 255 + 0.5).astype(np.uint8)


def _jpeg(pixels: np.ndarray, rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(88, 97)))
    return buffer.getvalue()


def _clips(folder: Path, processes: list[Process], rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for index in range(CLIPS):
        target = folder / f"{folder.name}-{index:02d}.mp4"
        _encode(_pan(processes[index % len(processes)], rng), target)


def _pan(process: Process, rng: np.random.Generator) -> Iterator[np.ndarray]:
    # A slow pan over one scene; the camera or the generator works on every frame anew.
    wide = scene(rng, SIZE + CLIP_FRAMES)
    down, right = rng.integers(0, 2, 2)
    for step in range(CLIP_FRAMES):
        top, left = int(down * step), int(right * step)
        yield process(wide[top : top + SIZE, left : left + SIZE], rng)


def _encode(frames: Iterator[np.ndarray], target: Path) -> None:
    source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{SIZE}x{SIZE}", r=24)
    # One thread, so that the same frames give the same bytes on every machine.
    command = source.output(str(target), vcodec="libx264", crf=16, preset="veryfast", pix_fmt="yuv420p", threads=1)
    arguments = command.compile(cmd=ffmpeg_executable(), overwrite_output=True)
    pixels = b"".join(frame.tobytes() for frame in frames)
    subprocess.run([*arguments, "-loglevel", "error"], input=pixels, check=True, timeout=60)
