"""Scores and calibration of everybody, from the newest outcomes in the ledger.

The same definitions as ``conclave evaluate`` (sim.scoring, sim.statistics), over what was really
said. Work is bounded by the number of outcomes asked for, and done once for each of them: an answer
is kept until the ledger has another outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Lock
from typing import Any

import numpy as np

from domain.canonical import plain
from domain.errors import ConclaveError
from domain.market import Floats
from domain.quantiles import CANONICAL_LEVELS
from domain.times import iso, timeframe_ms
from sim.scoring import Forecasts, Truth, scores
from sim.statistics.calibration import (
    OverlapDraws,
    calibration_slope,
    ece,
    ece_noise,
    reliability,
)
from storage.scored import Said, Scored, newest_outcome, scored

CONSENSUS = "consensus"
LEAST = 100  # outcomes, below which ten bins say nothing
DRAWS = 200
KEPT = 16  # answers
MOST_WAITING = 8  # callers; threads are for others, too
_INTERVALS = ((0.1, 0.9), (0.05, 0.95), (0.025, 0.975))
_SHOWN = ("n", "brier", "brier_skill_1e4", "log_loss", "auc", "accuracy", "pinball_bps",
          "coverage_80", "interval_score_bps", "risk_brier", "risk_auc", "weight_mean")  # fmt: skip


class Busy(ConclaveError):
    """Enough is being worked out already."""

    code, exit_code = "overloaded", 4


@dataclass(slots=True)
class Scoreboard:
    """Answers about one world.

    Attributes
    ----------
    markets : (symbol, timeframe) that are followed.
    """

    engine: Any
    world: str
    markets: tuple[tuple[str, str], ...]
    horizon: int
    strategy: str
    _kept: dict[tuple[Any, ...], list[dict[str, Any]]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _places: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MOST_WAITING))

    def scores(self, symbol: str | None, last: int) -> list[dict[str, Any]]:
        """Return S of every agent and the council over the newest ``last`` outcomes a symbol."""
        return self._each("scores", _scores, symbol, last)

    def calibration(self, symbol: str | None, agent: str | None, last: int) -> list[dict[str, Any]]:
        """Return reliability bins and coverage of everybody, or of one agent."""
        rows = self._each("calibration", _calibration, symbol, last)
        return [row for row in rows if agent in (None, row["agent"])]

    def _each(
        self, what: str, judge: Callable[[Columns], list[dict[str, Any]]], symbol: str | None,
        last: int,
    ) -> list[dict[str, Any]]:  # fmt: skip
        wanted = [market for market in self.markets if symbol in (None, market[0])]
        return [row for market in wanted for row in self._of(what, judge, market, last)]

    def _of(
        self, what: str, judge: Callable[[Columns], list[dict[str, Any]]],
        market: tuple[str, str], last: int,
    ) -> list[dict[str, Any]]:  # fmt: skip
        where = (self.engine, self.world, *market, self.horizon)
        key = (what, *market, last, newest_outcome(*where))
        if (known := self._kept.get(key)) is not None:
            return known
        if not self._places.acquire(blocking=False):
            raise Busy("scores", "are being worked out for others", hint="Try again in a moment.")
        try:
            with self._lock:  # who asks the same meanwhile gets the same answer
                if key not in self._kept:
                    rows = scored(*where, self.strategy, last)
                    self._kept[key] = judge(Columns.of(rows, *market, self.horizon))
                    while len(self._kept) > KEPT:
                        self._kept.pop(next(iter(self._kept)))
                return self._kept[key]
        finally:
            self._places.release()


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Outcomes of one market in time order, and what everybody had said before them."""

    symbol: str
    horizon: int
    step_ms: int
    at: Any  # (n,) int64, as_of, UTC ms
    truth: Truth
    said: Mapping[str, Forecasts]

    @classmethod
    def of(cls, rows: Scored, symbol: str, timeframe: str, horizon: int) -> Columns:
        """Arrange what was read."""
        outcomes = rows.outcomes
        at = np.array([one.as_of for one in outcomes], dtype=np.int64)
        place = {int(when): row for row, when in enumerate(at)}
        step = timeframe_ms(timeframe)
        unknown = np.full(len(at), np.nan)
        truth = Truth(
            _column(one.log_return for one in outcomes), _column(one.drop for one in outcomes),
            _column(one.rise for one in outcomes), at - step, unknown, unknown,
        )  # fmt: skip
        said: dict[str, Forecasts] = {}
        council = Forecasts.silent(len(at))
        weights = []
        for one in rows.said:
            if one.agent and one.agent not in said:
                said[one.agent] = Forecasts.silent(len(at))
            columns, row = said.get(one.agent, council), place[one.as_of]
            _put(columns, row, one)
            weights += [(row, agent, weight) for agent, weight in one.weights.items()]
        for row, agent, weight in weights:
            if agent in said:
                said[agent].weight[row] = weight
        ordered = {name: said[name] for name in sorted(said)}
        return cls(symbol, horizon, step, at, truth, {**ordered, CONSENSUS: council})


