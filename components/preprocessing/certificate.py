"""The split certificate: a proof that no split has seen another, by code of its own.

Nothing here is shared with the code that cleaned and split: it reads the finished manifest, compares every row of one
split with every row of another, and looks for copies in its own way. Thumbnails are compared by the correlation of
their detail, all pairs, as matrix products; what correlates is aligned and judged by OpenCV's ECC (Evangelidis and
Psarakis 2008).
"""

from typing import Any

import cv2
import numpy as np
import pyarrow as pa

SPLITS = ("train", "validation", "test")
SAME = {"groups": "group", "files": "content_sha256", "exact pairs": "pixel_sha256"}
SIDE = 32  # of a thumbnail, pixels
SMALL = 12  # side of what is correlated
SUSPECT = 0.88  # correlation of detail: different faces in one pose reach 0.88, copies begin at 0.89
PROVEN = 0.97  # correlation after alignment: different faces reach 0.95
PLAIN = 4.0  # gray levels, standard deviation: below it there is nothing to compare
BLOCK = 2048
HELD = 8 * BLOCK  # rows of a split that are kept as floats, 66 MB
NAMED = 20
# Left, top, right and bottom shares of a side that a copy may have lost.
LOST = [(0, 0, 0, 0), (0.025,) * 4, (0.05,) * 4, *((x, y, 0.05 - x, 0.05 - y) for x in (0, 0.05) for y in (0, 0.05))]


