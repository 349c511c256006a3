"""Finds what is the same picture twice, and what belongs together because of it.

Near-duplicates are found in two steps. Candidates are rows whose 64-bit perceptual hashes differ in few bits, where one
of the two may be cropped: the hash of a picture moves by 8 to 20 bits under a crop of 5 %, which aligned faces of
different people do as well, so each picture is also looked up as it would be after a few typical crops. A candidate is
confirmed on pixels: the two thumbnails must agree after the best small shift, change of scale and change of brightness.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from components.dataset import batches

SIDE = 32  # of a thumbnail, pixels
RADIUS = 10  # bits in which the hashes of a candidate may differ; the search is complete up to 11
ALIKE = (
    0.94  # share of the thumbnail's variance explained; on faces, pairs that differ reach 0.90, copies begin at 0.95
)
PLAIN = 4.0  # gray levels, standard deviation: below it a thumbnail has nothing to compare
# Left, top, right and bottom shares that a copy may have lost: none, all around, or at a corner.
CROPS = (
    (0, 0, 0, 0),
    (0.025,) * 4,
    (0.05,) * 4,
    (0.05, 0.05, 0, 0),
    (0.05, 0, 0, 0.05),
    (0, 0.05, 0.05, 0),
    (0, 0, 0.05, 0.05),
)
BANDS, BAND_BITS = 4, 16
FOUND_AT_ONCE = 1_000_000
THUMBNAILS_AT_ONCE = 4096  # as float32 they take four times their memory

Links = tuple[np.ndarray, np.ndarray]


def clusters(count: int, *links: Links) -> np.ndarray:
    """Return the connected component of each of `count` nodes, int from 0, for links given as pairs of node arrays.

    Union-find over all links at once: each root is hung under the lowest root it is linked to, until none changes.
    """
    left, right = (np.concatenate([link[side] for link in links]) for side in range(2))
    root = np.arange(count)
    while (root[left] != root[right]).any():
        one, other = root[left], root[right]
        np.minimum.at(root, one, other)
        np.minimum.at(root, other, one)
        while (root[root] != root).any():
            root = root[root]
    return np.unique(root, return_inverse=True)[1]


def same_value(values: np.ndarray) -> Links:
    """Return links that join all nodes of equal value: each node with the first of its value."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.arange(len(values)), first[inverse]


