"""What follows from quantiles for those who say nothing else of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from domain.quantiles import CANONICAL_LEVELS, QuantileTable
from sim.scoring import Forecasts, Truth


def with_derived(said: Forecasts, truth: Truth) -> Forecasts:
    """Return forecasts whose ``sigma`` and ``risk_sigma`` follow from their quantiles.

    ``sigma`` is the standard deviation of the completed quantile function. ``risk_sigma`` is
    2·F(−σ), at most 1, with σ the trailing volatility: a walk without drift that reaches −σ on its
    way is as likely to end above it as below (the reflection principle; Feller, *An Introduction to
    Probability Theory*, III.4), so it gets there twice as often as it ends there. No parameter,
    nothing is fitted. NaN without quantiles, and for the risk without σ.
    """
    spoken = np.asarray(np.isfinite(said.quantiles).all(axis=1))
    sigma, chance = np.full((2, len(spoken)), np.nan)
    ends = QuantileTable.of(CANONICAL_LEVELS, said.quantiles[spoken])
    sigma[spoken] = np.sqrt(ends.variance())
    chance[spoken] = np.minimum(2.0 * ends.cdf(-np.nan_to_num(truth.volatility[spoken])), 1.0)
    return replace(
        said, sigma=sigma, risk_sigma=np.where(np.isfinite(truth.volatility), chance, np.nan)
    )
