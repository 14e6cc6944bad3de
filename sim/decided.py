"""What was decided at each bar of a run, and what came of it, in a few bytes a bar."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain import scores as proper
from domain.decision import Action, Decision
from domain.market import Bar, Floats
from sim.statistics.calibration import (
    OverlapDraws,
    calibration_line,
    ece,
    ece_noise,
    reliability,
)
from sim.targets import Value

MIN_ROWS = 100  # decisions with a known outcome, below which ten bins say nothing
_DRAWS = 100


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """The decisions of a run.

    Attributes
    ----------
    counts : of LONG, SHORT, NO_TRADE, and under ``reasons`` of every reason code.
    at : (n,) int64, ms, closes of the bars.
    p_up : (n,) what the decisions said; NaN where the strategy gave no probability.
    close, price : (n,) quote units, of the forecast and of the traded market.
    horizon_bars : bars ahead that ``p_up`` speaks about.
    step_ms : length of a bar.
    edges : name → (extreme, n) over every LONG and SHORT.
    """

    counts: Mapping[str, Any]
    at: Any
    p_up: Floats
    close: Floats
    price: Floats
    horizon_bars: int
    step_ms: int
    edges: Mapping[str, tuple[float | None, int]]

    def extremes(self) -> dict[str, Value]:
        """Return how weak the weakest LONG or SHORT was."""
        return {name: Value(*found) for name, found in self.edges.items()}

    def outcomes(self) -> tuple[Floats, Floats, Any]:
        """Return (p, up, rows) of the decisions with a probability and a known outcome.

        Up is 1 where the close ``horizon_bars`` later is higher, else 0; bars between which one
        is missing have no outcome. Rows count bars of time from the first one.
        """
        ahead = self.horizon_bars
        known = np.zeros(len(self.at), dtype=np.bool_)
        if ahead < len(self.at):
            known[:-ahead] = self.at[ahead:] - self.at[:-ahead] == ahead * self.step_ms
        rows = np.flatnonzero(known & np.isfinite(self.p_up))
        up = (self.close[rows + ahead] > self.close[rows]).astype(np.float64)
        return self.p_up[rows], up, (self.at[rows] - self.at[:1]) // self.step_ms

    def calibration(self, seed: int = 7) -> dict[str, Any]:
        """Return how far the decisions' probabilities can be taken at their word.

        ``n``, ``brier``, ``gain`` ((¼ − Brier) × 10⁴), ``calibration_slope``, ``ece`` and what
        noise alone makes of it, and ``reliability`` (bins); ``why`` says why all of them are None.
        """
        p, up, rows = self.outcomes()
        names = ("brier", "gain", "calibration_slope", "ece", "ece_noise", "reliability")
        if len(p) < MIN_ROWS:
            some = f"{len(p):,} decisions with a probability and an outcome, {MIN_ROWS} are needed"
            why = some if len(p) else "the strategy gives no probability"
            return {"n": len(p), "why": why, **dict.fromkeys(names)}
        span = int((self.at[-1] - self.at[0]) // self.step_ms) + 1
        draws = OverlapDraws.of(span, self.horizon_bars, _DRAWS, seed).at(rows)
        line, noise = calibration_line(p, up), ece_noise(p, draws)
        brier = float(proper.brier(p, up).mean())
        values = (
            brier, 1e4 * (0.25 - brier), None if line is None else line.slope, ece(p, up),
            None if noise is None else noise[0], reliability(p, up, draws),
        )  # fmt: skip
        return {"n": len(p), "why": None, **dict(zip(names, values, strict=True))}


class Tally:
    """Gathers decisions bar by bar; 32 bytes each."""

    def __init__(self, horizon_bars: int, step_ms: int) -> None:
        self.first: Bar | None = None
        self.last: Bar | None = None
        self._horizon, self._step = horizon_bars, step_ms
        self._actions: Counter[Action] = Counter()
        self._reasons: Counter[str] = Counter()
        self._at = array("q")
        self._p, self._close, self._price = array("d"), array("d"), array("d")
        self._edges = {"weakest_prob": _Edge(-1.0), "weakest_return": _Edge(-1.0),
                       "largest_risk": _Edge(1.0)}  # fmt: skip

    def __len__(self) -> int:
        return len(self._at)

    def add(self, decision: Decision, bar: Bar, traded: Bar | None) -> None:
        """Take in what was decided at the close of a bar.

        Parameters
        ----------
        traded : the bar of the traded market; None where it has none.
        """
        self.first = self.first or bar
        self.last = bar
        self._actions[decision.action] += 1
        if decision.reasons:
            self._reasons.update(decision.reasons)
        p = decision.prob_up
        self._at.append(bar.close_ms)
        self._p.append(float("nan") if p is None else p)
        self._close.append(bar.close)
        self._price.append(float("nan") if traded is None else traded.close)
        if decision.action is not Action.NO_TRADE:
            self._edge(decision)

    def _edge(self, decision: Decision) -> None:
        p, expected = decision.prob_up, decision.expected_return
        long = decision.action is Action.LONG
        self._edges["weakest_prob"].add(None if p is None else p if long else 1.0 - p)
        self._edges["weakest_return"].add(
            None if expected is None else expected * decision.action.sign
        )
        self._edges["largest_risk"].add(decision.risk_score)

    def decided(self) -> Decided:
        """Return what was gathered."""
        counts = {action.value: self._actions[action] for action in Action}
        return Decided(
            {**counts, "reasons": dict(sorted(self._reasons.items()))},
            np.frombuffer(self._at, dtype=np.int64), np.frombuffer(self._p),
            np.frombuffer(self._close), _filled(np.frombuffer(self._price)), self._horizon,
            self._step, {name: (edge.value, edge.n) for name, edge in self._edges.items()},
        )  # fmt: skip


@dataclass(slots=True)
class _Edge:
    """The extreme of what is not None: the largest for sign +1, the smallest for −1."""

    sign: float
    value: float | None = None
    n: int = 0

    def add(self, value: float | None) -> None:
        if value is None:
            return
        self.n += 1
        if self.value is None or self.sign * (value - self.value) > 0.0:
            self.value = value


def _filled(price: Floats) -> Floats:
    """Prices with the last known one where a bar is missing, the first one before it."""
    known = np.isfinite(price)
    if not len(price) or not known.any():
        return price
    last = np.maximum.accumulate(np.where(known, np.arange(len(price)), -1))
    return np.asarray(price[np.where(last < 0, int(known.argmax()), last)])
