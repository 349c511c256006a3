"""The backbones: architectures of keras.applications, their ImageNet weights, and whether these can be had.

Nothing here imports Keras: weights are checked before the first step of a run, in a second.
"""

import contextlib
import http.client
import os
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import h5py

from components.errors import InputError
from components.pinned_file import pinned_file

_STORE = "https://storage.googleapis.com/"


@dataclass(frozen=True)
class Backbone:
    """One architecture of keras.applications."""

    constructor: str
    preprocessing: str  # inside (the backbone does it itself), signed (to [-1, 1]), caffe (BGR, mean taken off)
    url: str  # of its ImageNet weights without the top
    md5: str  # of that file; empty where Keras publishes none
    parameters: int  # without the top; no two architectures have the same number

    @property
    def file(self) -> str:
        """Name of the file with its ImageNet weights."""
        return self.url.rpartition("/")[2]


BACKBONES = {
    **{
        f"efficientnetb{n}": Backbone(
            f"EfficientNetB{n}", "inside", f"{_STORE}keras-applications/efficientnetb{n}_notop.h5", md5, parameters
        )
        for n, (md5, parameters) in enumerate(
            (
                ("50bc09e76180e00e4465e1a485ddc09d", 4_049_571),
                ("74c4e6b3e1f6a1eea24c589628592432", 6_575_239),
                ("111f8e2ac8aa800a7a99e3239f7bfb39", 7_768_569),
                ("af6d107764bb5b1abb91932881670226", 10_783_535),
            )
        )
    },
    "mobilenetv2": Backbone(
        "MobileNetV2",
        "signed",
        f"{_STORE}tensorflow/keras-applications/mobilenet_v2/"
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        "",
        2_257_984,
    ),
    "resnet50": Backbone(
        "ResNet50",
        "caffe",
        f"{_STORE}tensorflow/keras-applications/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "4d473c1dd8becc155b73f8504c6f6626",
        23_587_712,
    ),
}
REACH_TIMEOUT_S = 1.0  # for one answer of the server that has the ImageNet weights


def check_weights(backbone: str, weights: str) -> None:
    """Check, in about a second, that the weights which training starts from can be had.

    Args:
        backbone: A key of BACKBONES.
        weights: "imagenet", "none" or a weights file, as `model.build` takes them.

    Raises:
        InputError: The file is missing or of another kind or architecture; or the ImageNet weights are neither in
            Keras' cache nor to be reached.
    """
    if weights == "none":
        return
    if weights == "imagenet":
        if not cached_file(backbone).is_file() and not _reachable(BACKBONES[backbone].url):
            raise unavailable(backbone)
        return
    path = given_file(weights)
    try:
        count = parameters_in(path)
    except OSError as error:
        reason = str(error).splitlines()[0][:200]
        raise InputError(
            f"weights file {path} cannot be read as HDF5 ({reason}); give a .weights.h5 or .h5 file of Keras"
        ) from None
    if count != BACKBONES[backbone].parameters:
        fitting = [name for name, kind in BACKBONES.items() if kind.parameters == count]
        advice = f"give --backbone {fitting[0]}" if fitting else "give a file of the same architecture"
        raise InputError(
            f"weights file {path} does not fit {backbone} without its top (it holds {count:,} parameters, the backbone "
            f"has {BACKBONES[backbone].parameters:,}); {advice}"
        )


def cached_file(backbone: str) -> Path:
    """Return where Keras keeps the ImageNet weights of a backbone once they are downloaded.

    Args:
        backbone: A key of BACKBONES.
    """
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    return home / "models" / BACKBONES[backbone].file


def unavailable(backbone: str) -> InputError:
    """Return the error that says which file to fetch elsewhere, and how to give it.

    Args:
        backbone: A key of BACKBONES.
    """
    kind = BACKBONES[backbone]
    md5 = f" (md5 {kind.md5})" if kind.md5 else ""
    return InputError(
        f"ImageNet weights of {backbone} cannot be downloaded here; fetch {kind.url}{md5} elsewhere and give it as "
        "--weights FILE, or train from scratch with --weights none"
    )


def _reachable(url: str) -> bool:
    answers: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=REACH_TIMEOUT_S).close()
            answers.append(True)

    # In a thread, because the timeout of a request does not bound the look-up of its host's name.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(REACH_TIMEOUT_S)
    return bool(answers)


def given_file(weights: str) -> str:
    """Return the path of a weights file.

    Args:
        weights: "PATH", or "PATH#sha256=HEX", which pins its content.

    Raises:
        InputError: It is missing, has another content than the pinned one, or is not of a kind that Keras reads.
    """
    path = pinned_file("weights", weights, "imagenet, none, or the path of a weights file")
    if not path.endswith(".h5"):
        raise InputError(f"weights file {path} is not of a kind that Keras reads; accepted are .weights.h5 and .h5")
    return path


def parameters_in(path: str) -> int:
    """Return the number of parameters that a weights file holds.

    Args:
        path: An HDF5 file.

    Raises:
        OSError: It cannot be read as HDF5.
    """
    count = 0

    def visit(_: str, item: h5py.Group | h5py.Dataset) -> None:
        nonlocal count
        count += item.size if isinstance(item, h5py.Dataset) else 0

    with h5py.File(path) as file:
        file.visititems(visit)
    return count
