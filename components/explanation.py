"""Contract: where in a picture a detector found what it answered by."""

from typing import Any

import numpy as np

FAKE, REAL = (194, 85, 45), (42, 127, 120)  # the labels' colours on every page


def heat_maps(model: Any, pixels: np.ndarray) -> np.ndarray:
    """Map the parts of pictures that pushed the logit towards fake or real.

    Grad-CAM (Selvaraju et al., 2017) over every depth that the head reads, signed: each depth's activations weighted by
    the slope of the logit along their average. Where the head is linear this is exact: the mean of a map is the logit
    less the head's constant.

    Args:
        model: From pixels to logits, whose head reads average-pooled activations.
        pixels: uint8, (n, size, size, 3).

    Returns:
        float32, (n, size, size): positive towards fake, in units of the logit.
    """
    import cv2
    import keras

    pools = [layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
    pools = [pool for pool in pools if pool.name.startswith("head_")] or pools[-1:]
    trunk = keras.Model(model.inputs, [pool.input for pool in pools])
    head = keras.Model([pool.output for pool in pools], model.outputs[0])
    found = trunk.predict_on_batch(pixels.astype("float32"))
    activations = [np.asarray(one) for one in (found if isinstance(found, list | tuple) else [found])]
    slopes = _slopes(head, [one.mean(axis=(1, 2)) for one in activations])
    size = pixels.shape[2], pixels.shape[1]
    total = np.zeros(pixels.shape[:3], dtype=np.float32)
    for activation, slope in zip(activations, slopes, strict=True):
        for number, one in enumerate(np.einsum("nhwc,nc->nhw", activation, slope)):
            total[number] += cv2.resize(one.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return total


def _slopes(head: Any, features: list[np.ndarray]) -> list[np.ndarray]:
    """Return the slope of the logit along each feature, by differences: no backend's own gradient is needed."""
    step = 0.01
    out = [np.empty_like(one) for one in features]
    for number in range(len(features[0])):
        for place, one in enumerate(features):
            width = one.shape[1]
            moved = [np.repeat(other[number : number + 1], width, axis=0) for other in features]
            shift = step * np.eye(width, dtype=one.dtype)
            ahead, behind = ([*moved[:place], moved[place] + by, *moved[place + 1 :]] for by in (shift, -shift))
            rise = np.asarray(head.predict_on_batch(ahead)) - np.asarray(head.predict_on_batch(behind))
            out[place][number] = rise[:, 0] / (2 * step)
    return out


def overlay(pixels: np.ndarray, heat: np.ndarray, strongest: float) -> np.ndarray:
    """Colour a picture by its map: orange where it looks fake, teal where it looks real.

    Args:
        pixels: uint8, (size, size, 3).
        heat: float, (size, size).
        strongest: The heat that gets the full colour.
    """
    gray = pixels.mean(axis=2, keepdims=True)
    colour = np.where(heat[..., None] > 0, FAKE, REAL)
    strength = 0.75 * np.clip(np.abs(heat[..., None]) / (strongest or 1.0), 0, 1)
    return (gray * (1 - strength) + colour * strength).astype(np.uint8)
