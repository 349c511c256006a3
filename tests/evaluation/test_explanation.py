import keras
import numpy as np
import pytest

from components.explanation import FAKE, heat_maps, overlay


@pytest.fixture(scope="module")
def model():
    """Two depths; the logit is the mean red less the mean blue."""
    inputs = keras.Input((32, 32, 3))
    fine = keras.layers.AveragePooling2D(2, name="fine")(inputs)
    coarse = keras.layers.AveragePooling2D(4, name="coarse")(fine)
    pooled = [keras.layers.GlobalAveragePooling2D(name=f"head_pool_{n}")(one) for n, one in enumerate((fine, coarse))]
    logit = keras.layers.Dense(1, name="head_logit")
    model = keras.Model(inputs, logit(keras.layers.Concatenate(name="head_features")(pooled)))
    logit.set_weights([np.array([[0.01], [0], [0], [0], [0], [-0.01]], "float32"), np.array([0.3], "float32")])
    return model


@pytest.fixture(scope="module")
def pixels():
    pixels = np.full((2, 32, 32, 3), 40, np.uint8)
    pixels[0, :16, :16, 0] = 240  # red above left
    pixels[0, 16:, 16:, 2] = 240  # blue below right
    return pixels


def test_heat_lies_where_the_logit_comes_from(model, pixels):
    heat = heat_maps(model, pixels)
    assert heat.shape == (2, 32, 32)
    assert heat[0, 4:12, 4:12].min() > heat[0, 4:12, 20:28].max()
    assert heat[0, 20:28, 20:28].max() < heat[0, 4:12, 20:28].min()


def test_the_mean_of_a_map_is_the_logit(model, pixels):
    logits = np.asarray(model.predict_on_batch(pixels.astype("float32")))[:, 0]
    assert heat_maps(model, pixels).mean(axis=(1, 2)) == pytest.approx(logits, abs=1e-4)


def test_an_overlay_is_coloured_where_there_is_heat_alone(pixels):
    heat = np.zeros((32, 32))
    heat[:4] = 2.0
    shown = overlay(pixels[1], heat, 1.0)
    assert (shown[10:] == 40).all()
    assert shown[0, 0] == pytest.approx(0.25 * 40 + 0.75 * np.array(FAKE), abs=1)


def test_maps_follow_a_head_that_reads_spread_as_well(pixels):
    inputs = keras.Input((32, 32, 3))
    activation = keras.layers.AveragePooling2D(2)(inputs)
    mean = keras.layers.GlobalAveragePooling2D(name="head_pool")(activation)
    square = keras.layers.GlobalAveragePooling2D(name="head_pool_square")(keras.ops.square(activation))
    spread = keras.ops.sqrt(keras.ops.maximum(square - keras.ops.square(mean), 0.0) + 1e-6)
    logit = keras.layers.Dense(1, name="head_logit")
    model = keras.Model(inputs, logit(spread))
    logit.set_weights([np.array([[1.0], [0], [0]], "float32"), np.zeros(1, "float32")])
    heat = heat_maps(model, pixels)
    assert np.isfinite(heat).all()
    assert heat[0, 4:12, 4:12].min() > heat[0, 20:28].max()  # red, which strays most from its mean
