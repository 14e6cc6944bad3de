"""How sure a difference of losses is: Newey-West errors, Diebold-Mariano, the block bootstrap.

Losses at neighbouring bars overlap and are serially correlated; every error here allows for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.errors import UsageError
from domain.times import DAY_MS
from sim.statistics.calibration import HAC_LAG

Floats = NDArray[np.float64]

BLOCK = 288  # one day of five-minute bars


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which of two forecasters had the lower loss, and how sure that is.

    Attributes
    ----------
    n : rows compared.
    difference : mean(loss_b − loss_a), in the unit of the loss; positive means a is better.
    se : its Newey-West standard error.
    t : difference / se, the Diebold-Mariano statistic.
    p_value : two-sided, from the normal distribution, in [0, 1].

    ``se``, ``t`` and ``p_value`` are None if the difference does not vary or n ≤ lag + 1.
    """

    n: int
    difference: float
    se: float | None
    t: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Bootstrap:
    """A bootstrap of k statistics; every field has shape (k,), or () for a single series.

    Attributes
    ----------
    mean : the statistic of the data themselves, in the unit of the data (ratios: percent).
    se : standard deviation over the resamples.
    lo, hi : percentile interval.
    """

    mean: Floats
    se: Floats
    lo: Floats
    hi: Floats


def hac_lag(horizon: int) -> int:
    """Return the lag of Newey-West errors for labels that span ``horizon`` bars: max(60, 2·H).

    Of the variance that the overlap of white moves makes, Bartlett weights (Newey & West 1987)
    find two thirds with a lag of H, five sixths with 2·H: t then is 1.1 times too large, not 1.2.
    """
    return max(HAC_LAG, 2 * horizon)


