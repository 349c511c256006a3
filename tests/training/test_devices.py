"""Devices: the precision they gain from, and batches that they can share."""

import keras
import pytest

from components.training import devices, model


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ([], "float32"),
        ([(6, 0)], "float32"),
        ([(7, 5)], "mixed_float16"),
        ([(8, 0)], "mixed_bfloat16"),
        ([(9, 0), (7, 0)], "mixed_float16"),
    ],
)
def test_the_precision_is_what_the_weakest_gpu_gains_from(capabilities, precision):
    assert devices.gainful(capabilities) == precision


def test_a_processor_alone_computes_in_float32_and_a_stated_precision_is_kept():
    assert devices.resolve("auto") == "float32"
    assert devices.resolve("mixed_float16") == "mixed_float16"


def test_only_the_backbone_from_its_first_convolution_on_is_mixed_and_only_within():
    network = model.build("mobilenetv2", "none", 32, depths=2, spread=True)
    model.unfreeze(network, 3, 1e-3)
    config = network.get_config()
    with devices.computing(network, "mixed_float16"):
        model.unfreeze(network, 3, 1e-3)
        assert isinstance(network.optimizer, keras.optimizers.LossScaleOptimizer)
        assert network.get_layer("preprocess").compute_dtype == "float32"
        assert network.get_layer("Conv1").compute_dtype == "float16"
        assert {layer.compute_dtype for layer in model.head_layers(network)} == {"float32"}
        assert {variable.dtype for variable in network.trainable_variables} == {"float32"}
    assert network.get_config() == config
    assert not isinstance(network.optimizer, keras.optimizers.LossScaleOptimizer)
