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
from sim.statistics.comparing import dm_t
from sim.statistics.distribution import qlike

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Stamps = NDArray[np.int64]
Scores = dict[str, float | int | None]

SCORED = [CANONICAL_LEVELS.index(level) for level in REQUIRED_LEVELS]

DAY_BARS = 288  # block of the label shuffles, in five-minute bars


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


def scores(forecasts: Forecasts, truth: Truth, rows: Mask | None = None) -> Scores:
    """Return S of one forecaster over the rows where it was awake.

    Parameters
    ----------
    rows : (n,) restricts the rows further (the rows common to all).

    Returns
    -------
    ``n`` and the scores of DESIGN.md; None where there is nothing to score. More keys: ``dm_t``
    is the Diebold-Mariano statistic of the Brier score against ½ (Newey-West, lag 60; positive is
    better than ½), ``calibration_slope`` the slope of the outcome on logit p, ``qlike`` the mean
    of ln σ² + RV/σ², ``risk_up_…`` and ``risk_sigma_…`` score the rise and the fall beyond one σ
    of the trailing day, ``in_sample`` is the number of rows left out because the model was
    trained on them.
    """
    use = forecasts.awake if rows is None else forecasts.awake & rows
    left_out = int(forecasts.in_sample.sum())
    return {
        "n": int(use.sum()),
        **_direction(forecasts.p_up, truth.up, use),
        **_distribution(forecasts.quantiles, truth.log_return, use),
        "qlike": _qlike(forecasts.sigma, truth.realised, use),
        **_risk("risk", forecasts.risk_down, truth.drop > ADVERSE_MOVE, use),
        **_risk("risk_up", forecasts.risk_up, truth.rise > ADVERSE_MOVE, use),
        **_risk("risk_sigma", forecasts.risk_sigma, truth.drop > truth.volatility, use),
        "weight_mean": _mean(forecasts.weight[use & np.isfinite(forecasts.weight)]),
        "in_sample": left_out,
    }


def day_block_shuffles(
    n: int, count: int, rng: np.random.Generator, block: int = DAY_BARS
) -> Iterator[NDArray[np.int64]]:
    """Iterate over ``count`` reorderings of n rows by whole blocks, each an index array (n,).

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


def _direction(p_up: Floats, up: Mask, use: Mask) -> Scores:
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
        "dm_t": dm_t(0.25 - loss),
        "calibration_slope": calibration_slope(p, y),
    }


def _distribution(quantiles: Floats, r: Floats, use: Mask) -> Scores:
    rows = use & np.isfinite(quantiles).all(axis=1)
    q, r = quantiles[rows][:, SCORED], r[rows]
    if not len(q):
        return dict.fromkeys(("pinball_bps", "coverage_80", "interval_score_bps"))
    loss = proper.pinball(q, r[:, None], np.array(REQUIRED_LEVELS))
    return {
        "pinball_bps": float(loss.mean() * 1e4),
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
