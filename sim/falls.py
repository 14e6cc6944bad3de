"""How likely a fall on the way is, for those who say only where the way ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from domain.quantiles import CANONICAL_LEVELS, QuantileTable
from sim.scoring import Forecasts, Truth


def with_sigma_risk(said: Forecasts, truth: Truth) -> Forecasts:
    """Return forecasts whose ``risk_sigma`` follows from their quantiles: 2·F(−σ), at most 1.

    A walk without drift that reaches −σ on its way is as likely to end above it as below (the
    reflection principle; Feller, *An Introduction to Probability Theory*, III.4), so it gets there
    twice as often as it ends there. No parameter, nothing is fitted. NaN without quantiles or σ.
    """
    known = np.isfinite(said.quantiles).all(axis=1) & np.isfinite(truth.volatility)
    chance = np.full(len(said.p_up), np.nan)
    ends = QuantileTable.of(CANONICAL_LEVELS, said.quantiles[known]).cdf(-truth.volatility[known])
    chance[known] = np.minimum(2.0 * ends, 1.0)
    return replace(said, risk_sigma=chance)
