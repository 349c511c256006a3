"""Devices: in what precision they compute, and how several share one training.

XLA is left to Keras (`jit_compile="auto"`), whose choice is right here: JAX always, as it would else run operation by
operation; one GPU on TensorFlow; not MirroredStrategy, which joins gradients outside compiled code; not TensorFlow on
a processor, where it loses: MobileNetV2 on two cores, 224 pixels, 13 images/s against 175 in training.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import keras
from keras import layers

from components.training import model


@dataclass(frozen=True)
class Team:
    """Devices that train one network together, each on its part of every batch.

    Attributes:
        count: How many they are.
        scope: Makes the context in which the network is built, compiled and fitted.
    """

    count: int = 1
    scope: Callable[[], AbstractContextManager] = nullcontext


ALONE = Team()


def accelerators() -> list[str]:
    """Return Keras's names of the GPUs or TPUs, such as "gpu:0"; none where it computes on the processor."""
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


def team(names: Sequence[str], batch_size: int) -> Team:
    """Return a team of devices, by TensorFlow's MirroredStrategy, or by Keras's DataParallel on JAX.

    Args:
        names: Of the devices, as Keras has them; as many of them work as divide a batch into equal parts.
        batch_size: Samples in a step of the whole team: the learning rate fits it, whatever the number of devices.
    """
    count = max((count for count in range(1, len(names) + 1) if batch_size % count == 0), default=1)
    if count == 1:
        return ALONE
    if keras.backend.backend() == "jax":
        return Team(count, keras.distribution.DataParallel(devices=list(names[:count])).scope)
    import tensorflow as tf

    return Team(count, tf.distribute.MirroredStrategy([name.upper() for name in names[:count]]).scope)


def kinds() -> list[str]:
    """Return the make of each device that Keras computes on, such as "Tesla T4"; "cpu" for the processor."""
    if keras.backend.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices()]
    return [details.get("device_name", "unknown GPU") for details in _gpu_details()] or ["cpu"]


def resolve(precision: str) -> str:
    """Return the precision to train in: the one asked for, or for "auto" what the devices gain from.

    Args:
        precision: As the setting has it.
    """
    if precision != "auto":
        return precision
    if keras.backend.backend() == "jax":
        return "mixed_bfloat16" if accelerators() else "float32"
    return gainful([details.get("compute_capability", (0, 0)) for details in _gpu_details()])


def gainful(capabilities: Sequence[tuple[int, int]]) -> str:
    """Return the precision that NVIDIA GPUs gain from.

    Tensor cores multiply float16 from compute capability 7.0 on, and bfloat16, which needs no loss scaling, from 8.0.

    Args:
        capabilities: Compute capability of each GPU; the lowest decides; none for a processor.
    """
    lowest = min(capabilities, default=(0, 0))
    return "mixed_bfloat16" if lowest >= (8, 0) else "mixed_float16" if lowest >= (7, 0) else "float32"


@contextmanager
def computing(network: keras.Model, precision: str) -> Iterator[None]:
    """Let a network compute in a precision, and in float32 again afterwards, as it is calibrated, saved and served.

    Only the backbone from its first convolution on changes: the traces that a detector looks for are of one part in
    256, which the 8 significant bits of bfloat16 lose before standardisation, and the head adds up squares. Variables
    are float32 throughout.

    Args:
        network: What `model.build` returned. Compile it within, or what was traced before stays; afterwards it is
            compiled anew, and nothing of the precision is left in it.
        precision: One of PRECISIONS but "auto".
    """
    backbone = model.backbone_layers(network)
    first = next(number for number, layer in enumerate(backbone) if isinstance(layer, layers.Conv2D))
    try:
        _set_policy(backbone[first:], precision)
        yield
    finally:
        _set_policy(backbone[first:], "float32")
    model.compile_for_training(network, float(network.optimizer.learning_rate))


def _set_policy(chosen: Sequence[keras.layers.Layer], policy: str) -> None:
    for layer in chosen:
        layer.dtype_policy = policy


def _gpu_details() -> list[dict]:
    import tensorflow as tf

    return [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