def certify(manifest: pa.Table, thumbnails: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Prove, or refute, that no picture, file or group stands in two splits.

    Args:
        manifest: The finished manifest, split and all.
        thumbnails: Of its rows: what has a length and gives, for places of rows, uint8 gray, (places, 32, 32).

    Returns:
        (certificate, near): the certificate: `holds`; `text`, the same as a sentence; `splits`: rows, files and groups
        of each; `compared`: pairs of rows compared across splits; `plain`: rows with too little detail to compare;
        `crossing`: number of groups, files, exact and near pairs on both sides of a split; `pairs`: some, by name.
        And all near pairs that cross, as pairs of rows, int64, (pairs, 2).
    """
    split = manifest.column("split").to_numpy()
    crossings = {name: _crossing(manifest.column(column), split) for name, column in SAME.items()}
    near, compared, plain = _near_pairs(thumbnails, split)
    crossings["near pairs"] = [pair for pair in near if pair not in set(crossings["exact pairs"])]
    crossing = {name: len(pairs) for name, pairs in crossings.items()}
    certificate = {
        "holds": not any(crossing.values()),
        "text": _text(crossing, compared),
        "splits": {name: _amounts(manifest.filter(pa.array(split == name))) for name in SPLITS},
        "compared": compared,
        "plain": plain,
        "crossing": crossing,
        "pairs": [
            {"what": name, **_named(manifest, *pair)} for name, pairs in crossings.items() for pair in pairs[:NAMED]
        ],
    }
    return certificate, np.array(near, dtype=np.int64).reshape(-1, 2)


def _text(crossing: dict[str, int], compared: int) -> str:
    if not any(crossing.values()):
        return f"No group, file or picture stands in two splits: {compared:,} pairs of rows compared, none alike."
    counted = ", ".join(f"{amount:,} {name}" for name, amount in crossing.items() if amount)
    return f"The splits have seen each other: {counted} stand on both sides of a split."


def _amounts(part: pa.Table) -> dict[str, int]:
    return {"rows": part.num_rows} | {name: len(part.column(SAME[name]).unique()) for name in ("files", "groups")}


def _named(manifest: pa.Table, *rows: int) -> dict[str, str]:
    paths, splits = ([manifest.column(name)[row].as_py() for row in rows] for name in ("path", "split"))
    return {"a": paths[0], "a_split": splits[0], "b": paths[1], "b_split": splits[1]}


def _crossing(values: pa.ChunkedArray, split: np.ndarray) -> list[tuple[int, int]]:
    first: dict[str, int] = {}
    leaks: dict[str, tuple[int, int]] = {}
    for row, value in enumerate(values.to_pylist()):
        other = first.setdefault(value, row)
        if split[other] != split[row]:
            leaks.setdefault(value, (other, row))
    return list(leaks.values())


def _near_pairs(thumbnails: Any, split: np.ndarray) -> tuple[list[tuple[int, int]], int, int]:
    every = _blocks(np.arange(len(thumbnails)))
    detailed = np.flatnonzero(np.concatenate([thumbnails[block].std(axis=(1, 2)) for block in every]) >= PLAIN)
    number = np.array([SPLITS.index(name) for name in split])
    _, amounts = np.unique(number[detailed], return_counts=True)
    compared = (amounts.sum() ** 2 - (amounts**2).sum()) // 2
    suspects = _suspects(thumbnails, detailed, number)
    proven = {pair for pair in suspects if _aligned_correlation(*thumbnails[list(pair)]) >= PROVEN}
    return sorted(proven), int(compared), len(thumbnails) - len(detailed)


def _suspects(thumbnails: Any, rows: np.ndarray, split: np.ndarray) -> set[tuple[int, int]]:
    # Every row of a split with every row of the splits before it, in blocks that fit the memory. Either of two may be
    # the one that lost its edges, so each is also seen through the windows of LOST.
    windows = [_window(lost) for lost in LOST]
    leaks: set[tuple[int, int]] = set()
    for number in range(1, len(SPLITS)):
        later, earlier = rows[split[rows] == number], rows[split[rows] < number]
        for start in range(0, len(later), HELD):
            blocks = _blocks(later[start : start + HELD])
            held = [(block, [_detail(thumbnails[block], window) for window in windows]) for block in blocks]
            for other in _blocks(earlier):
                others = [_detail(thumbnails[other], window) for window in windows]
                for block, sides in held:
                    best = sides[0] @ others[0].T
                    for side, seen in zip(sides[1:], others[1:], strict=True):
                        np.maximum(best, side @ others[0].T, out=best)
                        np.maximum(best, sides[0] @ seen.T, out=best)
                    one, two = np.nonzero(best >= SUSPECT)
                    pairs = np.sort(np.stack([block[one], other[two]], axis=1), axis=1)
                    leaks |= {(int(a), int(b)) for a, b in pairs}
    return leaks


def _blocks(values: np.ndarray) -> list[np.ndarray]:
    # As floats, the pixels of all rows at once would fill the memory.
    return np.array_split(values, len(values) // BLOCK + 1)


def _window(lost: tuple[float, float, float, float]) -> np.ndarray:
    # What is done to a thumbnail, as one matrix, (SIDE * SIDE, SMALL * SMALL): stretch what is left of it to its full
    # side, make it small, and take away its broad light and shade. Each step works along both axes alike.
    left, top, right, bottom = lost
    (down, soft_down), (across, soft_across) = _along(top, bottom), _along(left, right)
    return (np.kron(down, across) - np.kron(soft_down, soft_across)).T.copy()


def _along(before: float, after: float) -> tuple[np.ndarray, np.ndarray]:
    left = 1 - before - after
    shift = SIDE * before + left * 0.5 - 0.5
    move = np.array([[1, 0, 0], [0, left, shift]])
    eye = np.eye(SIDE, dtype=np.float32)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    stretched = cv2.warpAffine(eye, move, (SIDE, SIDE), flags=how, borderMode=cv2.BORDER_REPLICATE)
    small = cv2.resize(stretched, (SIDE, SMALL), interpolation=cv2.INTER_AREA)
    return small, cv2.GaussianBlur(small, (1, 9), 0, sigmaY=1.5)


def _detail(thumbnails: np.ndarray, window: np.ndarray) -> np.ndarray:
    # (rows, SMALL * SMALL), of mean 0 and norm 1.
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32) @ window
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _aligned_correlation(one: np.ndarray, other: np.ndarray) -> float:
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
    everywhere = np.full(one.shape[:2], 255, np.uint8)  # no pixel is masked
    best = 0.0
    for template, picture in ((one, other), (other, one)):  # the whole one must be searched for the cropped one
        for scale in (1.0, 0.95):
            start = np.array([[scale, 0, 15.5 * (1 - scale)], [0, scale, 15.5 * (1 - scale)]], dtype=np.float32)
            try:
                alike, _ = cv2.findTransformECC(template, picture, start, cv2.MOTION_AFFINE, stop, everywhere, 3)
            except cv2.error:  # no alignment was found at all
                continue
            best = max(best, alike)
    return best
