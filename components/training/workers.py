"""Workers: processes, on as many nodes, that train one network together, each on its part of every batch.

Each worker computes the gradients of its part, and before each step the gradients are averaged over the workers, so
that all have the same weights as a single process with the whole batch. They stand in TF_CONFIG, as TensorFlow has it:
https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable.

Keras 3 does not fit under TensorFlow's MultiWorkerMirroredStrategy (keras-team/keras#20585: its layers are given
PerReplica values). So the strategy only connects the processes and watches that all of them live, and everything that
they exchange is a sum over them of a flat array, by the same collective operations.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from components.errors import InputError
from components.progress import say

VARIABLE = "TF_CONFIG"
GROUP = 1001  # the key of all workers together; the strategy counts its own from 1 upwards
TIMEOUT_S = 1800.0  # for the slowest of the workers to come to the same point; one that is lost is noticed sooner
SHARED_BYTES = 1 << 24  # of a file at a time


@dataclass(frozen=True)
class Workers:
    """This process among those that train together.

    Attributes:
        count: How many processes there are.
        index: The number of this process, from 0.
    """

    count: int = 1
    index: int = 0

    @property
    def chief(self) -> bool:
        """Whether this process writes the detector and the records."""
        return self.index == 0

    def part(self, samples: np.ndarray) -> np.ndarray:
        """Return this worker's part of some samples; the parts are equal where the number divides."""
        return samples[self._begin(len(samples), self.index) : self._begin(len(samples), self.index + 1)]

    def _begin(self, samples: int, index: int) -> int:
        return samples * index // self.count

    def total(self, values: Any) -> np.ndarray:
        """Return the sum over the workers of an array that has the same shape and type in each of them.

        Args:
            values: int32, int64, float32 or float64.

        Raises:
            RuntimeError: A worker was lost, or did not come to the same point in time.
        """
        values = np.asarray(values)
        if self.count == 1:
            return values
        import tensorflow as tf

        try:
            return np.asarray(_summed(tf.reshape(tf.convert_to_tensor(values), [-1]), self.count)).reshape(values.shape)
        except tf.errors.OpError as error:
            raise self._lost(error) from error

    def all(self, condition: bool) -> bool:
        """Say whether a condition holds in every worker."""
        return int(self.total(np.int32(condition))) == self.count

    def gather(self, part: np.ndarray, samples: int) -> np.ndarray:
        """Return an array of samples of which each worker has its `part`, whole, in every worker."""
        if self.count == 1:
            return part
        whole = np.zeros((samples, *part.shape[1:]), dtype=part.dtype)
        whole[self._begin(samples, self.index) : self._begin(samples, self.index + 1)] = part
        return self.total(whole)

    def share(self, file: Path) -> None:
        """Give every worker the chief's file, or none where the chief has none.

        Args:
            file: Where it lies in each worker.
        """
        if self.count == 1:
            return
        held = file.stat().st_size if self.chief and file.exists() else -1
        size = int(self.total(np.int64(held if self.chief else 0)))
        if size < 0:
            file.unlink(missing_ok=True)
            return
        part = file.with_name(f".{file.name}.part")
        with open(file if self.chief else part, "rb" if self.chief else "wb") as stream:
            for start in range(0, size, SHARED_BYTES):
                count = min(SHARED_BYTES, size - start)
                words: np.ndarray = np.zeros(-(-count // 4), dtype=np.int32)
                if self.chief:
                    words.view(np.uint8)[:count] = np.frombuffer(stream.read(count), dtype=np.uint8)
                words = self.total(words)
                if not self.chief:
                    stream.write(words.view(np.uint8)[:count].tobytes())
        if not self.chief:
            os.replace(part, file)

    def agree(self, key: str) -> None:
        """Refuse to go on unless all workers are asked for the same training.

        Args:
            key: Of the training: hexadecimal, the same length in all.

        Raises:
            InputError: Another worker has another key.
        """
        own = np.frombuffer(key.encode(), dtype=np.uint8).astype(np.int32)
        chief = self.total(own if self.chief else np.zeros_like(own))
        if not self.all(bool(np.array_equal(own, chief))):
            raise InputError(
                "the workers are asked for different trainings; give all of them the same dataset, settings and "
                "version of ai-vs-real"
            )

    def averaging(self, optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
        """Return an optimizer like the one given which steps by the mean of the workers' gradients.

        Args:
            optimizer: Not built; with loss scaling, if any, so that all workers skip the same steps.
        """
        if self.count == 1:
            return optimizer
        kind, count = type(optimizer), self.count

        class Averaging(kind):  # type: ignore[misc, valid-type]
            def apply(self, grads, trainable_variables=None):
                return super().apply(_mean(grads, count), trainable_variables)

        return Averaging.from_config(optimizer.get_config())

    @contextmanager
    def together(self) -> Iterator[None]:
        """Say in one line that a worker was lost, where it shows within a step of training."""
        if self.count == 1:
            yield
            return
        import tensorflow as tf

        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.InternalError,
            tf.errors.DeadlineExceededError,
        ) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> RuntimeError:
        cause = str(error).splitlines()[0][:200]
        return RuntimeError(
            f"worker {self.index} of {self.count} has lost another worker ({cause}); start all of them again with the "
            "same arguments to go on from the last whole epoch"
        )


ALONE = Workers()


def place() -> Workers:
    """Return this process's place among the workers, as TF_CONFIG has it; nothing is connected yet.

    Raises:
        InputError: TF_CONFIG is not understood.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return ALONE
    wanted = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": N}}'
    try:
        value = json.loads(text)
        hosts, task = value["cluster"]["worker"], value["task"]
        workers = Workers(len(hosts), int(task["index"]))
        understood = list(value["cluster"]) == ["worker"] and task["type"] == "worker" and isinstance(hosts, list)
    except (ValueError, TypeError, KeyError):
        understood = False
    if not understood or not 0 <= workers.index < workers.count:
        raise InputError(f"{VARIABLE} is {text[:200]!r}; give {wanted}, with workers alone, or unset it")
    return workers if workers.count > 1 else ALONE


def join(batch_size: int) -> Workers:
    """Connect to the other workers; to be called before anything is computed in this process.

    Args:
        batch_size: Samples in a step of all workers; the learning rate fits it, whatever their number.

    Returns:
        The workers; ALONE where TF_CONFIG names no other.

    Raises:
        InputError: The batch does not divide, or Keras runs on another backend than TensorFlow.
        RuntimeError: The others did not come in time.
    """
    workers = place()
    if workers.count == 1:
        return workers
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"several workers train on TensorFlow alone, and Keras runs on {keras.backend.backend()}; set "
            f"KERAS_BACKEND=tensorflow, or unset {VARIABLE}"
        )
    if batch_size % workers.count:
        raise InputError(
            f"batch_size is {batch_size}, which {workers.count} workers cannot share equally; give a multiple of "
            f"{workers.count}"
        )
    import tensorflow as tf

    say("train", f"worker {workers.index} of {workers.count}: waits for the others")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.set_visible_devices(gpus[0], "GPU")  # more of them: as many workers
    with workers.together():
        _CONNECTED.append(tf.distribute.MultiWorkerMirroredStrategy())
        workers.all(True)
    return workers


_CONNECTED: list[Any] = []  # the strategy, whose thread watches the others as long as it lives
_OPERATIONS = iter(range(1, 2**31))  # the workers run the same program, so the same number is the same operation


def _summed(flat: Any, count: int, final: str = "Id") -> Any:
    import tensorflow as tf

    return tf.raw_ops.CollectiveReduceV2(
        input=flat,
        group_size=count,
        group_key=GROUP,
        instance_key=next(_OPERATIONS),
        ordering_token=[],
        merge_op="Add",
        final_op=final,
        communication_hint="auto",
        timeout_seconds=TIMEOUT_S,
    )


def _mean(gradients: list[Any], count: int) -> list[Any]:
    # All in one: several operations under way at a time would have to be ordered alike in every worker.
    import tensorflow as tf

    flat = tf.concat([tf.reshape(tf.cast(gradient, "float32"), [-1]) for gradient in gradients], axis=0)
    sizes = [int(np.prod(gradient.shape)) for gradient in gradients]
    parts = tf.split(_summed(flat, count, "Div"), sizes)
    return [
        tf.cast(tf.reshape(part, gradient.shape), gradient.dtype)
        for part, gradient in zip(parts, gradients, strict=True)
    ]


class _Joined(keras.callbacks.Callback):
    """Makes an epoch's metrics those of all workers, so that every callback decides alike in each; the first callback.

    Every metric's state is a sum over samples. The moving averages of BatchNorm layers that learn are averaged.

    Args:
        workers: That fit the model.
    """

    def __init__(self, workers: Workers):
        super().__init__()
        self.workers = workers

    def on_test_begin(self, logs=None):
        self.learnt = metrics_of(self.model, self.workers)
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                for variable in (layer.moving_mean, layer.moving_variance):
                    variable.assign(self.workers.total(variable) / self.workers.count)

    def on_epoch_end(self, epoch, logs=None):
        held = metrics_of(self.model, self.workers)
        logs |= self.learnt | {f"val_{name}": value for name, value in held.items()}


def callbacks(workers: Workers) -> list[keras.callbacks.Callback]:
    """Return the callbacks that must come first where several workers fit a model; none for a process alone."""
    return [_Joined(workers)] if workers.count > 1 else []


def metrics_of(model: keras.Model, workers: Workers) -> dict[str, float]:
    """Return the metrics of the batches that all workers have gone through since the last reset."""
    for metric in model.metrics:
        for variable in metric.variables:
            variable.assign(workers.total(variable))
    return {name: float(value) for name, value in model.get_metrics_result().items()}


def work_of(work: Path, workers: Workers) -> Path:
    """Return where a worker keeps its own files, beside the chief's if their volume is the same."""
    return work if workers.chief else work.with_name(f"{work.name}-{workers.index}")
