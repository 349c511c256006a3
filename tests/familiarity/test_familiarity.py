"""How familiar a file is: what was seen in training is, what is unlike it is not."""

import numpy as np
import pytest

from components import familiarity
from components.familiarity import Familiarity
from components.units import Units

SOURCES = {"camera": 0, "phone": 0, "gan": 1, "diffusion": 1}
CENTRES = np.random.default_rng(1).normal(0, 3, (len(SOURCES), 20))


def files(count, seed):
    """Features, (files, 20), sources and labels: each source around its centre."""
    random = np.random.default_rng(seed)
    place = random.integers(len(SOURCES), size=count)
    names = np.array(list(SOURCES), dtype=object)[place]
    return CENTRES[place] + random.normal(0, 1, (count, 20)), names, np.array([SOURCES[name] for name in names])


def units(source, label, clips=0):
    """The units of such files; the last are clips."""
    count = len(label)
    kinds = np.array(["picture"] * (count - clips) + ["clip"] * clips, dtype=object)
    each = np.arange(count)
    return Units(each, each, source, label, kinds, source, source, each)


@pytest.fixture(scope="module")
def fitted():
    known, held = files(400, 2), files(300, 3)
    conditions = [np.stack([features, features + 0.1]) for features, _, _ in (known, held)]
    return familiarity.fit(conditions[0], *known[1:3], conditions[1], units(*held[1:], clips=10), lost=0.1)


def test_the_stated_share_of_new_familiar_files_is_lost(fitted):
    features, source, _ = files(2000, 4)
    scores, nearest = fitted.scores(features, np.full(2000, "picture", dtype=object))
    assert 0.06 < (scores < fitted.threshold).mean() < 0.14
    assert (nearest == source).mean() > 0.95


def test_a_source_far_from_all_is_unfamiliar(fitted):
    far = np.random.default_rng(5).normal(0, 1, (200, 20)) - 2 * CENTRES.mean(axis=0) + 6
    scores, _ = fitted.scores(far, np.full(200, "picture", dtype=object))
    assert (scores < fitted.threshold).mean() > 0.95


def test_a_file_between_a_real_and_a_fake_source_is_unfamiliar(fitted):
    between = (CENTRES[0] + CENTRES[2]) / 2
    assert not fitted.measure(between, "picture").familiar
    assert fitted.measure(CENTRES[2], "picture").familiar
    assert fitted.measure(CENTRES[2], "clip").nearest == "gan"


def test_what_is_read_measures_alike(fitted, tmp_path):
    fitted.save(tmp_path)
    features, _, _ = files(5, 6)
    kinds = np.array(["picture", "clip"] * 2 + ["clip"], dtype=object)
    for ours, theirs in zip(
        fitted.scores(features, kinds), Familiarity.read(tmp_path).scores(features, kinds), strict=True
    ):
        assert (ours == theirs).all()
    assert [path.name for path in tmp_path.iterdir()] == [familiarity.FILE]
