"""What follows from quantiles and risk for those who say nothing else of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from domain.opinion import ADVERSE_MOVE
from domain.quantiles import CANONICAL_LEVELS, QuantileTable
from sim.scoring import Floats, Forecasts, Truth

_SCALES = (0.25, 4.0)  # of the spread that a risk may imply
_HALVINGS = 24


def with_derived(said: Forecasts, truth: Truth) -> Forecasts:
    """Return forecasts whose ``sigma`` and ``risk_sigma`` follow from what they say.

    ``sigma`` is the standard deviation of the completed quantile function. ``risk_sigma`` is
    2·F(−σ/√s), at most 1, with σ the trailing volatility. A walk without drift that reaches −σ on
    its way is as likely to end above it as below (the reflection principle; Feller, *An
    Introduction to Probability Theory*, III.4), so it gets there twice as often as it ends there;
    s is the factor on the spread at which the same gives the risk that was forecast, and its root
    lies half way between both tellings of how far the price may move (chosen on 2024). Nothing is
    fitted. NaN without quantiles, and for the risk without σ; s = 1 without a risk.
    """
    spoken = np.asarray(np.isfinite(said.quantiles).all(axis=1))
    sigma, chance = np.full((2, len(spoken)), np.nan)
    ends = QuantileTable.of(CANONICAL_LEVELS, said.quantiles[spoken])
    sigma[spoken] = np.sqrt(ends.variance())
    scale = np.sqrt(_implied(ends, said.risk_down[spoken]))
    chance[spoken] = _reached(ends, np.nan_to_num(truth.volatility[spoken]) / scale)
    chance[~np.isfinite(truth.volatility)] = np.nan
    return replace(said, sigma=sigma, risk_sigma=chance)


def _reached(ends: QuantileTable, fall: Floats) -> Floats:
    """P(the price falls by ``fall`` on its way), (n,)."""
    return np.asarray(np.minimum(2.0 * ends.cdf(-fall), 1.0))


def _implied(ends: QuantileTable, risk: Floats) -> Floats:
    """The factor on the spread at which the adverse move is as likely as forecast, (n,)."""
    low, high = (np.full(len(risk), np.log(end)) for end in _SCALES)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        enough = _reached(ends, ADVERSE_MOVE / np.exp(middle)) >= risk
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(np.isfinite(risk), np.exp((low + high) / 2.0), 1.0)
