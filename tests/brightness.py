"""A detector whose every answer can be foretold, for the tests of evaluation and of prediction."""

import numpy as np

from components import detector as detectors
from components import runtime

SIZE = 32


def write_detector(directory, *, slope=0.06, centre=130.0, size=SIZE, card=None, export=False):
    """Save a detector that looks at the brightness alone: logit = slope * (mean - centre)."""
    import keras

    inputs = keras.Input((size, size, 3))
    features = keras.layers.GlobalAveragePooling2D()(inputs)
    top = keras.layers.Dense(1)
    model = keras.Model(inputs, top(features))
    top.set_weights([np.full((3, 1), slope / 3, "float32"), np.array([-slope * centre], "float32")])
    detectors.save(
        directory,
        model,
        {"view": f"resize{size}", "sampling": "even:3", "delivery": "as-is", "threshold": 0.5, **(card or {})},
    )
    if export:
        random = np.random.default_rng(0)
        views = random.integers(0, 256, (4, 1, 1, size, size, 3), dtype=np.uint8)
        runtime.export(directory, model, [(rows, "picture") for rows in views])
    return directory
