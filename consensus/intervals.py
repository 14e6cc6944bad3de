"""Stage 5: one distribution out of many.

Quantiles are Vincentised: the weighted average of the quantile functions, each level with weights
of its own, then moved by the tracker (:mod:`consensus.conformal`) and sorted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consensus.conformal import moved
from domain.quantiles import CANONICAL_LEVELS, Quantiles, QuantileTable

Floats = NDArray[np.float64]
_LEVELS = np.array(CANONICAL_LEVELS)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A forecast of r. ``mean`` = E[r], ``mean_abs`` = E|r| (log return), ``p_up`` = 1 − F(0).

    ``levels`` are the quantiles before the tracker, (13,), unsorted.
    """

    quantiles: Quantiles
    mean: float
    mean_abs: float
    p_up: float
    levels: tuple[float, ...]


def vincentise(
    rows: Mapping[str, Floats], weights: Mapping[str, tuple[float, ...]],
    sigma: float | None = None, theta: tuple[float, ...] | None = None,
) -> Distribution:  # fmt: skip
    """Average quantile functions.

    Parameters
    ----------
    rows : agent → quantiles on the canonical levels, (13,), log return; at least one.
    weights : agent → (13,) w ≥ 0, at each level summing to 1 over the agents in ``rows``.
    sigma : volatility of the horizon; None = no tracker. ``theta`` : (13,) its state.
    """
    agents = sorted(rows)
    share = np.array([weights[agent] for agent in agents])
    stack = np.stack([rows[agent] for agent in agents])  # (agents, 13)
    raw = (share * stack).sum(axis=0)
    published = raw if sigma is None or theta is None else moved(raw, sigma, np.array(theta))
    table = QuantileTable.of(_LEVELS, published)
    below = table.cdf(0.0)
    mean = float(table.mean()[0])
    mean_abs = max(0.0, mean - 2.0 * float(table.partial_mean(below)[0]))
    quantiles = Quantiles(CANONICAL_LEVELS, tuple(table.values[0].tolist()))
    return Distribution(quantiles, mean, mean_abs, 1.0 - float(below[0]), tuple(raw.tolist()))
