"""Splits files into train, validation and test by group, and balances the labels."""

import hashlib
from collections.abc import Sequence

import numpy as np

from components.dataset import LABELS, SPLITS
from components.errors import InputError

BALANCES = ("undersample", "weights", "none")
FREE = -1


def shares_of(train: float, validation: float) -> np.ndarray:
    """Return the shares of train, validation and test; what the first two leave is the test's.

    Raises:
        InputError: A share is not between 0 and 1, or nothing is left for the test.
    """
    if not (0 < train < 1 and 0 < validation < 1 and train + validation < 0.9999):
        raise InputError(
            f"train={train:g} and validation={validation:g} leave no test split: both above 0, their sum below 1"
        )
    return np.array([train, validation, 1 - train - validation])


def parse_hold_out(text: str) -> list[str]:
    """Return the sources that `source=NAME[,NAME]` keeps for the test alone.

    Raises:
        InputError: The text has another form.
    """
    if not text:
        return []
    column, _, names = text.partition("=")
    sources = [name.strip() for name in names.split(",") if name.strip()]
    if column.strip() != "source" or not sources:
        raise InputError(f"hold_out={text!r} is not understood; write source=NAME or source=NAME,NAME")
    return sources


def settle(
    given: np.ndarray, group: np.ndarray, source: np.ndarray, hold_out: Sequence[str], shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Settle what is not for the splitter to choose: given splits, and sources held out for the test.

    A split that nobody gave, where all others are given, is cut from train.

    Args:
        given: Name of the split that came with each file, "" for none, (files,); one alone within a group.
        group: Name of each file's group, (files,).
        source: Source of each file, (files,).
        hold_out: Sources that stand in the test alone, with all their groups.
        shares: Wanted shares of train, validation and test, (3,).

    Returns:
        (fixed, shares): index in SPLITS of each file or FREE, int, (files,); and the shares of what is free.

    Raises:
        InputError: A source to hold out does not occur.
    """
    unknown = sorted(set(hold_out) - set(source))
    if unknown:
        raise InputError(
            f"hold_out names source {unknown[0]!r}, which has no media; there are: {', '.join(sorted(set(source)))}"
        )
    if given.any() and given.all():
        missing = [name not in given for name in SPLITS]
        if any(missing):
            given = np.where(given == "train", "", given)
            shares = np.where([True, *missing[1:]], shares, 0.0)
    names, member = np.unique(group, return_inverse=True)
    settled = np.full(len(names), FREE)
    for number, name in enumerate(SPLITS):
        settled[member[given == name]] = number
    settled[member[np.isin(source, list(hold_out))]] = SPLITS.index("test")
    return settled[member], shares / shares.sum()


def split_files(
    group: np.ndarray,
    label: np.ndarray,
    strata: Sequence[tuple],
    fixed: np.ndarray,
    *,
    shares: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Put each group of files whole into one split, with each stratum in the same shares as far as groups allow.

    Groups stand in the order of sha256(seed, group) within their stratum and are cut where the shares end, so the place
    of a group hardly moves when media are added. What rounding owes a stratum is paid in the next one.

    Args:
        group: Name of each file's group, (files,).
        label: 0 real, 1 fake, (files,).
        strata: (label, kind, source) of each file.
        fixed: Index in SPLITS where a file's split is settled, else FREE; equal within a group.
        shares: Of train, validation and test, float, (3,); 0 for a split that no free group may enter.
        seed: Changes which groups go where.

    Returns:
        Index in SPLITS of each file, int, (files,).

    Raises:
        InputError: A label has too few groups for every split to get one.
    """
    names, member = np.unique(group, return_inverse=True)
    sizes = np.bincount(member)
    place = np.full(len(names), FREE)
    np.maximum.at(place, member, fixed)
    keys = [hashlib.sha256(f"{seed} {name}".encode()).digest() for name in names]
    by_stratum: dict[tuple, list[int]] = {}
    for number, stratum in enumerate(_strata_of_groups(member, strata)):
        if place[number] == FREE:
            by_stratum.setdefault(stratum, []).append(number)
    owed: dict[int, np.ndarray] = {}
    for stratum, groups in sorted(by_stratum.items()):
        groups.sort(key=keys.__getitem__)
        amounts = sizes[groups]
        want = shares * amounts.sum() + owed.get(stratum[0], 0.0)
        place[groups] = _cut(amounts, want)
        owed[stratum[0]] = want - np.bincount(place[groups], weights=amounts, minlength=len(shares))
    has = np.zeros((len(names), len(LABELS)), dtype=bool)
    has[member, label] = True
    _give_every_split_both_labels(place, has, sizes, keys)
    return place[member]


def _strata_of_groups(member: np.ndarray, strata: Sequence[tuple]) -> list[tuple]:
    # The stratum with most of the group's files; of equals the first by name.
    names = sorted(set(strata))
    number = {stratum: place for place, stratum in enumerate(names)}
    pairs, counts = np.unique(
        member * len(names) + np.array([number[stratum] for stratum in strata]), return_counts=True
    )
    group, stratum = np.divmod(pairs, len(names))
    order = np.lexsort((stratum, -counts, group))
    _, first = np.unique(group[order], return_index=True)
    return [names[place] for place in stratum[order][first]]


def _cut(sizes: np.ndarray, want: np.ndarray) -> np.ndarray:
    # Each group goes where its middle lies, so that a giant goes to the largest split.
    want = np.clip(want, 0, None)
    ends = np.cumsum(sizes)
    edges = np.cumsum(want / want.sum()) * ends[-1]
    last = np.flatnonzero(want)[-1]
    return np.minimum(np.searchsorted(edges, ends - sizes / 2, side="right"), last)


def _give_every_split_both_labels(place: np.ndarray, has: np.ndarray, sizes: np.ndarray, keys: list[bytes]) -> None:
    for label, name in enumerate(LABELS):
        for target, split_name in enumerate(SPLITS):
            if (has[:, label] & (place == target)).any():
                continue
            movable = [number for number in np.flatnonzero(has[:, label]) if _can_leave(int(number), place, has)]
            if not movable:
                raise InputError(
                    f"label {name} has {int(has[:, label].sum())} groups of media, none can go to {split_name}: "
                    f"each of {', '.join(SPLITS)} needs at least one; add {name} media, or name finer groups"
                )
            held = np.bincount(place[has[:, label]], minlength=len(SPLITS))
            place[min(movable, key=lambda number: (-held[place[number]], sizes[number], keys[number]))] = target


def _can_leave(number: int, place: np.ndarray, has: np.ndarray) -> bool:
    left = (place == place[number]) & (np.arange(len(place)) != number)
    return all((has[left, label]).any() for label in np.flatnonzero(has[number]))


def balance_rows(
    policy: str, label: np.ndarray, splits: np.ndarray, order: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Balance the labels: equal weight of real and fake, over rows.

    Args:
        policy: "weights" gives the rows of train and validation weights of mean 1, equal in sum for both labels;
            "undersample" leaves out rows of the larger label in train; "none" changes nothing.
        label: 0 real, 1 fake, (rows,).
        splits: Name of each row's split, (rows,).
        order: A stable key of each row, strings, (rows,): which rows undersampling keeps.
        seed: Changes which rows undersampling keeps.

    Returns:
        (keep, weight): bool and float32 arrays, (rows,).

    Raises:
        InputError: The policy is unknown.
    """
    if policy not in BALANCES:
        raise InputError(f"balance={policy!r} is unknown; use one of {', '.join(BALANCES)}")
    keep, weight = np.ones(len(label), dtype=bool), np.ones(len(label), dtype=np.float32)
    if policy == "weights":
        for name in ("train", "validation"):
            rows = splits == name
            amounts = np.bincount(label[rows], minlength=2)
            weight[rows] = (rows.sum() / (2 * np.maximum(amounts, 1)))[label[rows]]
    if policy == "undersample":
        sides = [np.flatnonzero((splits == "train") & (label == value)) for value in range(2)]
        size = min(len(side) for side in sides)
        for side in sides:
            keys = [hashlib.sha256(f"{seed} {order[row]}".encode()).digest() for row in side]
            keep[side[sorted(range(len(side)), key=keys.__getitem__)[size:]]] = False
    return keep, weight
