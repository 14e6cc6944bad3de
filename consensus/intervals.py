"""Stage 5: the published distribution.

The pooled quantiles (Vincentised: each level the weighted average of the agents') are moved by the
tracker (:mod:`consensus.conformal`) and sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from consensus.conformal import LEVELS, moved
from domain.quantiles import CANONICAL_LEVELS, Quantiles, QuantileTable


@dataclass(frozen=True, slots=True)
class Distribution:
    """A forecast of r. ``mean`` = E[r], ``mean_abs`` = E|r| (log return), ``p_up`` = 1 − F(0)."""

    quantiles: Quantiles
    mean: float
    mean_abs: float
    p_up: float


def distribution(
    pooled: Sequence[float], sigma: float | None, theta: Sequence[float]
) -> Distribution:
    """Return what is published of pooled quantiles.

    Parameters
    ----------
    pooled : (13,) on the canonical levels, log return.
    sigma : volatility of the horizon; None = no tracker. ``theta`` : (13,) its state.
    """
    raw = np.array(pooled)
    table = QuantileTable.of(LEVELS, raw if sigma is None else moved(raw, sigma, np.array(theta)))
    below = table.cdf(0.0)
    mean = float(table.mean()[0])
    mean_abs = max(0.0, mean - 2.0 * float(table.partial_mean(below)[0]))
    quantiles = Quantiles(CANONICAL_LEVELS, tuple(table.values[0].tolist()))
    return Distribution(quantiles, mean, mean_abs, 1.0 - float(below[0]))
