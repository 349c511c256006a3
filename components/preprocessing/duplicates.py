"""Finds what is the same picture twice, and what belongs together because of it."""

import numpy as np


def clusters(count: int, *links: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the connected component of each of `count` nodes, int, for links given as pairs of node arrays."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = (np.concatenate([link[side] for link in links]) for side in range(2))
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def same_value(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
