"""What follows from quantiles: the spread, and by the reflection principle a fall on the way."""

import numpy as np
import pytest

from domain.quantiles import CANONICAL_LEVELS
from sim.derived import with_derived
from sim.scoring import Forecasts, Truth


def happened(n, volatility):
    nothing = np.zeros(n)
    return Truth(nothing, nothing, nothing, np.arange(n) * 300_000, nothing, volatility)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_fall_when_paths_are_fine_walks_happens_as_often_as_said(sigma):
    """A walk of 1 000 steps overshoots a barrier by little; its ends are what quantiles tell."""
    rng = np.random.default_rng(7)
    paths = np.cumsum(rng.normal(0.0, 1.0, (6_000, 1_000)).astype(np.float32), axis=1) / 1_000**0.5
    said = Forecasts.silent(1)
    said.quantiles[:] = np.quantile(paths[:, -1], CANONICAL_LEVELS)
    made = with_derived(said, happened(1, np.array([sigma])))
    chance = made.risk_sigma[0]
    assert made.sigma[0] == pytest.approx(1.0, abs=0.05)
    assert chance == pytest.approx((paths.min(axis=1) < -sigma).mean(), abs=0.03)


def test_fall_when_quantiles_or_volatility_are_missing_is_not_said():
    said = Forecasts.silent(3)
    said.quantiles[1:] = np.linspace(-1e-3, 1e-3, 13)
    chance = with_derived(said, happened(3, np.array([1e-3, np.nan, 1e-3]))).risk_sigma
    assert np.isnan(chance).tolist() == [True, True, False]
    assert np.isnan(with_derived(Forecasts.silent(2), happened(2, np.ones(2))).risk_sigma).all()


def test_fall_when_all_quantiles_lie_below_is_certain_and_no_more():
    said = Forecasts.silent(1)
    said.quantiles[:] = np.linspace(-9e-3, -5e-3, 13)
    assert with_derived(said, happened(1, np.array([1e-3]))).risk_sigma[0] == 1.0
