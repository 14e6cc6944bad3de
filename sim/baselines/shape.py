"""From a few quantiles to all canonical levels, and to the chance of a rise."""

from __future__ import annotations

import numpy as np

from domain.quantiles import CANONICAL_LEVELS, REQUIRED_LEVELS, QuantileTable
from sim.scoring import Floats

LEVELS = np.array(CANONICAL_LEVELS)
MEDIAN = CANONICAL_LEVELS.index(0.5)
OUTER = tuple(CANONICAL_LEVELS.index(level) for level in REQUIRED_LEVELS)


def chance_up(levels: tuple[float, ...], values: Floats) -> Floats:
    """Return 1 − F(0) for quantiles (n, k); NaN where a row is not finite."""
    out = np.full(len(values), np.nan)
    known = np.isfinite(values).all(axis=1)
    if known.any():
        out[known] = 1.0 - QuantileTable.of(levels, values[known]).cdf(0.0)
    return out


def completed(levels: tuple[float, ...], values: Floats) -> Floats:
    """Return quantiles (n, k) on the canonical levels, (n, 13); NaN where a row is not finite."""
    out = np.full((len(values), len(CANONICAL_LEVELS)), np.nan)
    known = np.isfinite(values).all(axis=1)
    if known.any():
        out[known] = QuantileTable.of(levels, values[known]).ppf(CANONICAL_LEVELS)
    return out


def stretched(values: Floats, shape: Floats) -> Floats:
    """Return .1, .5 and .9 quantiles (n, 3) on all levels, (n, 13), each side shaped as ``shape``.

    Parameters
    ----------
    values : (n, 3), each row non-decreasing.
    shape : (13,) increasing quantiles whose distances from their median are kept in proportion.
    """
    low, middle, high = (values[:, [k]] for k in range(3))
    away = shape - shape[MEDIAN]
    below = middle + (low - middle) * (away / away[OUTER[0]])
    above = middle + (high - middle) * (away / away[OUTER[2]])
    return np.asarray(np.where(np.arange(len(shape)) < MEDIAN, below, above))


def rescaled(values: Floats, lower: Floats, upper: Floats) -> Floats:
    """Return quantiles (n, 13) with each side's distance from the median × a factor (n,)."""
    middle = values[:, [MEDIAN]]
    factor = np.where(np.arange(values.shape[1]) < MEDIAN, lower[:, None], upper[:, None])
    return np.asarray(middle + (values - middle) * factor)
