"""What delivery leaves in pixels: the block grid, compression, resampling, and how well a view packs."""

import functools

import cv2
import numpy as np

QUALITIES = (50, 60, 70, 80, 90)
BANDS = 8


def traces(view: np.ndarray) -> dict[str, dict[str, float]]:
    """Measure one view: a dict of features for each kind of trace, and its thumbnail.

    Args:
        view: uint8, (size, size, 3).
    """
    gray = cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)
    return {
        "thumbnail": _thumbnail(view),
        "size": {"bytes per pixel, lossless": _lossless_bytes_per_pixel(view)},
        "blocks": _block_grid(gray.astype(np.float32)),
        "quality": _jpeg_quality(gray),
        "spectrum": _spectrum(gray.astype(np.float32)),
    }


def _thumbnail(view: np.ndarray) -> dict[str, float]:
    small = cv2.resize(view, (8, 8), interpolation=cv2.INTER_AREA).ravel()
    return {f"pixel {number}": float(value) for number, value in enumerate(small)}


def _lossless_bytes_per_pixel(view: np.ndarray) -> float:
    # Of the middle, a quarter of the view: packing is what costs most here.
    edge = view.shape[0] // 4
    middle = view[edge:-edge, edge:-edge, ::-1]
    packed = cv2.imencode(".png", middle, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    return len(packed) / (middle.shape[0] * middle.shape[1])


def _block_grid(gray: np.ndarray) -> dict[str, float]:
    # Cross differences (Chen and Hsu 2011) by column and row modulo 8: a grid of n pixels is a wave of period n.
    cross = np.abs(gray[:-1, :-1] + gray[1:, 1:] - gray[:-1, 1:] - gray[1:, :-1])
    profiles = [cross.mean(axis=axis) for axis in (0, 1)]
    folded = [profile[: len(profile) // 8 * 8].reshape(-1, 8).mean(axis=0) for profile in profiles]
    waves = np.mean([np.abs(np.fft.rfft(wave)) / max(wave.sum(), 1e-6) for wave in folded], axis=0)
    return {f"grid of {8 / number:.3g} pixels": float(waves[number]) for number in range(1, 5)}


def _jpeg_quality(gray: np.ndarray) -> dict[str, float]:
    # JPEG ghosts (Farid 2009): how much the view changes when it is compressed again, by quality. And the share of
    # DCT coefficients that are zero, which quantisation leaves behind.
    size = gray.shape[0] // 8 * 8
    start = size // 4 // 8 * 8
    centre = gray[start : start + size // 2, start : start + size // 2]
    changes = []
    for quality in QUALITIES:
        _, encoded = cv2.imencode(".jpg", centre, [cv2.IMWRITE_JPEG_QUALITY, quality])
        again = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.float32)
        changes.append(np.log(1e-3 + np.mean((again - centre) ** 2)))
    blocks = gray[:size, :size].reshape(size // 8, 8, size // 8, 8).transpose(0, 2, 1, 3).astype(np.float32)
    cosine = _cosine()
    zeros = (np.abs(cosine @ blocks @ cosine.T) < 0.5).mean(axis=(0, 1))
    steps = zip(QUALITIES, QUALITIES[1:], np.diff(changes), strict=False)
    return {f"change from quality {low} to {high}": float(step) for low, high, step in steps} | {
        "change by compression": float(changes[2]),
        "zeros, low frequencies": float(zeros[0, 1:4].mean()),
        "zeros, middle frequencies": float(zeros[3:6, 3:6].mean()),
        "zeros, high frequencies": float(zeros[6:, 6:].mean()),
    }


@functools.cache
def _cosine() -> np.ndarray:
    return np.stack([cv2.dct(row[:, None]).ravel() for row in np.eye(8, dtype=np.float32)], axis=1)


def _spectrum(gray: np.ndarray) -> dict[str, float]:
    # Power of what smoothing takes away, by frequency; and how far single frequencies stand out, as resampling's do.
    window, band = _bands(gray.shape[0])
    detail = gray - cv2.GaussianBlur(gray, (0, 0), 1.0)
    transform = cv2.dft(detail * window, flags=cv2.DFT_COMPLEX_OUTPUT)
    power = np.log(1e-3 + (transform**2).sum(axis=2))
    amounts = np.bincount(band.ravel())
    level = np.bincount(band.ravel(), weights=power.ravel()) / amounts
    levels = {f"power in band {number}": float(value) for number, value in enumerate(level - level.mean())}
    peaks = {f"peak in band {number}": float(power[band == number].max() - level[number]) for number in (4, 6, 8)}
    return levels | {"power": float(level.mean())} | peaks


@functools.cache
def _bands(size: int) -> tuple[np.ndarray, np.ndarray]:
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    window = np.hanning(size).astype(np.float32)
    return window[:, None] * window, np.minimum((radius * 2 * BANDS).astype(int), BANDS)
