"""Trailing windows whose value never depends on where a chunk of bars began.

A sum over a window is the suffix sum of the block it starts in plus the prefix sum of the block it
ends in, blocks lying on absolute bar numbers (van Herk 1992, Gil & Werman 1993). Each output is
thus made from the window's own values, in one fixed order: no running sum drifts or remembers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FEW = 8  # windows up to this many are sorted one by one


def windows(x: Floats, width: int, last: int, count: int, op: np.ufunc = np.add) -> Floats:
    """Reduce the trailing windows that end in each of the last ``count`` columns.

    Parameters
    ----------
    x : (r, n) with n ≥ count + width − 1.
    width : window length in bars.
    last : absolute number of the bar in the last column (``ts // step``).
    op : ``np.add``, ``np.maximum`` or ``np.minimum``.

    Returns
    -------
    (r, count)
    """
    if width == 1:
        return x[:, x.shape[1] - count :]
    need = count + width - 1
    lead = (last - need + 1) % width
    total = -(-(lead + need) // width) * width
    padded = np.full((x.shape[0], total), _neutral(op))
    padded[:, lead : lead + need] = x[:, x.shape[1] - need :]
    blocks = padded.reshape(x.shape[0], -1, width)
    prefix = op.accumulate(blocks, axis=2).reshape(x.shape[0], -1)
    suffix = op.accumulate(blocks[:, :, ::-1], axis=2)[:, :, ::-1].reshape(x.shape[0], -1)
    ends = prefix[:, lead + width - 1 : lead + need]
    out = op(suffix[:, lead : lead + count], ends)
    whole = -lead % width  # windows that are exactly one block would be counted twice
    out[:, whole::width] = ends[:, whole::width]
    return np.asarray(out)


def _neutral(op: np.ufunc) -> float:
    if op is np.maximum:
        return -np.inf
    return np.inf if op is np.minimum else 0.0


def medians(x: Floats, width: int, available: NDArray[np.int64]) -> Floats:
    """Return the median of the trailing ``width`` values, or of the ``available`` newest if fewer.

    Parameters
    ----------
    x : (n,) with n ≥ len(available) + width − 1; what lies before the available ones is NaN.
    available : (count,) how many values there are up to each of the last columns, ≥ 1.
    """
    count = len(available)
    recent = x[len(x) - count - width + 1 :]
    if count > _FEW:
        import pandas as pd

        return np.asarray(pd.Series(recent).rolling(width, min_periods=1).median())[width - 1 :]
    out = np.empty(count)
    for j in range(count):
        stop = j + width
        out[j] = np.median(recent[stop - min(width, int(available[j])) : stop])
    return out


def share_below(x: Floats, every: int, samples: int, count: int) -> NDArray[np.int64]:
    """Count how many of x[i − every], x[i − 2·every], … (``samples`` of them) lie below x[i].

    Parameters
    ----------
    x : (n,) with n ≥ count + every·samples; +inf where there is no value.
    """
    span = every * samples
    past = sliding_window_view(x[len(x) - count - span :], span + 1)[:, :-1:every]
    return np.asarray(np.count_nonzero(past < x[len(x) - count :, None], axis=1), dtype=np.int64)


class Ewma:
    """y_t = α·x_t + (1 − α)·y_{t−1} on r series at once, carrying its state between calls."""

    __slots__ = ("_a", "_b", "_decay", "_z")

    def __init__(self, alpha: float, rows: int = 1) -> None:
        self._b, self._a = np.array([alpha]), np.array([1.0, alpha - 1.0])
        self._decay = 1.0 - alpha
        self._z = np.zeros((rows, 1))

    def seed(self, start: Floats) -> None:
        """Start again as if y had always been ``start``, (r,)."""
        self._z = self._decay * np.reshape(start, (-1, 1))

    def run(self, x: Floats) -> Floats:
        """Continue over x, (r, n)."""
        from scipy.signal import lfilter  # a second of imports, which most commands never need

        y, self._z = lfilter(self._b, self._a, x, axis=1, zi=self._z)
        return np.asarray(y)


@lru_cache(maxsize=8)
def seen_weight(decay: float) -> Floats:
    """Return 1 − decayᵐ for m = 0, 1, …: what the weights of m observations sum to; then 1.

    Dividing a recursion that started from zero by it gives the mean of the observations alone.
    """
    length = int(np.ceil(np.log(1e-17) / np.log(decay))) + 1
    table = 1.0 - decay ** np.arange(length)
    table[0] = 1.0
    return np.asarray(table)


def observed_mean(y: Floats, decay: float, observations: NDArray[np.int64]) -> Floats:
    """Divide a recursion that started from zero by the weight it has seen."""
    table = seen_weight(decay)
    return np.asarray(y / table[np.minimum(observations, len(table) - 1)])
