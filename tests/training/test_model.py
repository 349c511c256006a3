"""The network: weights, freezing, the cut, and the same steps on another backend."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from striped import write_weights

from components import source_head
from components.errors import InputError
from components.training import backbones, data, fit, model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(write_weights(tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5", seed=1))


def test_the_last_20_layers_of_b0_are_rounded_out_to_a_whole_block():
    network = model.build("efficientnetb0", "none", 32)
    names = model.unfreeze(network, 20, 1e-4)
    assert names[0] == "block6d_expand_conv"
    assert not any(name.endswith("_bn") for name in names)
    assert not network.get_layer("block6d_bn").trainable
    assert not network.get_layer("block6c_project_conv").trainable
    assert len(network.optimizer.variables) == 2  # recompiled: a fresh optimizer, nothing in it but its counters
    model.freeze(network, 1e-3)
    assert [weight.path for weight in network.trainable_weights] == ["head_logit/kernel", "head_logit/bias"]
    (cut,) = model.boundary(network)
    assert cut.shape == (None, 1280)


def test_imagenet_weights_of_efficientnet_get_the_rescaling_that_keras_hides(tmp_path):
    base = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    norm = next(layer for layer in base.layers if isinstance(layer, keras.layers.Normalization))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array(model.IMAGENET_STANDARD_DEVIATION)
    norm.set_weights([mean, deviation**2, np.array(0)])
    base.save_weights(tmp_path / "b0.weights.h5")
    network = model.build("efficientnetb0", str(tmp_path / "b0.weights.h5"), 32)
    found = next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))
    pixels = np.full((1, 2, 2, 3), 0.7, "float32")
    wanted = (pixels - mean) / deviation / np.sqrt(deviation)
    assert np.allclose(np.asarray(found(pixels)), wanted, atol=1e-5)


def test_preprocessing_lies_in_the_model(weights):
    network = model.build("mobilenetv2", weights, 32)
    base = keras.applications.MobileNetV2(include_top=False, weights=weights, input_shape=(32, 32, 3))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    model.freeze(network, 1e-3)
    (features,) = model.boundary(network)
    ours = keras.Model(network.inputs, features).predict_on_batch(pixels)
    theirs = base.predict_on_batch(keras.applications.mobilenet_v2.preprocess_input(pixels.copy())).mean(axis=(1, 2))
    assert theirs.std() > 0.01
    assert np.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("depths", [1, 8])
def test_the_cut_network_is_the_whole_one(weights, depths, tmp_path):
    network = model.build("mobilenetv2", weights, 32, depths=depths, spread=depths > 1)
    assert len(model.taps(network, depths)) == depths
    kernel = network.get_layer("head_logit").kernel
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    model.unfreeze(network, 20, 1e-4)
    cut = model.boundary(network)
    lower, upper = keras.Model(network.inputs, cut), keras.Model(cut, network.outputs)
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    whole = network.predict_on_batch(pixels)
    assert np.allclose(upper.predict_on_batch(lower.predict_on_batch(pixels)), whole, atol=1e-4)
    network.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert np.allclose(again.predict_on_batch(pixels), whole, atol=1e-4)


def test_weights_that_cannot_be_used_are_reported_in_one_line(weights, tmp_path, monkeypatch):
    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    model.build("mobilenetv2", f"{weights}#sha256={digest}", 32)
    other = tmp_path / "other.bin"
    other.write_bytes(b"no weights")
    broken = tmp_path / "broken.weights.h5"
    broken.write_bytes(Path(weights).read_bytes()[:4000])
    kind = dataclasses.replace(backbones.BACKBONES["resnet50"], url="http://127.0.0.1:9/resnet50.h5")
    monkeypatch.setitem(backbones.BACKBONES, "resnet50", kind)
    for backbone, given, words in (
        ("efficientnetb0", weights, "does not fit efficientnetb0"),
        ("mobilenetv2", str(broken), "does not fit mobilenetv2"),
        ("mobilenetv2", str(other), "accepted are .weights.h5"),
        ("mobilenetv2", str(tmp_path / "absent.h5"), "is not a file"),
        ("mobilenetv2", f"{weights}#sha256={'0' * 64}", "has changed"),
        ("resnet50", "imagenet", f"127.0.0.1:9/resnet50.h5 .md5 {kind.md5}. elsewhere and give it as --weights"),
        ("alexnet", "none", "choose one of efficientnetb0"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            model.build(backbone, given, 32)
        assert "\n" not in str(caught.value)


def test_statistics_are_those_of_the_batches():
    inputs = keras.Input((4, 4, 3))
    network = keras.Model(inputs, keras.layers.BatchNormalization(center=False, scale=False)(inputs))
    batches = np.random.default_rng(0).normal(7, 3, (5, 16, 4, 4, 3)).astype("float32")
    model.re_estimate_statistics(network, iter(batches))
    mean, variance = network.layers[1].get_weights()
    assert np.allclose(mean, batches.mean(axis=(0, 1, 2, 3)), atol=1e-3)
    assert np.allclose(variance, batches.var(axis=(1, 2, 3)).mean(axis=0), rtol=1e-3)


def test_augmentation_changes_half_of_the_views_and_keeps_pixels_in_range():
    pixels = np.random.default_rng(0).uniform(0, 255, (64, 16, 16, 3)).astype("float32")
    drawn = data.augmenter(5)(pixels)
    same = np.isclose(drawn, pixels).all(axis=(1, 2, 3))
    assert 16 < same.sum() < 48
    assert drawn.min() >= 0
    assert drawn.max() <= 255
    assert np.array_equal(drawn, data.augmenter(5)(pixels))
    assert not np.array_equal(drawn, data.augmenter(6)(pixels))


def test_degradations_fall_on_a_share_of_the_views_whatever_their_label():
    views = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)
    found = data.degraded(views, np.full(200, "picture"), 0.5, np.random.default_rng(1))
    changed = (found != views).any(axis=(1, 2, 3))
    assert 70 < changed.sum() < 130
    assert found.dtype == np.uint8


def test_the_solved_head_minimises_loss_and_disagreement():
    random = np.random.default_rng(0)
    first = random.normal(size=(60, 5)).astype("float32")
    features = np.concatenate([first, first + random.normal(size=(60, 5)).astype("float32") * [0, 0, 0, 1, 2]])
    place = np.tile((first[:, 0] + first[:, 4] > 0) * 1 + (first[:, 1] > 0.5), 2).astype(int)
    labels, weight = np.array([0, 1, 1]), random.uniform(100, 500, 120)

    def objective(kernel, bias, consistency):
        scores = (features @ kernel + bias).astype(np.float64)
        loss = weight @ (source_head.log_sum(scores) - scores[np.arange(120), place])
        apart = np.diff(np.split(features @ kernel, 2), axis=0)
        return source_head.STRENGTH * (loss + consistency / 2 * np.square(apart).sum()) + np.square(kernel).sum() / 2

    for consistency in (0.0, 500.0):
        head = fit.solved(features.astype("float32"), place, labels, weight, draws=2, consistency=consistency)
        best = objective(head.kernel, head.bias, consistency)
        for step in random.normal(size=(50, 6, 3)) * 0.03:
            assert objective(head.kernel + step[:5], head.bias + step[5], consistency) > best - 1e-3


STEPS = """
import json, sys, keras, numpy as np
from components.training import model
keras.utils.set_random_seed(0)
network = model.build("mobilenetv2", sys.argv[1], 32, dropout=0.0)
names = model.unfreeze(network, 3, 1e-3)
rng = np.random.default_rng(0)
pixels = rng.uniform(0, 255, (8, 32, 32, 3)).astype("float32")
label = (np.arange(8) % 2).astype("float32")[:, None]
losses = [float(network.train_on_batch(pixels, label, return_dict=True)["loss"]) for _ in range(4)]
print(json.dumps({"backend": keras.backend.backend(), "losses": losses}))
"""


def test_a_few_steps_on_jax_are_those_on_tensorflow(weights):
    pytest.importorskip("jax", reason="jax is in the dev extra")
    found = {}
    for backend in ("tensorflow", "jax"):
        environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-c", STEPS, weights]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert said.returncode == 0, said.stderr[-2000:]
        printed = json.loads(said.stdout.splitlines()[-1])
        assert printed["backend"] == backend
        found[backend] = printed["losses"]
    assert np.allclose(found["tensorflow"], found["jax"], rtol=2e-3)
    assert found["jax"][-1] < found["jax"][0] - 0.01
