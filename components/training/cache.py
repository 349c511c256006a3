"""Activations kept on disk: what does not change in training is computed once.

The network is cut at its boundary (`model.boundary`). Each view goes through the lower part once, or `draws` times,
each time augmented anew, and training reads what came out from a memory map.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from components.progress import follow
from components.runtime import backbone_features
from components.training.data import Batches
from components.training.workers import ALONE, Workers


class Activations:
    """What one set of samples gives at some tensors of a network, on disk.

    Args:
        directory: Where the arrays lie; whole if it is there.
        names: Of the arrays, one for each tensor.
    """

    def __init__(self, directory: Path, names: list[str]):
        self.directory = directory
        self.arrays = [np.load(directory / name, mmap_mode="r") for name in names]

    def read(self, places: np.ndarray) -> list[np.ndarray]:
        """Return the activations of some samples, an array for each tensor."""
        order = np.argsort(places, kind="stable")  # the map is read forwards
        back = np.argsort(order, kind="stable")
        return [array[places[order]][back] for array in self.arrays]


def size_of(tensors: list[Any], samples: int) -> int:
    """Return the bytes that some tensors of so many samples take."""
    return samples * sum(4 * int(np.prod(tensor.shape[1:])) for tensor in tensors)


class Lower:
    """The part of a network from some of its tensors to others, by the light runtime where that can compute it.

    It is converted when it is first called; whoever computes twice with one calls it for both.

    Args:
        inputs: The tensors from which it computes.
        tensors: The tensors that it computes.
    """

    def __init__(self, inputs: Any, tensors: list[Any]):
        self.inputs, self.tensors = inputs, tensors

    def __call__(self, batch: Any) -> list[np.ndarray]:
        """Compute each tensor of one batch: an array, or a list of one for each input."""
        return self._forward(batch[0] if isinstance(batch, list) and len(batch) == 1 else batch)

    @cached_property
    def _forward(self) -> Callable[[Any], list[np.ndarray]]:
        return backbone_features(keras.Model(self.inputs, self.tensors))


def compute(
    directory: Path,
    lower: Lower,
    draws: int,
    samples: int,
    batches: Callable[[int], Iterator],
    workers: Workers = ALONE,
    batch_size: int = 0,
) -> Activations:
    """Compute the activations at some tensors, or find them there from a run that was cut short.

    Args:
        directory: Where they shall lie; appears when it is whole.
        lower: Computes the tensors to keep.
        draws: How many times the samples are gone through.
        samples: In one draw.
        batches: From the number of a draw to its batches for `lower`, in the order of the samples.
        workers: Whose parts of the batches these are; each is then given the activations of all.
        batch_size: Samples in a whole batch but the last of a draw, where there are several workers.

    Returns:
        Sample i of draw d is at place d * samples + i. Float32 in any precision of the network, as the head reads
        it; NumPy's format has no bfloat16.
    """
    names = [f"{number}.npy" for number in range(len(lower.tensors))]
    if not workers.all(directory.is_dir()):
        shutil.rmtree(directory, ignore_errors=True)  # of a part of the workers: all of them make it anew
        part = directory.with_name(f".{directory.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        arrays = [
            np.lib.format.open_memmap(part / name, "w+", "float32", (draws * samples, *tensor.shape[1:]))
            for name, tensor in zip(names, lower.tensors, strict=True)
        ]
        every = (batch for draw in range(draws) for batch in batches(draw))
        start = 0
        for batch in every:
            count = min(batch_size, samples - start % samples)
            for array, output in zip(arrays, lower(batch), strict=True):
                values = workers.gather(np.asarray(output), count)
                count = len(values)
                array[start : start + count] = values
            start += count
        for array in arrays:
            array.flush()
        os.rename(part, directory)
    return Activations(directory, names)


def from_pixels(directory: Path, lower: Lower, source: Batches, draws: int, what: str) -> Activations:
    """Compute the activations of the views of `source`, in their own order, epoch by epoch for its augmentation."""

    def batches(draw: int) -> Iterator[np.ndarray]:
        source.begin_epoch(draw)
        places = np.arange(source.samples)
        parts = [places[start : start + source.batch_size] for start in range(0, len(places), source.batch_size)]
        own = (source.pixels(source.together.part(part)) for part in parts)
        yield from follow(own, "train", f"batches of {what}", len(parts))

    together, size = source.together, source.batch_size
    return compute(directory, lower, draws, source.samples, batches, together, size)


class CachedBatches(keras.utils.PyDataset):
    """The samples of `source`, in its order, as activations in place of pixels; epoch e reads draw e modulo draws."""

    def __init__(self, source: Batches, activations: Activations, draws: int = 1):
        super().__init__(workers=1)
        self.source, self.activations, self.draws = source, activations, draws
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the order of an epoch, and say which draw of the views it reads."""
        self.source.begin_epoch(epoch)
        self.first = (epoch % self.draws) * self.source.samples

    @property
    def samples(self) -> int:
        """Number of views in an epoch."""
        return self.source.samples

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, number: int) -> tuple[Any, np.ndarray, np.ndarray]:
        chosen = self.source.chosen(number)
        tensors = self.activations.read(self.first + chosen)
        return tensors[0] if len(tensors) == 1 else tuple(tensors), *self.source.answers(chosen)
