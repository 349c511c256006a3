"""The export to the light runtime: the same answers as Keras, the right files or none, no TensorFlow to answer."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from brightness import write_detector

from components import detector, explanation, runtime, source_head
from components.errors import InputError
from components.training import model as training_model

SIZE = 64


def views(count, size=SIZE, seed=0):
    """Pictures of every brightness and contrast, (count, 2, size, size, 3)."""
    random = np.random.default_rng(seed)
    level = random.uniform(20, 230, (count, 1, 1, 1, 1))
    return np.clip(random.normal(level, 25, (count, 2, size, size, 3)), 0, 255).astype(np.uint8)


def units(count=6):
    """Four pictures and two clips."""
    rows = views(count)
    return [(rows[number : number + 1], "picture") for number in range(4)] + [(rows[4:], "clip")] * 2


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A detector whose head reads means and deviations of four depths of a fresh MobileNetV2, for five sources."""
    keras.utils.set_random_seed(1)
    network = training_model.build("mobilenetv2", "none", SIZE, depths=4, spread=True, sources=(2, 3))
    random = np.random.default_rng(0)
    for name in runtime.HEAD_SOURCES:
        head = network.get_layer(name)
        head.set_weights([random.normal(0, 0.05, one.shape).astype("float32") for one in head.get_weights()])
    training_model.unfreeze_all(network, 1e-3)
    some = views(8)[:, 0].astype("float32")
    training_model.re_estimate_statistics(network, iter([some]))  # else a fresh network's depths say nothing
    training_model.scale(network, [keras.Model(network.inputs, network.get_layer("head_features").output)(some)])
    directory = tmp_path_factory.mktemp("models") / "deep"
    card = {"threshold": 0.5, "view": f"crops{SIZE}x2", "calibration": {"picture": {"slope": 0.5, "intercept": 0.1}}}
    detector.save(directory, network, card)
    return directory, network, runtime.export(directory, network, units())


def test_the_export_gives_the_answers_and_features_of_keras(deep):
    directory, network, card = deep
    assert card["runtime"]["holds"]
    assert card["runtime"]["units"] == 6
    assert card["runtime"]["largest_difference"] <= 0.002
    rows = views(40, seed=7)  # more than one forward pass
    loaded = runtime.Runtime(directory)
    logits, features = loaded.logits_and_features(rows)
    expected = detector.logits_of(network, rows)
    assert np.ptp(expected) > 0.1  # not one answer for everything
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    read = keras.Model(network.inputs, network.get_layer(runtime.HEAD_FEATURES).output)
    wanted = read.predict(rows[:, 0].astype("float32"), verbose=0) + read.predict(
        rows[:, 1].astype("float32"), verbose=0
    )
    np.testing.assert_allclose(features, wanted / 2, atol=2e-3)
    np.testing.assert_allclose(loaded.probabilities(rows), detector.calibrated(card, expected), atol=1e-3)


def test_heat_maps_are_those_of_keras(deep):
    directory, network, _ = deep
    pixels = views(3, seed=3)[:, 0]
    found = runtime.Runtime(directory, depths=True).heat_maps(pixels)
    np.testing.assert_allclose(found, explanation.heat_maps(network, pixels), atol=5e-3)
    assert runtime.Runtime(directory).heat_maps(pixels) is None


def test_heat_maps_read_the_depths_of_the_head_and_not_the_backbones_own_averages():
    network = training_model.build("efficientnetb0", "none", SIZE, depths=3, spread=True)
    dense = network.get_layer("head_logit")
    dense.set_weights([np.full(part.shape, 0.1, np.float32) for part in dense.get_weights()])
    names, _, head = runtime._outputs_of(network)
    assert names == ["logit", "features", "depth_0", "depth_1", "depth_2"]
    assert len(head["widths"]) == 3


