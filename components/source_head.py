"""Contract: a head that knows the sources: a score for each of them, and from the scores the logit of fake.

It is the multinomial logistic regression of the sources of both labels. Its logit of fake is the logarithm of the odds
that a file is of any fake source: the strongest source speaks. One linear border between all reals and all fakes would
have to serve every pair of sources at once; here each pair has its own.
"""

from dataclasses import dataclass

import numpy as np

MOST = 64  # sources of a label with a score of their own; the smaller ones share one
REST = "others"
POWER = 0.75  # a source weighs as its size to this power: a dozen files are heard beside hundreds
STRENGTH = 0.0016  # weight of the loss of one row of weight 1, beside half the squared kernel
ITERATIONS = 60


@dataclass(frozen=True)
class Classes:
    """Which scores a head has: those of real sources first.

    Attributes:
        names: Of the sources, one for each score.
        labels: 0 real, 1 fake, of each score, ascending, (scores,).
    """

    names: list[str]
    labels: np.ndarray

    @classmethod
    def of(cls, source: np.ndarray, label: np.ndarray) -> "Classes":
        """Return the classes of some files: a source under a label each, the smallest together where there are many."""
        names: list[str] = []
        labels: list[int] = []
        for value in (0, 1):
            present, count = np.unique(source[label == value].astype(str), return_counts=True)
            if len(present) > MOST:
                present = np.append(np.sort(present[np.argsort(-count, kind="stable")[: MOST - 1]]), REST)
            names += present.tolist()
            labels += [value] * len(present)
        return cls(names, np.array(labels))

    @property
    def counts(self) -> tuple[int, int]:
        """The number of real and of fake ones."""
        return int((self.labels == 0).sum()), int((self.labels == 1).sum())

    def places(self, source: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Return the class of each file, int64, (files,)."""
        known = {pair: place for place, pair in enumerate(zip(self.names, self.labels.tolist(), strict=True))}
        return np.array(
            [
                known.get((str(name), int(value)), known.get((REST, int(value)), -1))
                for name, value in zip(source, label, strict=True)
            ],
            dtype=np.int64,
        )


@dataclass(frozen=True)
class SourceHead:
    """A solved head.

    Attributes:
        kernel: float32, (features, classes).
        bias: float32, (classes,).
        labels: 0 real, 1 fake, of each class, (classes,).
    """

    kernel: np.ndarray
    bias: np.ndarray
    labels: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Score the sources, (rows, classes)."""
        return features @ self.kernel + self.bias

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the logit of fake of each row, (rows,)."""
        return logits_of_scores(self.scores(features), self.labels)

    def slopes(self, features: np.ndarray) -> np.ndarray:
        """Return the slope of each row's logit along its features, (rows, features)."""
        scores = self.scores(features)
        shares = np.zeros_like(scores)
        for label, sign in ((0, -1.0), (1, 1.0)):
            own = self.labels == label
            shares[:, own] = sign * np.exp(scores[:, own] - log_sum(scores[:, own])[:, None])
        return shares @ self.kernel.T


def logits_of_scores(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the logit of fake of each row of scores, (rows,).

    Args:
        scores: Of the sources, (rows, classes).
        labels: 0 real, 1 fake, of each class, (classes,).
    """
    return log_sum(scores[:, labels == 1]) - log_sum(scores[:, labels == 0])


def log_sum(scores: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum of the exponentials of each row, (rows,)."""
    top = scores.max(axis=1)
    return top + np.log(np.exp(scores - top[:, None]).sum(axis=1))


def source_weights(source: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Weigh each source by a power of its size; both labels keep their sums.

    Args:
        source: Of the rows, (rows,).
        label: 0 real, 1 fake, of the rows.
        weight: Of the rows before; by default such that both labels have the same sum, and all have the mean 1.

    Returns:
        float32, (rows,).
    """
    if weight is None:
        weight = len(label) / 2 / np.bincount(label.astype(int), minlength=2)[label.astype(int)]
    pairs = np.char.add(source.astype(str), np.where(label == 1, "\0fake", "\0real"))
    _, place, count = np.unique(pairs, return_inverse=True, return_counts=True)
    out = weight * count[place] ** (POWER - 1)
    for value in (0, 1):
        own = label == value
        out[own] *= weight[own].sum() / out[own].sum()
    return out.astype("float32")


def solve(
    features: np.ndarray,
    place: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray,
    *,
    strength: float = STRENGTH,
    iterations: int = ITERATIONS,
    start: SourceHead | None = None,
) -> SourceHead:
    """Solve the regularised multinomial logistic regression of the sources, by L-BFGS.

    Args:
        features: float32, (rows, features), of about unit variance.
        place: The class of each row, int, (rows,).
        labels: 0 real, 1 fake, of each class, (classes,).
        weight: Of each row in the loss, (rows,).
        strength: Inverse of the regularisation.
        iterations: At most.
        start: Where to begin: a head of the same classes.
    """
    from scipy.optimize import minimize

    width, classes = features.shape[1], len(labels)
    one_hot = np.zeros((len(place), classes), dtype=np.float32)
    one_hot[np.arange(len(place)), place] = 1.0
    weight = np.asarray(weight, dtype=np.float32)

    def loss(vector: np.ndarray) -> tuple[float, np.ndarray]:
        kernel = vector[: width * classes].reshape(width, classes).astype(np.float32)
        scores = features @ kernel + vector[width * classes :].astype(np.float32)
        total = log_sum(scores)
        own = scores[np.arange(len(place)), place]
        slope = (np.exp(scores - total[:, None]) - one_hot) * weight[:, None]
        value = strength * float((weight * (total - own)).sum(dtype=np.float64))
        value += 0.5 * float(np.square(vector[: width * classes]).sum())
        down = (strength * (features.T @ slope) + kernel).ravel()
        return value, np.concatenate([down, strength * slope.sum(axis=0)]).astype(np.float64)

    first = np.zeros((width + 1) * classes)
    if start is not None:
        first = np.concatenate([start.kernel.ravel(), start.bias]).astype(np.float64)
    best = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": iterations, "maxcor": 8}).x
    kernel = best[: width * classes].reshape(width, classes)
    return SourceHead(kernel.astype(np.float32), best[width * classes :].astype(np.float32), np.asarray(labels))
