"""A head of sources: each pair of sources has a border of its own."""

import numpy as np

from components.source_head import MOST, REST, Classes, SourceHead, solve, source_weights

# Reals and fakes in turn along a line: no one border separates them.
CENTRES = {("camera", 0): (0.0, 0.0), ("gan", 1): (4.0, 0.0), ("phone", 0): (8.0, 0.0), ("diffusion", 1): (12.0, 0.0)}


def files(count, seed):
    random = np.random.default_rng(seed)
    pairs = [list(CENTRES)[number] for number in random.integers(len(CENTRES), size=count)]
    features = np.array([CENTRES[pair] for pair in pairs]) + random.normal(0, 0.7, (count, 2))
    source, label = (np.array(column) for column in zip(*pairs, strict=True))
    return ((features - (6, 0)) / 4).astype("float32"), source, label


def test_sources_that_no_single_border_separates_are_told_apart():
    features, source, label = files(400, 0)
    classes = Classes.of(source, label)
    assert classes.counts == (2, 2)
    assert classes.names == ["camera", "phone", "diffusion", "gan"]
    head = solve(features, classes.places(source, label), classes.labels, np.full(400, 1000.0))
    features, _, label = files(400, 1)
    assert ((head.logits(features) > 0) == (label == 1)).mean() > 0.97


def test_slopes_are_those_of_the_logit():
    random = np.random.default_rng(0)
    head = SourceHead(random.normal(size=(5, 4)), random.normal(size=4), np.array([0, 0, 0, 1]))
    at = random.normal(size=(3, 5))
    slopes = head.slopes(at)
    for number, step in enumerate(np.eye(5) * 1e-5):
        changed = (head.logits(at + step) - head.logits(at - step)) / 2e-5
        np.testing.assert_allclose(slopes[:, number], changed, atol=1e-6)


def test_the_smallest_of_many_sources_share_a_score():
    count = MOST + 5
    source = np.repeat([f"s{number:03d}" for number in range(count)], np.arange(count) + 1)
    source, label = np.append(source, "camera"), np.append(np.ones(len(source), dtype=int), 0)
    classes = Classes.of(source, label)
    assert classes.counts == (1, MOST)
    assert REST in classes.names
    assert f"s{count - 1:03d}" in classes.names
    places = classes.places(np.array(["s000", "camera"]), np.array([1, 0]))
    assert [classes.names[place] for place in places] == [REST, "camera"]


def test_a_small_source_weighs_more_than_its_share_and_labels_keep_their_sums():
    source = np.array(["big"] * 80 + ["small"] * 5 + ["camera"] * 15)
    label = np.array([1] * 85 + [0] * 15)
    weight = source_weights(source, label)
    assert abs(weight[label == 1].sum() - 50) < 1e-3
    assert abs(weight[label == 0].sum() - 50) < 1e-3
    assert 1.5 < weight[80] / weight[0] < 2.5
