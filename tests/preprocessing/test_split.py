"""Shares, strata and stability of the split."""

import numpy as np
import pytest

from components.dataset import SPLITS
from components.preprocessing.split import FREE, settle, shares_of, split_files

SHARES = shares_of(0.7, 0.15)


def place(groups, labels, sources, seed=0, fixed=None):
    strata = [(int(label), "picture", source) for label, source in zip(labels, sources, strict=True)]
    fixed = np.full(len(groups), FREE) if fixed is None else fixed
    return split_files(np.array(groups), np.array(labels), strata, fixed, shares=SHARES, seed=seed)


def population(files: int, seed: int = 0):
    random = np.random.default_rng(seed)
    labels = (random.random(files) < 0.6).astype(int)
    draws = zip(random.random(files).tolist(), labels, strict=True)
    sources = [("clips" if draw < 0.1 else "ffhq") if label == 0 else f"g{int(draw * 6)}" for draw, label in draws]
    return [f"group{number}" for number in range(files)], labels, sources


@pytest.mark.parametrize("files", [12, 20, 40, 200, 2000])
def test_shares_hold_by_label_however_small_the_data(files):
    groups, labels, sources = population(files)
    splits = place(groups, labels, sources)
    for label in range(2):
        amounts = np.bincount(splits[labels == label], minlength=3)
        assert np.abs(amounts - SHARES * amounts.sum()).max() <= 2, amounts
        assert (amounts > 0).all()


def test_each_source_is_in_every_split_in_its_share():
    groups, labels, sources = population(2000)
    splits = place(groups, labels, sources)
    for source in set(sources):
        amounts = np.bincount(splits[np.array(sources) == source], minlength=3)
        assert np.abs(amounts - SHARES * amounts.sum()).max() <= 2, (source, amounts)


def test_a_giant_group_goes_to_the_largest_split():
    groups = ["giant"] * 60 + [f"small{number}" for number in range(40)]
    splits = place(groups, [0] * 60 + [number % 2 for number in range(40)], ["a"] * 100)
    assert set(splits[:60]) == {SPLITS.index("train")}
    assert (np.bincount(splits[60:], minlength=3) > 0).all()


def test_most_groups_stay_when_media_are_added():
    groups, labels, sources = population(1000)
    before = place(groups[:900], labels[:900], sources[:900])
    after = place(groups, labels, sources)[:900]
    assert (before == after).mean() > 0.95


def test_another_seed_is_another_split():
    groups, labels, sources = population(200)
    assert (place(groups, labels, sources) == place(groups, labels, sources, seed=1)).mean() < 0.8


def test_what_is_settled_stays():
    groups, labels, sources = population(60)
    fixed = np.full(60, FREE)
    fixed[:10] = SPLITS.index("test")
    assert (place(groups, labels, sources, fixed=fixed)[:10] == SPLITS.index("test")).all()


def test_a_held_out_source_takes_its_whole_group_to_the_test():
    group, source = np.array(["a", "a", "b", "c"]), np.array(["new", "old", "old", "old"])
    fixed, shares = settle(np.array([""] * 4), group, source, ["new"], SHARES)
    assert fixed.tolist() == [2, 2, FREE, FREE]
    assert shares.tolist() == SHARES.tolist()
