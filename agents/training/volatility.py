"""Fit the volatility models: season, HAR by maximum quasi-likelihood, residual quantiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from agents.risk import Logistic
from agents.volatility import (
    LOOKBACK,
    SLOTS,
    HarModel,
    Regressors,
    log_returns,
    regressors,
    season_at,
)
from agents.windows import Run, run_of, segments, trailing_sums
from domain.errors import DataRefused
from domain.market import BarFrame
from domain.opinion import ADVERSE_MOVE

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]

_SEASON_CAP = 25.0  # one crash must not become a habit of its slot
_NEWTON_STEPS = 50
_STILL = 1e-30  # RV of rows on which nothing moved
_FAR = 500.0  # of an exponent: beyond it nothing is finite


def per_run(bars: BarFrame, f: Callable[[Run], Floats]) -> Floats:
    """Apply ``f`` to each contiguous stretch as one run of states and join the results, (n, …)."""
    return np.concatenate(
        [f(run_of(bars.slice(start, stop), LOOKBACK)) for start, stop in segments(bars)]
    )


def fit_season(bars: BarFrame) -> Floats:
    """Return S, (2, 288): mean of min(r²/trailing mean r², 25), smoothed 1-2-1, mean 1."""

    def ratio(run: Run) -> Floats:
        squares = log_returns(run) ** 2
        seen = np.clip(run.lengths() - 1, 1, LOOKBACK - 1)
        mean = trailing_sums(squares, (LOOKBACK - 1,))[LOOKBACK - 1] / seen
        before = np.concatenate(([0.0], mean[:-1]))
        known = (before > 0) & (np.arange(len(before)) > SLOTS)
        return np.where(known, squares / np.where(known, before, 1.0), np.nan)

    ratios = np.minimum(per_run(bars, ratio), _SEASON_CAP)
    table = np.ones((2, SLOTS))
    numbers = np.arange(2 * SLOTS, dtype=np.float64).reshape(2, SLOTS)
    cell = season_at(numbers, bars.ts).astype(np.int64)
    known = np.isfinite(ratios)
    counts = np.bincount(cell[known], minlength=2 * SLOTS)
    sums = np.bincount(cell[known], weights=ratios[known], minlength=2 * SLOTS)
    raw = np.divide(sums, counts, out=np.ones(2 * SLOTS), where=counts > 0).reshape(2, SLOTS)
    table = (np.roll(raw, 1, axis=1) + 2.0 * raw + np.roll(raw, -1, axis=1)) / 4.0
    return np.asarray(np.maximum(table / table.mean(), 0.05))


def all_regressors(bars: BarFrame, season: Floats, horizon_bars: int) -> Regressors:
    """Return the HAR regressors of every bar, (n, …)."""
    parts = [
        regressors(run_of(bars.slice(start, stop), LOOKBACK), season, horizon_bars)
        for start, stop in segments(bars)
    ]
    return Regressors(
        np.concatenate([x.log_returns for x in parts]),
        np.concatenate([x.log_ranges for x in parts]),
        np.concatenate([x.offset for x in parts]),
    )


def fit_har(
    x: Regressors, realised: Floats, rows: Rows, season: Floats, horizon_bars: int, ranges: bool
) -> HarModel:
    """Minimise mean(η + RV·e^(−η)), η = x·β + offset, by Newton's method.

    Parameters
    ----------
    realised : (n,) RV, sum of the squared returns over the next H bars.
    rows : (n,) which rows to fit on.
    """
    matrix, offset, target = x.matrix(ranges)[rows], x.offset[rows], realised[rows]
    beta = np.zeros(matrix.shape[1])
    beta[0] = np.log(max(float(np.mean(target)), _STILL) / np.mean(np.exp(offset)))
    beta = newton(
        beta,
        lambda b: _qlike(matrix, offset, target, b),
        ridge=1e-9,
    )
    return HarModel(season, beta, horizon_bars)


def fit_logistic(sigma: Floats, event: Rows, rows: Rows) -> Logistic:
    """Fit P(event) = logistic in ln(σ̂/adverse move) by maximum likelihood."""
    matrix = np.stack((np.ones(int(rows.sum())), np.log(sigma[rows] / ADVERSE_MOVE)), axis=1)
    happened = event[rows].astype(np.float64)

    def loss(beta: Floats) -> tuple[float, Floats, Floats]:
        eta = np.clip(matrix @ beta, -30.0, 30.0)
        chance = 1.0 / (1.0 + np.exp(-eta))
        value = float(np.mean(np.logaddexp(0.0, eta) - happened * eta))
        return value, chance - happened, chance * (1.0 - chance)

    def derivatives(beta: Floats) -> tuple[float, Floats, Floats]:
        value, slope, weight = loss(beta)
        return value, matrix.T @ slope / len(slope), (matrix.T * weight) @ matrix / len(slope)

    intercept, slope = newton(np.zeros(2), derivatives, ridge=1e-9)
    return Logistic(float(intercept), float(slope))


def newton(
    beta: Floats, derivatives: Callable[[Floats], tuple[float, Floats, Floats]], ridge: float
) -> Floats:
    """Minimise a smooth convex function by Newton steps, halved until they improve it.

    One BLAS thread: more of them sum in another order and change the last bits of a fit.

    Raises
    ------
    DataRefused : if it ends nowhere.
    """
    try:
        with threadpool_limits(1, user_api="blas"):
            beta = _descend(beta, derivatives, ridge)
    except np.linalg.LinAlgError:  # no direction is left to go in
        beta = np.full_like(beta, np.nan)
    if not np.isfinite(beta).all():
        raise DataRefused(
            "bars", "must let a model be fitted: prices stand still, or jump, on too many", None,
            "Look at them, or move the range.",
        )  # fmt: skip
    return beta


def _descend(
    beta: Floats, derivatives: Callable[[Floats], tuple[float, Floats, Floats]], ridge: float
) -> Floats:
    value, gradient, hessian = derivatives(beta)
    for _ in range(_NEWTON_STEPS):
        step = np.linalg.solve(hessian + ridge * np.eye(len(beta)), gradient)
        size = 1.0
        while (trial := derivatives(beta - size * step))[0] > value and size > 1e-6:
            size /= 2.0
        beta, gain = beta - size * step, value - trial[0]
        value, gradient, hessian = trial
        if gain < 1e-13:
            break
    return beta


def _qlike(
    matrix: Floats, offset: Floats, target: Floats, beta: Floats
) -> tuple[float, Floats, Floats]:
    eta = matrix @ beta + offset
    ratio = target * np.exp(np.clip(-eta, -_FAR, _FAR))
    gradient = matrix.T @ (1.0 - ratio) / len(ratio)
    hessian = (matrix.T * ratio) @ matrix / len(ratio)
    return float(np.mean(eta + ratio)), gradient, hessian
