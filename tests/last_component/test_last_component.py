"""The last component: an autoencoder read from its file, and pairs of real crops and decoded ones."""

import hashlib

import numpy as np
import pytest
from autoencoder import arrays
from striped import write_dataset

from components import last_component
from components.dataset import Dataset
from components.errors import InputError
from components.last_component import SOURCE, Decoded


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.npz"
    np.savez(path, **arrays())
    return path


def convolved(held, name, values, stride=1):
    """The convolution as PyTorch defines it, channels first, padded alike on all sides, in plain NumPy."""
    weight = held[f"{name}.weight"].astype("float64")
    side = weight.shape[2]
    padded = np.pad(values, ((0, 0), (side // 2,) * 2, (side // 2,) * 2)) if side == 3 else values
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    out = np.einsum("chwij,ocij->ohw", windows, weight)
    return out + held[f"{name}.bias"].astype("float64")[:, None, None] if f"{name}.bias" in held else out


def through_block(held, name, values):
    if f"{name}.pool.0.weight" in held:
        pooled = convolved(held, f"{name}.pool.0", values)
        groups = pooled.reshape(last_component.GROUPS, -1)
        scaled = (groups - groups.mean(axis=1, keepdims=True)) / np.sqrt(groups.var(axis=1, keepdims=True) + 1e-5)
        values = values + convolved(held, f"{name}.pool.3", np.maximum(scaled.reshape(pooled.shape), 0))
    made = np.maximum(convolved(held, f"{name}.conv.0", values), 0)
    made = convolved(held, f"{name}.conv.4", np.maximum(convolved(held, f"{name}.conv.2", made), 0))
    beside = convolved(held, f"{name}.skip", values) if f"{name}.skip.weight" in held else values
    return np.maximum(made + beside, 0)


def test_the_network_computes_what_its_layers_say(weights):
    held = last_component.read(str(weights))
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype("float32")
    values = pixels.transpose(2, 0, 1) / 255
    values = through_block(held, "encoder.1", convolved(held, "encoder.0", values))
    values = through_block(held, "encoder.3", convolved(held, "encoder.2", values, 2))
    values = convolved(held, "encoder.5", convolved(held, "encoder.4", values, 2))
    values = np.maximum(convolved(held, "decoder.1", np.tanh(values / 3) * 3), 0)
    values = through_block(held, "decoder.3", values)
    for name in ("decoder.5", "decoder.7"):
        values = convolved(held, name, values.repeat(2, axis=1).repeat(2, axis=2))
    values = convolved(held, "decoder.9", through_block(held, "decoder.8", values))
    expected = np.clip(values, 0, 1).transpose(1, 2, 0) * 255
    made = np.asarray(last_component.network(held, 16)(pixels[None]))[0]
    assert np.abs(made - expected).max() <= 0.5 + 1e-3
    assert expected.std() > 5


def damaged(name, value):
    held = arrays()
    if value is None:
        del held[name]
    else:
        held[name] = value
    return held


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ({}, "does not begin and end with a convolution"),
        ({"weight": np.zeros(3)}, "not enough values"),
        (damaged("encoder.1.conv.2.weight", None), "array 'encoder.1.conv.2.weight' is missing"),
        (damaged("encoder.9.other", np.zeros(3)), "unknown array"),
        (damaged("encoder.5.weight", np.zeros((4, 5, 3, 3))), r"has the shape \(4, 5, 3, 3\) behind 16 channels"),
        (damaged("decoder.9.weight", np.zeros((4, 8, 3, 3))), "ends with 4 channels"),
        (damaged("decoder.7.bias", np.zeros(8)), "1 doublings after 2 halvings"),
        ({"encoder.0.weight": np.array([{}], dtype=object)}, "pickle"),
    ],
)
def test_what_is_no_autoencoder_is_refused_in_a_line(tmp_path, held, reason):
    path = tmp_path / "other.npz"
    np.savez(path, **held)
    with pytest.raises(InputError, match=reason) as refused:
        last_component.check(str(path))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_missing_changed_or_no_archive_is_refused(tmp_path, weights):
    last_component.check("none")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    last_component.check(f"{weights}#sha256={digest}")
    with pytest.raises(InputError, match="has changed"):
        last_component.check(f"{weights}#sha256={digest[::-1]}")
    with pytest.raises(InputError, match="is not a file"):
        last_component.check(str(tmp_path / "missing.npz"))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InputError, match="holds no tiny autoencoder"):
        last_component.check(str(tmp_path / "text.npz"))


def test_a_view_that_cannot_be_halved_as_often_is_refused(weights):
    with pytest.raises(InputError, match="multiple of 4"):
        last_component.network(last_component.read(str(weights)), 18)


def test_pairs_are_of_real_rows_alone_and_the_same_again(tmp_path, weights):
    write_dataset(tmp_path / "dataset", rows=12)
    dataset = Dataset(tmp_path / "dataset")
    rows = dataset.rows("train")
    taken = []

    def compute(pixels):
        taken.append(pixels)
        return [pixels.mean(axis=(1, 2))]

    first, second = (
        last_component.decode(dataset, rows, str(weights), compute, 3, draws=2, seed=5, stage="train") for _ in range(2)
    )
    assert (dataset.column("label")[first.rows] == 0).all()
    assert len(first.rows) == (dataset.column("label")[rows] == 0).sum()
    assert first.features.shape == (2, 2, len(first.rows), 3)
    np.testing.assert_array_equal(first.features, second.features)
    crops = dataset.views(first.rows[:1])[0].astype("float32")
    drawn = taken[0][0]  # the first crop in the first draw, where nothing but JPEG has touched it
    assert min(np.abs(drawn - crop).mean() for crop in crops) < 5 < np.abs(taken[0][1] - drawn).mean()


def test_both_halves_are_files_of_their_own():
    features = np.arange(2 * 2 * 3 * 1, dtype="float32").reshape(2, 2, 3, 1)
    decoded = Decoded(np.array([4, 0, 2]), features).only(np.array([True, False, True]))
    values, source, label = decoded.together(np.array(["a", "b", "c", "d", "e"], dtype=object))
    assert source.tolist() == ["e", "c", SOURCE, SOURCE]
    assert label.tolist() == [0, 0, 1, 1]
    assert values[:, :, 0].tolist() == [[0, 2, 3, 5], [6, 8, 9, 11]]