def _column(values: Any) -> Floats:
    return np.fromiter(values, dtype=np.float64)


def _put(columns: Forecasts, row: int, one: Said) -> None:
    q = one.quantiles
    if one.p_up is not None:
        columns.p_up[row] = one.p_up
    elif q is not None and one.agent:
        columns.p_up[row] = 1.0 - float(q.table().cdf(0.0)[0])
    if q is not None:
        whole = q.levels == CANONICAL_LEVELS
        columns.quantiles[row] = q.values if whole else [q.at(x) for x in CANONICAL_LEVELS]
    if one.risk_down is not None:
        columns.risk_down[row] = one.risk_down
    if one.risk_up is not None:
        columns.risk_up[row] = one.risk_up


def _scores(columns: Columns) -> list[dict[str, Any]]:
    rows = []
    for agent, said in columns.said.items():
        found = scores(said, columns.truth, horizon=columns.horizon)
        awake = columns.at[said.awake]
        rows.append({
            "symbol": columns.symbol, "agent": agent, **{name: found[name] for name in _SHOWN},
            "first": iso(int(awake[0])) if len(awake) else None,
            "last": iso(int(awake[-1])) if len(awake) else None,
        })  # fmt: skip
    return [dict(plain(row)) for row in rows]


def _calibration(columns: Columns) -> list[dict[str, Any]]:
    if not len(columns.at):
        span = 0
    else:
        span = int((columns.at[-1] - columns.at[0]) // columns.step_ms) + 1
    draws = OverlapDraws.of(min(span, 2 * len(columns.at)), columns.horizon, DRAWS)
    return [
        {"symbol": columns.symbol, "agent": agent, **_reliability(said, columns, draws),
         "coverage": _coverage(said, columns)}
        for agent, said in columns.said.items()
    ]  # fmt: skip


def _reliability(said: Forecasts, columns: Columns, draws: OverlapDraws) -> dict[str, Any]:
    rows = np.flatnonzero(np.isfinite(said.p_up))
    p, up = said.p_up[rows], columns.truth.up[rows]
    empty = dict.fromkeys(("brier", "ece", "ece_noise", "slope"))
    if len(p) < LEAST:
        why = f"{len(p)} outcomes with a probability, {LEAST} are needed"
        return {"n": len(p), "why": why, **empty, "bins": []}
    bars = (columns.at[rows] - columns.at[0]) // columns.step_ms
    # over holes as long as all the bars the draws wrap around: they only have to overlap alike
    mine = draws.at(bars % len(draws))
    noise = ece_noise(p, mine)
    body = {
        "n": len(p), "why": None, "brier": float(((p - up) ** 2).mean()), "ece": ece(p, up),
        "ece_noise": None if noise is None else noise[0], "slope": calibration_slope(p, up),
        "bins": reliability(p, up, mine),
    }  # fmt: skip
    return dict(plain(body))


def _coverage(said: Forecasts, columns: Columns) -> list[dict[str, Any]]:
    rows = np.isfinite(said.quantiles).all(axis=1)
    n = int(rows.sum())
    if not n:
        return []
    r, found = columns.truth.log_return[rows], []
    for low, high in _INTERVALS:
        ends = said.quantiles[rows][:, [CANONICAL_LEVELS.index(low), CANONICAL_LEVELS.index(high)]]
        inside = float(((ends[:, 0] <= r) & (r <= ends[:, 1])).mean())
        lo, hi = wilson(inside, n / columns.horizon)
        found.append({
            "low": low, "high": high, "nominal": round(high - low, 6), "observed": inside, "n": n,
            "lo": lo, "hi": hi,
        })  # fmt: skip
    return found


def wilson(share: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share of ``n`` > 0 independent trials."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
