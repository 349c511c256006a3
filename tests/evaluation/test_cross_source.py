import keras
import numpy as np
import pytest
from autoencoder import arrays

from components import detector as detectors
from components import familiarity
from components.dataset import Dataset, DatasetWriter
from components.detector import Detector
from components.evaluation.cross_source import cross_source, untouched
from components.units import units_of

TINTS = {"camera": (0, 0, 0), "phone": (8, 8, 0), "red": (60, 0, 0), "crimson": (50, 8, 0), "blue": (0, 0, 60)}


@pytest.fixture(scope="module")
def tinted(tmp_path_factory):
    """Two sources of plain pictures, two of red ones and one of blue ones; the tinted are fake."""
    random = np.random.default_rng(4)
    place = tmp_path_factory.mktemp("tinted") / "dataset"
    with DatasetWriter(place, (1, 16, 16, 3)) as writer:
        for split, count in (("train", 20), ("test", 12)):
            for source, tint in TINTS.items():
                for number in range(count):
                    pixels = random.normal(100, 8, (1, 16, 16, 3)) + np.array(tint)
                    name = f"{split}-{source}-{number}"
                    about = dict(
                        path=name, label=int(max(tint) > 20), kind="picture", source=source, group=name, split=split
                    )
                    writer.append(np.clip(pixels, 0, 255).astype(np.uint8), about)
    return Dataset(place)


def saved(directory, unfrozen):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    low = keras.layers.Conv2D(8, 3, strides=2, name="low")(inputs)
    high = keras.layers.Conv2D(4, 3, strides=2, name="high")(low)
    pooled = keras.layers.GlobalAveragePooling2D(name="head_pool")(high)
    model = keras.Model(inputs, keras.layers.Dense(1, name="head_logit")(pooled))
    detectors.save(directory, model, {"view": "resize16", "threshold": 0.5, "unfrozen": {"layers": unfrozen}})
    return Detector(directory)


def test_an_unseen_generator_is_detected_only_if_it_resembles_a_known_generator(tinted, tmp_path):
    found = cross_source(saved(tmp_path / "detector", ["high"]), tinted, units_of(tinted, tinted.rows("test")))
    by_name = {part.source: part for part in found}
    assert set(by_name) == set(TINTS)
    assert by_name["blue"].seen.roc_auc > 0.98
    assert by_name["crimson"].unseen.roc_auc > 0.98
    assert by_name["blue"].unseen.accuracy < 0.2
    assert by_name["red"].n == 20 + 12
    assert by_name["camera"].label == "real"


def test_heads_without_a_source_read_decoded_pictures_but_none_of_its_own(tinted, tmp_path, monkeypatch):
    np.savez(tmp_path / "tiny.npz", **arrays())
    asked = []
    fit = familiarity.fit
    monkeypatch.setattr(familiarity, "fit", lambda *given: asked.append(given[1]) or fit(*given))
    detector, units = saved(tmp_path / "detector", ["high"]), units_of(tinted, tinted.rows("test"))
    assert cross_source(detector, tinted, units, last_component=str(tmp_path / "tiny.npz"))
    decoded = [(names == "last component").sum() for names in asked]
    # All sources, then without camera, phone (20 pairs each are left), and without each of three fakes.
    assert sorted(decoded) == [20, 20, 40, 40, 40, 40]
    for names, pairs in zip(asked, decoded, strict=True):
        assert np.isin(names, ["camera", "phone"]).sum() == 2 * pairs


def test_features_come_from_below_what_training_changed(tmp_path):
    assert untouched(saved(tmp_path / "tuned", ["high"])).output_shape == (None, 8)
    assert untouched(saved(tmp_path / "frozen", [])).output_shape == (None, 8 + 4)


def test_from_scratch_there_is_nothing_that_has_not_seen_the_source(tinted, tmp_path):
    detector = saved(tmp_path / "detector", "all")
    assert cross_source(detector, tinted, units_of(tinted, tinted.rows("test"))) is None
