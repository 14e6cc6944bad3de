"""Proper scores and friends, pure and vectorised. Probabilities in [0, 1], returns as fractions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def brier(p: ArrayLike, y: ArrayLike) -> Floats:
    """Return (p − y)² element by element (Brier 1950); 0 is best, ¼ is a constant ½."""
    return np.asarray((np.asarray(p, float) - np.asarray(y, float)) ** 2)


def log_loss(p: ArrayLike, y: ArrayLike) -> Floats:
    """Return −ln of the probability given to what happened; p is clipped to [1e-12, 1 − 1e-12]."""
    chance = np.clip(np.asarray(p, float), 1e-12, 1 - 1e-12)
    hit = np.asarray(y, float)
    return np.asarray(-(hit * np.log(chance) + (1 - hit) * np.log1p(-chance)))


def pinball(q: ArrayLike, r: ArrayLike, level: ArrayLike) -> Floats:
    """Return the pinball loss (τ − 1{r < q})(r − q), in the unit of r (Koenker & Bassett 1978)."""
    q, r, level = (np.asarray(x, float) for x in (q, r, level))
    return np.asarray((level - (r < q)) * (r - q))


def interval_score(low: ArrayLike, high: ArrayLike, r: ArrayLike, coverage: float = 0.8) -> Floats:
    """Return the interval score (Gneiting & Raftery 2007, eq. 43), in the unit of r."""
    low, high, r = (np.asarray(x, float) for x in (low, high, r))
    alpha = 1.0 - coverage
    miss = np.maximum(low - r, 0) + np.maximum(r - high, 0)
    return np.asarray(high - low + 2.0 / alpha * miss)


def covered(low: ArrayLike, high: ArrayLike, r: ArrayLike) -> NDArray[np.bool_]:
    """Return whether low ≤ r ≤ high."""
    low, high, r = (np.asarray(x, float) for x in (low, high, r))
    return np.asarray((low <= r) & (r <= high))


def auc(p: ArrayLike, y: ArrayLike) -> float:
    """Return the area under the ROC curve with ties counted half; NaN if one class is missing."""
    p, y = np.asarray(p, float), np.asarray(y, bool)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2.0)[inverse]
    return float((ranks[y].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def accuracy(p: ArrayLike, y: ArrayLike) -> float:
    """Return the share of outcomes on the predicted side; up is predicted iff p > ½."""
    return float(np.mean((np.asarray(p, float) > 0.5) == np.asarray(y, bool)))