def test_the_spread_of_channels_that_hardly_vary_keeps_its_digits(deep):
    _, network, _ = deep
    flat = np.random.default_rng(2).normal(200, 0.5, (2, SIZE, SIZE, 3)).astype("float32")
    features = network.get_layer(runtime.HEAD_FEATURES)
    depths = [tensor for tensor in features.input]
    taps = [layer.input for layer in network.layers if layer.name.startswith(runtime.POOL)]
    activations = keras.Model(network.inputs, taps[: len(depths) // 2]).predict(flat, verbose=0)
    spreads = keras.Model(network.inputs, depths[len(depths) // 2 :]).predict(flat, verbose=0)
    for exact, spread in zip(activations, spreads, strict=True):
        expected = np.sqrt(exact.astype("float64").var(axis=(1, 2)) + 1e-6)
        np.testing.assert_allclose(spread, expected, rtol=1e-4)


def test_a_linear_head_is_read_as_one_fake_source_against_nothing():
    features = keras.Input((6,))
    logit = keras.layers.Dense(1, name="head_logit", bias_initializer="ones")(features)
    model = keras.Model(features, logit)
    held = runtime._head(model, features, [2, 1])
    head = source_head.SourceHead(held["kernel"], held["bias"], held["labels"])
    points = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    np.testing.assert_allclose(head.logits(points), model.predict(points, verbose=0)[:, 0], atol=1e-4)
    squared = keras.Model(features, keras.layers.Dense(1)(keras.ops.square(features)))
    assert runtime._head(squared, features, [2, 1]) == {}


def test_features_for_training_are_those_of_keras(deep):
    _, network, _ = deep
    pixels = views(5, seed=5)[:, 0].astype("float32") + 0.25  # augmented pixels are no whole numbers
    tensors = [network.get_layer("head_features").output, network.outputs[0]]
    features, logit = runtime.backbone_features(network, tensors)(pixels)
    wanted = keras.Model(network.inputs, tensors).predict(pixels, verbose=0)
    np.testing.assert_allclose(features, wanted[0], atol=2e-3)
    np.testing.assert_allclose(logit, wanted[1], atol=1e-3)


def test_a_detector_whose_export_answers_otherwise_is_refused(tmp_path):
    directory = write_detector(tmp_path / "model", size=SIZE)
    other = detector.Detector(write_detector(tmp_path / "other", size=SIZE, slope=0.07)).model
    model = detector.Detector(directory).model
    card = runtime.export(directory, model, units())
    runtime.verify(directory, card)
    entry = runtime._compare(
        other, runtime._Compiled(runtime._core().read_model(directory / "runtime.xml")), card, units()
    )
    assert not entry["holds"]
    assert entry["largest_difference"] > runtime.LARGEST_DIFFERENCE
    with pytest.raises(InputError, match="differs from that of Keras"):
        runtime.verify(directory, {**card, "runtime": card["runtime"] | entry})


def test_missing_and_changed_files_are_named(tmp_path):
    directory = write_detector(tmp_path / "model", size=SIZE)
    with pytest.raises(InputError, match="has no export"):
        runtime.Runtime(directory)
    runtime.export(directory, detector.Detector(directory).model, units())
    reference = (directory / "model.keras").read_bytes()
    (directory / "model.keras").write_bytes(reference[:-1] + b"?")
    with pytest.raises(InputError, match=r"model\.keras has changed since"):
        runtime.Runtime(directory)
    (directory / "model.keras").write_bytes(reference)
    (directory / "runtime.bin").write_bytes(b"another network")
    with pytest.raises(InputError, match=r"runtime\.bin has changed since"):
        runtime.Runtime(directory)
    (directory / "runtime.bin").unlink()
    with pytest.raises(InputError, match=r"runtime\.bin is missing"):
        runtime.Runtime(directory)


def test_answering_imports_no_tensorflow(deep):
    directory, _, _ = deep
    code = (
        "import sys, json, numpy as np\nfrom components.runtime import Runtime\n"
        f"answer = Runtime({str(directory)!r}).probabilities(np.zeros((1, 2, {SIZE}, {SIZE}, 3), np.uint8))\n"
        "print(json.dumps([answer.tolist(), sorted({'tensorflow', 'keras', 'mlflow', 'kfp'} & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    answer, imported = json.loads(done.stdout)
    assert 0 <= answer[0] <= 1
    assert imported == []
