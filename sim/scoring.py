"""Score a column of forecasts against what happened; the definitions are those of domain.scores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from domain import scores as proper
from domain.opinion import ADVERSE_MOVE
from domain.quantiles import CANONICAL_LEVELS, REQUIRED_LEVELS
from sim.statistics.calibration import calibration_slope
from sim.statistics.comparing import dm_t, hac_lag
from sim.statistics.distribution import qlike

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Stamps = NDArray[np.int64]
Scores = dict[str, float | int | None]

SCORED = [CANONICAL_LEVELS.index(level) for level in REQUIRED_LEVELS]

UNIT = 1e4  # gains are told in 10⁻⁴ of the Brier score, returns in bp
MOST_EVIDENCE = 690.0  # e^690 is the largest power of e that JSON can hold

# Of p from row to row. What a base rate or the sign of a trailing month's range changes by is
# 5e-5 (BTC/USDT spot, 5m and 15m bars of 2024); over months its sd is .005, so that says nothing.
_DIRECTION_MOVES = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What happened after each of n rows.

    Attributes
    ----------
    log_return : (n,) over the horizon.
    drop, rise : (n,) largest fall and rise within it, fractions ≥ 0.
    ts : (n,) open of the deciding bar, UTC ms.
    realised : (n,) RV, sum of the squared log returns of the horizon's bars.
    volatility : (n,) σ25 of the trailing day, known at the decision, log return over the horizon.
    """

    log_return: Floats
    drop: Floats
    rise: Floats
    ts: Stamps
    realised: Floats
    volatility: Floats

    def __len__(self) -> int:
        return len(self.log_return)

    @property
    def up(self) -> Mask:
        """(n,) whether the price was higher; a tie is not up."""
        return np.asarray(self.log_return > 0.0)

    def take(self, index: NDArray[np.int64]) -> Self:
        """Return the outcomes of other rows: a shuffle, or a part."""
        return type(self)(
            self.log_return[index], self.drop[index], self.rise[index], self.ts[index],
            self.realised[index], self.volatility[index],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """One forecaster's forecasts for n rows; NaN where it does not forecast.

    Attributes
    ----------
    p_up : (n,) P(r > 0), already 1 − F(0) where it gives quantiles only.
    quantiles : (n, 13) of r on the canonical levels, log return, each row non-decreasing.
    risk_down, risk_up : (n,) P(drop > 0.5 %), P(rise > 0.5 %).
    risk_sigma : (n,) P(drop > one trailing σ of the horizon, ``Truth.volatility``).
    sigma : (n,) standard deviation of r, where the forecaster says it; log return.
    weight : (n,) published weight.
    in_sample : (n,) rows before the end of its training; never scored.
    """

    p_up: Floats
    quantiles: Floats
    risk_down: Floats
    risk_up: Floats
    risk_sigma: Floats
    sigma: Floats
    weight: Floats
    in_sample: Mask

    @classmethod
    def silent(cls, n: int) -> Self:
        """Return n rows without a forecast, to be filled in."""

        def blank() -> Floats:
            return np.full(n, np.nan)

        return cls(
            blank(), np.full((n, len(CANONICAL_LEVELS)), np.nan), blank(), blank(), blank(),
            blank(), blank(), np.zeros(n, dtype=np.bool_),
        )  # fmt: skip

    @property
    def awake(self) -> Mask:
        """(n,) whether it said anything that counts."""
        spoke = np.isfinite(self.p_up) | np.isfinite(self.quantiles).all(axis=1)
        return np.asarray((spoke | np.isfinite(self.risk_down)) & ~self.in_sample)


def scores(
    forecasts: Forecasts, truth: Truth, rows: Mask | None = None, *, horizon: int = 5
) -> Scores:
    """Return S of one forecaster over the rows where it was awake.

    Parameters
    ----------
    rows : (n,) restricts the rows further (the rows common to all).
    horizon : H, bars that a label spans.

    Returns
    -------
    ``n`` and the scores of DESIGN.md; None where there is nothing to score. More keys: ``dm_t``
    is the Diebold-Mariano statistic of the Brier score against ½ (Newey-West, lag max(60, 2·H);
    positive is better than ½), ``calibration_slope`` the slope of the outcome on logit p,
    ``qlike`` the mean of ln σ² + RV/σ², ``risk_up_…`` and ``risk_sigma_…`` score the rise and the
    fall beyond one σ of the trailing day, ``in_sample`` is the number of rows left out because
    the model was trained on them.
    """
    use = forecasts.awake if rows is None else forecasts.awake & rows
    left_out = int(forecasts.in_sample.sum())
    return {
        "n": int(use.sum()),
        **_direction(forecasts.p_up, truth.up, use, hac_lag(horizon)),
        **_distribution(forecasts.quantiles, truth.log_return, use),
        "qlike": _qlike(forecasts.sigma, truth.realised, use),
        **_risk("risk", forecasts.risk_down, truth.drop > ADVERSE_MOVE, use),
        **_risk("risk_up", forecasts.risk_up, truth.rise > ADVERSE_MOVE, use),
        **_risk("risk_sigma", forecasts.risk_sigma, truth.drop > truth.volatility, use),
        "weight_mean": _mean(forecasts.weight[use & np.isfinite(forecasts.weight)]),
        "in_sample": left_out,
    }


def directional(p_up: Floats) -> bool:
    """Return whether p says which way the price goes, and not only how often it rises.

    It does if it moves from row to row: √(mean (p_t − p_{t−1})² / 2) ≥ 0.001, which for white
    forecasts is their standard deviation. A base rate does not, nor does p = 1 − F(0) of a range
    that is no more than scaled by volatility or taken from a trailing month.

    Parameters
    ----------
    p_up : (n,) in time order; rows that are not finite are left out.
    """
    moves = np.diff(p_up[np.isfinite(p_up)])
    usual = math.sqrt(float(moves @ moves) / (2 * max(len(moves), 1)))
    return usual >= _DIRECTION_MOVES


def pinball_losses(quantiles: Floats, r: Floats) -> Floats:
    """Return the mean pinball loss over .1, .5 and .9 of each row, (n,), log return.

    Parameters
    ----------
    quantiles : (n, 13) on the canonical levels. ``r`` : (n,) what happened.
    """
    losses = proper.pinball(quantiles[:, SCORED], r[:, None], np.array(REQUIRED_LEVELS))
    return np.asarray(losses.mean(axis=1))


def day_block_shuffles(
    n: int, count: int, rng: np.random.Generator, block: int
) -> Iterator[NDArray[np.int64]]:
    """Iterate over ``count`` reorderings of n rows by whole blocks, each an index array (n,).

    Parameters
    ----------
    block : rows; a day or more (:func:`sim.statistics.comparing.block_bars`).

    The series is rotated by a random offset first, so that block edges fall elsewhere each time
    and hardly a row keeps its own outcome.
    """
    for _ in range(count):
        rows = np.roll(np.arange(n, dtype=np.int64), int(rng.integers(1, max(n, 2))))
        blocks = [rows[start : start + block] for start in range(0, n, block)]
        order = rng.permutation(len(blocks))
        yield np.concatenate([blocks[k] for k in order])


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def _direction(p_up: Floats, up: Mask, use: Mask, lag: int) -> Scores:
    rows = use & np.isfinite(p_up)
    p, y = p_up[rows], up[rows]
    names = ("brier", "brier_skill_1e4", "log_loss", "auc", "accuracy", "dm_t")
    if not len(p):
        return dict.fromkeys((*names, "calibration_slope"))
    loss = proper.brier(p, y)
    area = proper.auc(p, y)
    return {
        "brier": float(loss.mean()),
        "brier_skill_1e4": float((0.25 - loss.mean()) * 1e4),
        "log_loss": float(proper.log_loss(p, y).mean()),
        "auc": area if math.isfinite(area) else None,
        "accuracy": proper.accuracy(p, y),
        "dm_t": dm_t(0.25 - loss, lag),
        "calibration_slope": calibration_slope(p, y),
    }


def _distribution(quantiles: Floats, r: Floats, use: Mask) -> Scores:
    rows = use & np.isfinite(quantiles).all(axis=1)
    q, r = quantiles[rows][:, SCORED], r[rows]
    if not len(q):
        return dict.fromkeys(("pinball_bps", "coverage_80", "interval_score_bps"))
    return {
        "pinball_bps": float(pinball_losses(quantiles[rows], r).mean() * UNIT),
        "coverage_80": float(proper.covered(q[:, 0], q[:, 2], r).mean()),
        "interval_score_bps": float(proper.interval_score(q[:, 0], q[:, 2], r).mean() * 1e4),
    }


def _qlike(sigma: Floats, realised: Floats, use: Mask) -> float | None:
    rows = use & (sigma > 0.0) & np.isfinite(realised)
    return _mean(qlike(sigma[rows], realised[rows]))


def _risk(name: str, risk: Floats, event: Mask, use: Mask) -> Scores:
    rows = use & np.isfinite(risk)
    p, y = risk[rows], event[rows]
    if not len(p):
        return {f"{name}_brier": None, f"{name}_auc": None}
    area = proper.auc(p, y)
    return {
        f"{name}_brier": float(proper.brier(p, y).mean()),
        f"{name}_auc": area if math.isfinite(area) else None,
    }
