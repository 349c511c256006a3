"""A detector that cannot be trusted is refused in one line, before Keras builds anything of it."""

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from components.detector import Detector, calibrated, check_archive, clip_probability, read_card
from components.errors import InputError

CARD = {
    "format": 1, "digest": "d" * 64, "view": "resize64", "sampling": "even:8", "delivery": "as-is", "threshold": 0.5,
    "calibration": {"picture": {"slope": 1.0, "intercept": 0.0}, "clip": {"slope": 1.0, "intercept": 0.0}},
    "abstention": {"low": 0.4, "high": 0.6, "false_positive_rate": 0.05, "false_negative_rate": 0.05},
}  # fmt: skip


def network(*layers: dict) -> dict:
    """The configuration of a network of some layers."""
    parts = [{"module": "keras.layers", "class_name": "InputLayer", "config": {}, "registered_name": None}, *layers]
    functional = {"module": "keras.src.models.functional", "class_name": "Functional", "registered_name": "Functional"}
    return functional | {"config": {"layers": parts}}


def layer(name: str, module: str | None = "keras.layers", registered: str | None = None) -> dict:
    """A layer by its class."""
    return {"module": module, "class_name": name, "config": {}, "registered_name": registered}


def archive(directory: Path, config: bytes, weights: bytes = b"h5", *more: str) -> Path:
    """A .keras file."""
    directory.mkdir(exist_ok=True)
    with zipfile.ZipFile(directory / "model.keras", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in (("metadata.json", b"{}"), ("config.json", config), ("model.weights.h5", weights)):
            file.writestr(name, content)
        for name in more:
            file.writestr(name, b"x")
    return directory / "model.keras"


def packed(directory: Path, method: int, flags: int = 0) -> None:
    """A .keras file whose configuration is said to be packed by another method, or to be encrypted."""
    path = archive(directory, b"{}".ljust(64))
    with zipfile.ZipFile(path) as file:
        header = file.getinfo("config.json").header_offset
    content = bytearray(path.read_bytes())
    central = content.rindex(b"config.json") - 46  # of the record in the archive's directory
    for place in (header + 6, central + 8):
        struct.pack_into("<HH", content, place, flags, method)
    path.write_bytes(content)


@pytest.fixture
def directory(tmp_path) -> Path:
    """A detector whose card is right; its network is none."""
    archive(tmp_path / "detector", json.dumps(network()).encode())
    (tmp_path / "detector" / "card.json").write_text(json.dumps(CARD))
    return tmp_path / "detector"


def refused(directory: Path, what: str, call=read_card) -> None:
    """It is refused, in one line."""
    with pytest.raises(InputError, match=what) as caught:
        call(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"threshold": None}, "threshold on its card is None, not a finite number"),
        ({"threshold": 7}, "threshold on its card is 7, not from 0 to 1"),
        ({"digest": 3}, "digest on its card"),
        ({"view": None}, "view on its card"),
        ({"sampling": 8}, "sampling on its card"),
        ({"calibration": []}, "calibration on its card"),
        ({"calibration": {"picture": {"slope": "1", "intercept": 0}}}, "slope on its card is '1'"),
        ({"calibration": {"picture": {"slope": 1e999, "intercept": 0}}}, "Infinity is no number"),
        ({"calibration": {"picture": {"slope": 1}}}, "intercept on its card is None"),
        ({"calibration": {"clip": {"slope": 1, "intercept": 0, "spread": True}}}, "spread on its card is True"),
        ({"abstention": {"low": 0.7, "high": 0.3}}, "its band of abstention runs from 0.7 to 0.3"),
        ({"abstention": {"low": float("nan"), "high": 1}}, "NaN is no number"),
    ],
)
def test_a_card_is_checked(directory, change, what):
    (directory / "card.json").write_text(json.dumps(CARD | change))
    refused(directory, what)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"format": 1', "\udcff", '"' + "x" * 17_000_000 + '"'])
def test_a_card_that_is_none(directory, text):
    (directory / "card.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(directory, "card.json")


def test_what_is_no_number_is_never_a_verdict():
    logits = np.array([0.0, np.nan], np.float32)
    with pytest.raises(InputError, match="no finite number"):
        calibrated(CARD, logits)
    with pytest.raises(InputError, match="no finite number"):
        clip_probability(CARD, logits)
    assert calibrated(CARD, np.array([np.inf, -np.inf])).tolist() == [1, 0]


@pytest.mark.parametrize(
    "bad",
    [
        layer("Lambda"),
        layer("TFSMLayer"),
        layer("TorchModuleWrapper"),
        layer("TorchModuleWrapper", "keras.src.utils.torch_utils", "TorchModuleWrapper"),
        layer("Dense", "os"),
        layer("Dense", "keras.layers", "Custom>Dense"),
        layer("function", "builtins", "function"),
        layer("Sequential", "keras"),
        {"module": ["keras"], "class_name": {"a": 1}, "config": {}},
    ],
)
def test_a_class_that_we_do_not_write_is_refused_before_keras_sees_it(directory, bad):
    archive(directory, json.dumps(network({**layer("Dropout"), "config": {"inner": [bad]}})).encode())
    refused(directory, "which no detector of ours has", Detector)


def test_bombs_and_odd_archives_are_refused(directory):
    for make, what in (
        (lambda: archive(directory, b" " * 100_000_000), "config.json in model.keras unpacks to more than"),
        (lambda: archive(directory, b"{}", b"\0" * 100_000_000), "weights in model.keras unpack"),
        (lambda: archive(directory, b"{}", b"h5", "../evil"), r"model.keras holds \.\./evil"),
        (lambda: archive(directory, b"[" * 100_000), r"model.keras cannot be read \(RecursionError\)"),
        (lambda: archive(directory, b"\xff"), "model.keras cannot be read"),
        (lambda: (directory / "model.keras").write_bytes(b"PK\x03\x04 no archive"), "BadZipFile"),
        (lambda: packed(directory, zipfile.ZIP_DEFLATED, flags=1), r"cannot be read \(RuntimeError\)"),
        (lambda: packed(directory, 98), r"cannot be read \(NotImplementedError\)"),
        (lambda: packed(directory, zipfile.ZIP_LZMA), r"cannot be read \("),
    ):
        make()
        refused(directory / "model.keras", what, check_archive)


def test_a_network_that_training_builds_passes(tmp_path):
    from components.training import model

    config = model.build("mobilenetv2", "none", 64, depths=3, spread=True).to_json().encode()
    check_archive(archive(tmp_path / "detector", config))


def test_a_network_that_keras_cannot_load_is_one_line(directory):
    refused(directory, "model.keras cannot be loaded", lambda directory: Detector(directory).model)


def test_a_stored_archive_opens(tmp_path):
    """Keras stores weights uncompressed; the rule about unpacking lets them pass."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in (
            ("metadata.json", b"{}"),
            ("config.json", b"{}"),
            ("model.weights.h5", bytes(50_000_000)),
        ):
            file.writestr(name, content)
    (tmp_path / "model.keras").write_bytes(buffer.getvalue())
    check_archive(tmp_path / "model.keras")