def day_bars(step_ms: int) -> int:
    """Return how many bars of ``step_ms`` make a day, at least one."""
    return max(1, DAY_MS // step_ms)


def block_bars(horizon: int, step_ms: int) -> int:
    """Return the block of a bootstrap or shuffle: max(one day, 2·H) in bars of ``step_ms``.

    A day keeps the season of the day together, two horizons keep overlapping labels together.
    """
    return max(day_bars(step_ms), 2 * horizon)


def hac_se(x: Floats, lag: int = HAC_LAG) -> float:
    """Return the standard error of mean(x) with Bartlett weights (Newey & West 1987).

    Parameters
    ----------
    x : (n,) finite, in time order.
    lag : longest autocovariance used, bars; 0 gives the error of independent rows.

    Raises
    ------
    UsageError : if n ≤ lag + 1, or x is not a finite series.
    """
    x = _series("x", x)
    if len(x) <= lag + 1:
        raise UsageError("hac_se", f"needs more than lag + 1 = {lag + 1} rows", len(x))
    return math.sqrt(max(_long_run_sum(x - x.mean(), lag), 0.0)) / len(x)


def dm_t(gain: Floats, lag: int = HAC_LAG) -> float | None:
    """Return mean(gain) over its Newey-West standard error; None if it does not vary.

    Parameters
    ----------
    gain : (n,) loss of the reference minus loss of the forecast, in time order. With n ≤ lag + 1
        the answer is None too.
    """
    n = len(gain)
    if n <= lag + 1:
        return None
    mean = gain.mean()
    variance = _long_run_sum(gain - mean, lag)
    return None if variance <= 1e-18 * n else float(mean * n / math.sqrt(variance))


def diebold_mariano(loss_a: Floats, loss_b: Floats, lag: int = HAC_LAG) -> Comparison:
    """Compare two columns of losses over the same rows (Diebold & Mariano 1995).

    Parameters
    ----------
    loss_a, loss_b : (n,) finite, n ≥ 1, in time order, any common unit.
    lag : bars; at least horizon − 1 for overlapping labels.

    Raises
    ------
    UsageError : if the columns are empty, not finite, or not of one length.
    """
    loss_a, loss_b = _series("loss_a", loss_a), _series("loss_b", loss_b)
    if len(loss_a) != len(loss_b):
        raise UsageError("losses", "must be of the same rows", (len(loss_a), len(loss_b)))
    gain = loss_b - loss_a
    n, difference, t = len(gain), float(gain.mean()), dm_t(gain, lag)
    if t is None:
        return Comparison(n, difference, None, None, None)
    return Comparison(n, difference, hac_se(gain, lag), t, math.erfc(abs(t) / math.sqrt(2.0)))


def block_bootstrap(
    x: Floats, block: int = BLOCK, resamples: int = 1000, seed: int = 7, level: float = 0.95
) -> Bootstrap | None:
    """Bootstrap the mean by blocks on a circle (Politis & Romano 1992).

    A resample draws ⌈n/block⌉ starts and cuts the last block so that it has n rows. Sums of
    blocks come from cumulative sums, so the work is O(n + resamples · n/block) per column. All
    columns share the draws: their resampled means stay comparable.

    Parameters
    ----------
    x : (n,) or (n, k) finite, in time order.
    block : rows; longer than the serial correlation.
    level : of the percentile interval, in (0, 1).

    Returns
    -------
    None if there are fewer than two blocks, because the spread would say nothing.

    Raises
    ------
    UsageError : if x is empty, not finite or has more than two axes, or block < 1.
    """
    columns = np.asarray(x, dtype=np.float64)
    columns = columns[:, None] if columns.ndim == 1 else columns
    means = _resampled_means(columns, block, resamples, seed)
    if means is None:
        return None
    value = np.ascontiguousarray(columns.T).mean(axis=1)  # so that a column is summed as if alone
    return _summary(value, means, level, single=np.ndim(x) == 1)


def ratio_bootstrap(
    a: Floats,
    b: Floats,
    block: int = BLOCK,
    resamples: int = 1000,
    seed: int = 7,
    level: float = 0.95,
) -> Bootstrap | None:
    """Bootstrap 100 · (mean(a)/mean(b) − 1), the loss of a against that of b, in percent.

    Parameters and errors as :func:`block_bootstrap`; a and b are (n,), b with a positive mean in
    every resample (losses), and both are resampled by the same blocks.
    """
    a, b = _series("a", a), _series("b", b)
    if len(a) != len(b):
        raise UsageError("losses", "must be of the same rows", (len(a), len(b)))
    if b.min() < 0.0 or not b.any():
        raise UsageError("the reference loss", "must be ≥ 0 and not 0 throughout", float(b.min()))
    means = _resampled_means(np.column_stack([a, b]), block, resamples, seed)
    if means is None:
        return None
    percent = 100.0 * (means[:1] / means[1:] - 1.0)
    return _summary(np.array([100.0 * (a.mean() / b.mean() - 1.0)]), percent, level, single=True)


def _series(name: str, x: Floats) -> Floats:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 1 or not len(x):
        raise UsageError(name, "must be a series of at least one row", x.shape)
    if not np.isfinite(x).all():
        raise UsageError(name, "must be finite", hint="Leave out rows without a score")
    return x


def _long_run_sum(centred: Floats, lag: int) -> float:
    """Sum the Bartlett-weighted autocovariances, times n."""
    total = float(centred @ centred)
    for k in range(1, lag + 1):
        total += 2.0 * (1.0 - k / (lag + 1.0)) * float(centred[k:] @ centred[:-k])
    return total


def _resampled_means(x: Floats, block: int, resamples: int, seed: int) -> Floats | None:
    """(k, resamples) means of the columns of x (n, k)."""
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise UsageError("x", "must be finite rows by columns, at least one row", x.shape)
    if block < 1:
        raise UsageError("block", "must be at least one row", block)
    n = len(x)
    if n < 2 * block:
        return None
    whole, rest = divmod(n, block)
    rng = np.random.default_rng(seed)
    starts = rng.integers(n, size=(resamples, whole))
    last = rng.integers(n, size=resamples)
    means = np.empty((x.shape[1], resamples))
    for k, column in enumerate(
        np.ascontiguousarray(x.T)
    ):  # by column: (resamples, blocks) at a time is all it holds
        centre = column.mean()  # sums of deviations: cumulative sums of losses lose digits
        summed = np.concatenate(
            [[0.0], np.cumsum(np.concatenate([column, column[:block]]) - centre)]
        )
        sums = (summed[block : n + block] - summed[:n])[starts].sum(axis=1)
        sums += summed[last + rest] - summed[last]
        means[k] = centre + sums / n
    return means


def _summary(value: Floats, resampled: Floats, level: float, *, single: bool) -> Bootstrap:
    tail = (1.0 - level) / 2.0
    lo, hi = np.quantile(resampled, [tail, 1.0 - tail], axis=1)
    fields = (value, resampled.std(axis=1, ddof=1), lo, hi)
    return Bootstrap(*(np.asarray(f[0] if single else f) for f in fields))