def name_groups(component: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Return a name for each row's group that depends on its media alone: the lowest content sha256, shortened.

    Args:
        component: Connected component of each row, int from 0, (rows,).
        content: content_sha256 of each row, (rows,).
    """
    order = np.lexsort((content, component))
    _, first = np.unique(component[order], return_index=True)
    return np.array([str(value)[:16] for value in content[order][first]])[component]


def spread(thumbnails: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each thumbnail, float64, (rows,), from integer sums that copy no pixel.

    Args:
        thumbnails: Gray, uint8, (rows, 32, 32).
    """
    pixels = thumbnails.reshape(len(thumbnails), SIDE * SIDE)
    squares = np.einsum("rp,rp->r", pixels, pixels, dtype=np.int64)
    return np.sqrt(squares / SIDE**2 - pixels.mean(axis=1) ** 2)


def near_duplicates(thumbnails: np.ndarray, hashes: np.ndarray, together: np.ndarray) -> Links:
    """Find pairs of rows that show the same picture, whatever was done to it on the way.

    Args:
        thumbnails: Gray, uint8, (rows, 32, 32); they may lie on disk.
        hashes: Perceptual hashes, uint64, (rows,).
        together: Number of what each row belongs to anyway, int, (rows,); pairs within are not looked for.

    Returns:
        (left, right): int64 arrays of rows, left < right, ordered.
    """
    rows = np.flatnonzero(spread(thumbnails) >= PLAIN)
    queries = np.empty((len(CROPS), len(rows)), dtype=np.uint64)
    for place in batches(np.arange(len(rows)), THUMBNAILS_AT_ONCE):
        queries[:, place] = cropped_hashes(thumbnails[rows[place]])
    parts = [np.empty((0, 3), dtype=np.int64)]
    for crop, hashed in enumerate(queries):  # one by one: the tables of all at once would fill the memory
        for left, match in close_hashes(hashed, hashes[rows], RADIUS):
            wanted = together[rows[left]] != together[rows[match]]
            both = (rows[left[wanted]], rows[match[wanted]])
            parts.append(np.stack([*both, np.full(len(both[0]), crop)], axis=1))
    candidates = np.concatenate(parts)
    same = _confirmed(thumbnails, candidates)
    pairs = np.unique(np.sort(candidates[same, :2], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def cropped_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Return the perceptual hash that each picture would have after each of CROPS, uint64, (crops, rows).

    Args:
        thumbnails: Gray, uint8, (rows, 32, 32).
    """
    frequency, place = np.arange(8)[:, None], np.arange(SIDE)
    cosine = np.cos(np.pi * frequency * (2 * place + 1) / (2 * SIDE)).astype(np.float32)
    cosine[0] /= np.sqrt(2)
    matrices = [
        (cosine @ _resampling(top, bottom), (cosine @ _resampling(left, right)).T) for left, top, right, bottom in CROPS
    ]
    hashes = np.empty((len(CROPS), len(thumbnails)), dtype=np.uint64)
    for part in batches(np.arange(len(thumbnails)), THUMBNAILS_AT_ONCE):
        pixels = thumbnails[part].astype(np.float32)
        for crop, (down, across) in enumerate(matrices):
            low = (down @ pixels @ across).reshape(len(part), 64)
            bits = low > np.median(low, axis=1, keepdims=True)
            hashes[crop, part] = np.packbits(bits, axis=1).view(">u8").ravel()
    return hashes


def _resampling(before: float, after: float) -> np.ndarray:
    # The matrix that stretches what is left between two cut shares to the full side, linearly.
    place = np.clip((np.arange(SIDE) + 0.5) * (1 - before - after) + before * SIDE - 0.5, 0, SIDE - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(SIDE))).astype(np.float32)


def close_hashes(queries: np.ndarray, table: np.ndarray, radius: int) -> Iterator[Links]:
    """Find all pairs of a query and a table entry whose hashes differ in at most `radius` bits.

    Multi-index hashing (Norouzi, Punjani and Fleet 2012): of four bands of 16 bits at least one differs in at most two
    bits where the whole differs in at most 11, so looking up each band's 137 neighbours misses nothing.

    Args:
        queries: uint64, (queries,).
        table: uint64, (entries,).
        radius: Bits, at most 11.

    Yields:
        (query, entry): int64 arrays of indices; a pair comes once for each band that finds it.
    """
    ones = [1 << bit for bit in range(BAND_BITS)]
    masks = [0, *ones, *(a | b for number, a in enumerate(ones) for b in ones[:number])]
    for band in range(BANDS):
        shift = np.uint64(BAND_BITS * band)
        keys = ((table >> shift) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        ordered = table[order]
        starts = np.searchsorted(keys[order], np.arange((1 << BAND_BITS) + 1))
        wanted = ((queries >> shift) & np.uint64(0xFFFF)).astype(np.int64)
        for mask in masks:
            first = starts[wanted ^ mask]
            amount = starts[(wanted ^ mask) + 1] - first
            hit = np.flatnonzero(amount)
            for part in _parts(amount[hit]):
                query = np.repeat(hit[part], amount[hit[part]])
                ends = np.cumsum(amount[hit[part]])
                place = np.arange(len(query)) + np.repeat(
                    first[hit[part]] - ends + amount[hit[part]], amount[hit[part]]
                )
                near = np.flatnonzero(np.bitwise_count(queries[query] ^ ordered[place]) <= radius)
                if len(near):
                    yield query[near], order[place[near]]


def _parts(amounts: np.ndarray) -> Iterator[slice]:
    if len(amounts):
        ends = np.cumsum(amounts)
        cuts = np.unique(np.searchsorted(ends, np.arange(FOUND_AT_ONCE, ends[-1], FOUND_AT_ONCE)) + 1)
        for start, stop in pairwise([0, *cuts[cuts < len(amounts)], len(amounts)]):
            yield slice(start, stop)


def _confirmed(thumbnails: np.ndarray, candidates: np.ndarray, batch: int = 1024) -> np.ndarray:
    # One step of Lucas and Kanade (1981) with gain, offset and gamma: a linear regression of a thumbnail on the other,
    # its gradients, and its gradients times the place. What shift, scale and brightness can explain, is explained.
    matrices = [(_resampling(top, bottom), _resampling(left, right).T) for left, top, right, bottom in CROPS]
    ramp = np.linspace(-1, 1, SIDE, dtype=np.float32)
    same = np.zeros(len(candidates), dtype=bool)
    for crop, (down, across) in enumerate(matrices):
        chosen = np.flatnonzero(candidates[:, 2] == crop)
        for start in range(0, len(chosen), batch):
            part = chosen[start : start + batch]
            left = _smooth(down @ thumbnails[candidates[part, 0]].astype(np.float32) @ across)
            right = _smooth(thumbnails[candidates[part, 1]].astype(np.float32))
            dy, dx = np.gradient(left, axis=(1, 2))
            features = np.stack([left, dx, dy, ramp * dx, ramp[:, None] * dy, left * left / 255], axis=1)
            same[part] = _explained(features, right) >= ALIKE
    return same


def _smooth(pixels: np.ndarray) -> np.ndarray:
    for _ in range(2):  # along the rows, then along the columns
        padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1)), mode="edge")
        pixels = (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]).transpose(0, 2, 1) / 4
    return pixels


def _explained(features: np.ndarray, target: np.ndarray) -> np.ndarray:
    # R squared of the linear regression of each target on its features; the border has no true gradient.
    inside = slice(1, -1)
    x = features[..., inside, inside].reshape(*features.shape[:2], -1)
    y = target[:, inside, inside].reshape(len(target), -1, 1)
    x, y = x - x.mean(axis=2, keepdims=True), y - y.mean(axis=1, keepdims=True)
    weights = np.linalg.solve(x @ x.transpose(0, 2, 1) + 0.1 * np.eye(x.shape[1], dtype=np.float32), x @ y)
    residual = y - x.transpose(0, 2, 1) @ weights
    return 1 - (residual**2).sum(axis=(1, 2)) / np.maximum((y**2).sum(axis=(1, 2)), 1e-6)
