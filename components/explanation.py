"""Contract: where in a picture a detector found what it answered by."""

from typing import Any

import numpy as np

FAKE, REAL = (194, 85, 45), (42, 127, 120)  # the labels' colours on every page


def heat_maps(model: Any, pixels: np.ndarray) -> np.ndarray:
    """Map the parts of pictures that pushed the logit towards fake or real.

    Grad-CAM (Selvaraju et al., 2017) over every depth that the head reads, signed: each depth's activations weighted by
    the slope of the logit along their average. The mean of a map is the logit.

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
    outputs = trunk.predict_on_batch(pixels.astype("float32"))
    activations = [np.asarray(output) for output in (outputs if isinstance(outputs, list | tuple) else [outputs])]
    averages = [output.mean(axis=(1, 2)) for output in activations]
    slopes = _slopes(head, averages)
    size = pixels.shape[2], pixels.shape[1]
    total = np.zeros(pixels.shape[:3], dtype=np.float32)
    for activation, slope in zip(activations, slopes, strict=True):
        for number, plane in enumerate(np.einsum("nhwc,nc->nhw", activation, slope)):
            total[number] += cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    # A head that is not linear leaves an offset, which says nothing of places.
    logits = np.asarray(head.predict_on_batch(averages)).reshape(-1, 1, 1)
    return total - total.mean(axis=(1, 2), keepdims=True) + logits


def _slopes(head: Any, features: list[np.ndarray]) -> list[np.ndarray]:
    """Return the slope of each logit along its features, by the gradient of Keras's backend."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return [np.asarray(part) for part in jax.grad(lambda inputs: head(inputs).sum())(features)]
    import tensorflow as tf

    inputs = [tf.convert_to_tensor(part) for part in features]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        total = tf.reduce_sum(head(inputs))
    return [np.asarray(part) for part in tape.gradient(total, inputs)]


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
