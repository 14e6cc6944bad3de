"""Stage 5: the published distribution.

The pooled quantiles (Vincentised: each level the weighted average of the agents') are moved by the
tracker (:mod:`consensus.conformal`) and sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.conformal import moved
from domain.quantiles import CANONICAL_LEVELS, Quantiles, canonical_moments


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
    values = tuple(sorted(pooled if sigma is None else moved(pooled, sigma, theta)))
    mean, mean_abs, below = canonical_moments(values)
    return Distribution(Quantiles(CANONICAL_LEVELS, values), mean, mean_abs, 1.0 - below)
