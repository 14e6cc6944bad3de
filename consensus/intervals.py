"""Stage 5: one distribution and one risk per side out of many.

Quantiles are Vincentised: the weighted average of the quantile functions, level by level.
Risks are pooled linearly: for small probabilities the arithmetic mean lies above the geometric
one, so that an agent that sees danger is not argued away, and one that says 0 cannot veto.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.quantiles import CANONICAL_LEVELS, Quantiles, QuantileTable

Floats = NDArray[np.float64]
_LEVELS = np.array(CANONICAL_LEVELS)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A forecast of r. ``mean`` = E[r], ``mean_abs`` = E|r| (log return), ``p_up`` = 1 − F(0)."""

    quantiles: Quantiles
    mean: float
    mean_abs: float
    p_up: float


def vincentise(rows: Mapping[str, Floats], weights: Mapping[str, float]) -> Distribution:
    """Average quantile functions.

    Parameters
    ----------
    rows : agent → quantiles on the canonical levels, (13,), log return; at least one.
    weights : agent → w ≥ 0, summing to 1 over the agents in ``rows``.
    """
    agents = sorted(rows)
    share = np.array([weights[agent] for agent in agents])
    stack = np.stack([rows[agent] for agent in agents])  # (agents, 13)
    table = QuantileTable.of(_LEVELS, (share[:, None] * stack).sum(axis=0))
    below = table.cdf(0.0)
    mean = float(table.mean()[0])
    mean_abs = max(0.0, mean - 2.0 * float(table.partial_mean(below)[0]))
    quantiles = Quantiles(CANONICAL_LEVELS, tuple(table.values[0].tolist()))
    return Distribution(quantiles, mean, mean_abs, 1.0 - float(below[0]))


def linear_pool(risks: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
    """Return Σ w_i risk_i in [0, 1], or None if nobody forecast it."""
    if not risks:
        return None
    return min(1.0, math.fsum(weights[agent] * risk for agent, risk in risks.items()))
