"""Stage 3: candidate pools of p. One entry in the dictionary of candidates per pool."""

from __future__ import annotations

import math
from collections.abc import Mapping

EQUAL_POOL = "equal_log_pool"
BRIER_POOL = "brier_log_pool"


def logit(p: float) -> float:
    """Return ln(p / (1 − p)) for p in (0, 1)."""
    return math.log(p / (1.0 - p))


def log_pool(p: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return the weighted logarithmic pool: the p whose logit is Σ w_i logit p_i.

    Parameters
    ----------
    p : agent → p in (0, 1), at least one.
    weights : agent → w ≥ 0, summing to 1 over the agents in ``p``.

    Returns
    -------
    A probability between the smallest and the largest input; the order of agents is irrelevant.
    """
    total = math.fsum(weights[agent] * logit(chance) for agent, chance in p.items())
    pooled = 1.0 / (1.0 + math.exp(-total))
    return min(max(pooled, min(p.values())), max(p.values()))


def candidate_pools(p: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """Return every candidate for the published p, by name.

    Parameters
    ----------
    p : awake member → admitted p.
    weights : their Brier weights, summing to 1.
    """
    equal = dict.fromkeys(p, 1.0 / len(p))
    return {EQUAL_POOL: log_pool(p, equal), BRIER_POOL: log_pool(p, weights)}
