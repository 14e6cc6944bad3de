"""Volatility of the next H bars: EWMA, and HAR with intraday season and Parkinson ranges.

Formulas as in the project's reference table; HAR after Corsi, *A Simple Approximate Long-Memory
Model of Realized Volatility* (2009), ranges after Parkinson (1980). Every window is trailing and
uses what exists since the last gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from agents.windows import Run
from domain.errors import ModelError
from domain.times import DAY_MS

Floats = NDArray[np.float64]

RETURN_WINDOWS = (12, 48, 288, 2016)
RANGE_WINDOWS = (1, 3, 12, 48, 288, 2016)
LOOKBACK = 2017  # bars: 2 016 returns
EWMA_LAMBDA, EWMA_BARS = 0.94, 512  # λ^512 < 1e-13
SLOTS = 288  # five-minute slots of a UTC day
_FLOOR = 1e-14  # variance of one bar; a frozen price must not give −∞
_SHORT_FLOOR = 1e-3  # of the long-run mean, for windows that saw no trade


@dataclass(frozen=True, slots=True, eq=False)
class Regressors:
    """What the volatility model reads, one row per state.

    Attributes
    ----------
    log_returns : (n, 4) ln mean(r²/S) over :data:`RETURN_WINDOWS`.
    log_ranges : (n, 6) ln mean(Parkinson/S) over :data:`RANGE_WINDOWS`.
    offset : (n,) ln ΣS of the next H slots.
    """

    log_returns: Floats
    log_ranges: Floats
    offset: Floats

    def matrix(self, ranges: bool) -> Floats:
        """Return (n, 5) or, with ranges, (n, 11), a column of ones first."""
        ones = np.ones((len(self.offset), 1))
        parts = (ones, self.log_returns, self.log_ranges) if ranges else (ones, self.log_returns)
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class HarModel:
    """Fitted HAR: σ̂² = exp(x·β + offset), the variance of the log return over the horizon.

    Attributes
    ----------
    season : (2, 288) factor of r² by weekend and five-minute slot (UTC), mean 1.
    beta : (11,) with ranges, or (5,) without.
    horizon_bars : bars ahead that σ̂ covers.
    """

    season: Floats
    beta: Floats
    horizon_bars: int

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ModelError : if shapes are wrong or a number is not finite.
        """
        season = np.asarray(body["season"], dtype=np.float64)
        beta = np.asarray(body["beta"], dtype=np.float64)
        sizes = (1 + len(RETURN_WINDOWS), 1 + len(RETURN_WINDOWS) + len(RANGE_WINDOWS))
        if season.shape != (2, SLOTS) or beta.ndim != 1 or len(beta) not in sizes:
            raise ModelError("volatility", "needs season (2, 288) and 5 or 11 coefficients")
        if not (np.isfinite(season).all() and (season > 0).all() and np.isfinite(beta).all()):
            raise ModelError("volatility", "season and coefficients must be finite, season > 0")
        return cls(season, beta, int(body["horizon_bars"]))

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "season": self.season.tolist(),
            "beta": self.beta.tolist(),
            "horizon_bars": self.horizon_bars,
        }

    def sigma(self, run: Run) -> Floats:
        """Return σ̂ of the horizon's log return for each state of a run, (n,), > 0."""
        key = (self.season.tobytes(), self.beta.tobytes(), self.horizon_bars)
        return run.once(key, lambda: self.sigma_of(regressors(run, self.season, self.horizon_bars)))

    def sigma_of(self, x: Regressors) -> Floats:
        """Return σ̂ from regressors, (n,)."""
        matrix = x.matrix(ranges=len(self.beta) > 1 + len(RETURN_WINDOWS))
        # a sum along rows, not a matrix product: BLAS may round by batch size
        eta = np.sum(np.ascontiguousarray(matrix * self.beta), axis=1) + x.offset
        return np.asarray(np.exp(0.5 * np.clip(eta, np.log(_FLOOR), 0.0)))


def log_returns(run: Run) -> Floats:
    """Return ln(c_j/c_{j−1}) aligned with the run's bars; 0 for its first bar."""
    out = np.zeros(len(run.bars))
    out[1:] = np.diff(np.log(run.bars.close))
    return out


def ewma_sigma(run: Run, horizon_bars: int) -> Floats:
    """Return sqrt(H·EWMA(r², λ = .94)) at each state, (n,); log return over the horizon."""
    squares = log_returns(run) ** 2
    total = run.sums(squares, (EWMA_BARS,), EWMA_LAMBDA)[EWMA_BARS]
    seen = np.minimum(run.lengths() - 1, EWMA_BARS)
    weight = (1.0 - EWMA_LAMBDA**seen) / (1.0 - EWMA_LAMBDA)
    variance = np.divide(total, weight, out=np.zeros(len(seen)), where=seen > 0)
    return np.asarray(np.sqrt(np.maximum(horizon_bars * variance, _FLOOR)))


def day_sigma(run: Run, horizon_bars: int) -> Floats:
    """Return σ25: root mean square of the last 288 H-bar returns, (n,)."""
    moves = np.zeros(len(run.bars))
    if len(moves) > horizon_bars:
        logs = np.log(run.bars.close)
        moves[horizon_bars:] = logs[horizon_bars:] - logs[:-horizon_bars]
    total = run.sums(moves * moves, (SLOTS,))[SLOTS]
    seen = np.clip(run.lengths() - horizon_bars, 1, SLOTS)
    return np.asarray(np.sqrt(np.maximum(total / seen, _FLOOR)))


def regressors(run: Run, season: Floats, horizon_bars: int) -> Regressors:
    """Compute the HAR regressors of a run's states; season is (2, 288)."""
    factor = season_at(season, run.bars.ts)
    squares = log_returns(run) ** 2 / factor
    ranges = np.log(run.bars.high / run.bars.low) ** 2 / (4.0 * np.log(2.0)) / factor
    lengths = run.lengths()
    rows = run.sums(np.stack((squares, ranges), axis=1), RANGE_WINDOWS)
    means = [rows[w][:, 0] / np.clip(lengths - 1, 1, w) for w in RETURN_WINDOWS]
    spans = [rows[w][:, 1] / np.clip(lengths, 1, w) for w in RANGE_WINDOWS]
    step = run.bars.step_ms
    ahead = run.last(run.bars.ts)[:, None] + step * np.arange(1, horizon_bars + 1)
    offset = np.log(np.sum(season_at(season, ahead), axis=1))
    return Regressors(_floored_log(means), _floored_log(spans), offset)


def season_at(season: Floats, ts: NDArray[np.int64]) -> Floats:
    """Return S for bars that open at ``ts`` (ms, any shape)."""
    days, within = np.divmod(ts, DAY_MS)
    weekend = ((days + 3) % 7 >= 5).astype(np.int64)  # the epoch began on a Thursday
    return np.asarray(season[weekend, within // (DAY_MS // SLOTS)])


def _floored_log(columns: list[Floats]) -> Floats:
    table = np.stack(columns, axis=1)
    floor = np.maximum(_SHORT_FLOOR * table[:, -1:], _FLOOR)
    return np.asarray(np.log(np.maximum(table, floor)))
