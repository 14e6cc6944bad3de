"""All there is to say about one forecaster: scores, how sure they are, and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from domain import scores as proper
from domain.opinion import ADVERSE_MOVE
from domain.quantiles import CANONICAL_LEVELS
from domain.times import iso
from sim.scoring import (
    MOST_EVIDENCE,
    SCORED,
    UNIT,
    Floats,
    Forecasts,
    Mask,
    Truth,
    pinball_losses,
    scores,
)
from sim.statistics.calibration import (
    OverlapDraws,
    brier_decomposition,
    ece,
    ece_noise,
    reliability,
)
from sim.statistics.comparing import block_bars, block_bootstrap
from sim.statistics.distribution import (
    POINTS,
    coverage,
    crps,
    pit,
    pit_histogram,
    risk_coverage,
    thinned,
)
from sim.statistics.sequential import brier_bound, confidence_sequence, e_process

_DRAWS, _CELLS = (60, 200), 3e7  # simulated calibrated outcomes: how many paths, how many in all

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """What all forecasters of a board are measured against.

    Attributes
    ----------
    valid : (n,) rows that can be scored.
    horizon, step_ms : bars that a label spans, and the length of a bar: errors allow for
        labels that overlap and for what is alike within a day.
    references : baselines that others are measured against: ``ewma`` for pinball, ``base_rate``
        for the adverse event.
    draws : calibrated outcomes that overlap as the labels do.
    """

    truth: Truth
    valid: Mask
    horizon: int
    step_ms: int
    references: Mapping[str, Forecasts]
    draws: OverlapDraws

    @classmethod
    def of(
        cls,
        truth: Truth,
        valid: Mask,
        horizon: int,
        step_ms: int,
        references: Mapping[str, Forecasts],
        seed: int = 7,
    ) -> Self:
        """Draw what is random once for all forecasters."""
        span = int(truth.ts[-1] - truth.ts[0]) // step_ms + 1
        draws = int(np.clip(_CELLS / span, *_DRAWS))
        drawn = OverlapDraws.of(span, horizon, draws, seed)
        return cls(truth, valid, horizon, step_ms, references, drawn)

    def row(self, forecasts: Forecasts) -> Row:
        """Return S of one forecaster with its errors, its evidence and ``detail``."""
        use = forecasts.awake & self.valid
        told = scores(forecasts, self.truth, self.valid, horizon=self.horizon)
        direction, path = self._direction(forecasts, use)
        spread, shape = self._distribution(forecasts, use)
        risk, bins = self._risk(forecasts, use)
        return {**told, **direction, **spread, **risk, "detail": {**path, **shape, **bins}}

    # Direction

    def _direction(self, forecasts: Forecasts, use: Mask) -> tuple[Row, Row]:
        rows = np.flatnonzero(use & np.isfinite(forecasts.p_up))
        p, up = forecasts.p_up[rows], self.truth.up[rows]
        if not len(rows):
            nothing = ("gain_se", "gain_lo", "gain_hi", "ece", "ece_noise", "ece_noise_95",
                       "e_value", "cs_lo", "cs_hi")  # fmt: skip
            curves = ("brier_parts", "reliability", "risk_coverage", "path")
            return dict.fromkeys(nothing), dict.fromkeys(curves)
        gain, draws = 0.25 - proper.brier(p, up), self._draws(rows)
        noise = ece_noise(p, draws)
        evidence, path = self._evidence(rows, p, gain)
        flat = {
            **_errors(gain, block_bars(self.horizon, self.step_ms)),
            "ece": ece(p, up),
            "ece_noise": None if noise is None else noise[0],
            "ece_noise_95": None if noise is None else noise[1],
            **evidence,
        }
        hit = (p > 0.5) == up
        return flat, {
            "brier_parts": brier_decomposition(p, up),
            "reliability": reliability(p, up, draws),
            "risk_coverage": risk_coverage(np.abs(p - 0.5), gain * UNIT, hit),
            "path": path,
        }

    def _evidence(self, rows: Any, p: Floats, gain: Floats) -> tuple[Row, list[Row]]:
        bound = brier_bound(p)
        log_e = e_process(gain, bound, self.horizon)
        seen = confidence_sequence(gain, bound, self.horizon, points=POINTS)
        closes = self.truth.ts[rows[seen.at]] + self.step_ms
        path = [
            {"at": iso(int(at)), "gain": mean * UNIT, "lo": lo * UNIT, "hi": hi * UNIT, "log_e": e}
            for at, mean, lo, hi, e in zip(
                closes, seen.mean, seen.lo, seen.hi, log_e[seen.at], strict=True
            )
        ]
        return {
            "e_value": math.exp(min(float(log_e[-1]), MOST_EVIDENCE)),
            "cs_lo": float(seen.lo[-1]) * UNIT,
            "cs_hi": float(seen.hi[-1]) * UNIT,
        }, path

    # Distribution

    def _distribution(self, forecasts: Forecasts, use: Mask) -> tuple[Row, Row]:
        rows = np.flatnonzero(use & np.isfinite(forecasts.quantiles).all(axis=1))
        q, r = forecasts.quantiles[rows], self.truth.log_return[rows]
        if not len(rows):
            return {"crps_bps": None, "pinball_vs_ewma_pct": None}, {"pit": None, "coverage": None}
        hit = proper.covered(q[:, SCORED[0]], q[:, SCORED[-1]], r)
        drawn = pit_histogram(pit(CANONICAL_LEVELS, q, r), self._draws(rows))
        flat = {
            "crps_bps": float(crps(CANONICAL_LEVELS, q, r).mean()) * UNIT,
            "pinball_vs_ewma_pct": self._against_ewma(forecasts, use),
        }
        parts = coverage(hit, self.truth.ts[rows], self.truth.volatility[rows])
        return flat, {"pit": drawn, "coverage": parts}

    def _against_ewma(self, forecasts: Forecasts, use: Mask) -> float | None:
        other = self.references.get("ewma")
        if other is None:
            return None
        mine, theirs = forecasts.quantiles, other.quantiles
        both = use & other.awake & np.isfinite(mine).all(axis=1) & np.isfinite(theirs).all(axis=1)
        if not both.any():
            return None
        r = self.truth.log_return[both]
        usual = float(pinball_losses(theirs[both], r).mean())
        lost = float(pinball_losses(mine[both], r).mean())
        return 100.0 * (lost / usual - 1.0) if usual > 0.0 else None

    # Adverse event

    def _risk(self, forecasts: Forecasts, use: Mask) -> tuple[Row, Row]:
        rows = np.flatnonzero(use & np.isfinite(forecasts.risk_down))
        if not len(rows):
            return {"risk_ece": None, "risk_skill_pct": None}, {"risk_reliability": None}
        p, event = forecasts.risk_down[rows], self.truth.drop[rows] > ADVERSE_MOVE
        flat = {"risk_ece": ece(p, event), "risk_skill_pct": self._against_base_rate(p, rows)}
        return flat, {"risk_reliability": reliability(p, event, self._draws(rows))}

    def _against_base_rate(self, p: Floats, rows: Any) -> float | None:
        base = self.references.get("base_rate")
        if base is None:
            return None
        both = base.awake[rows] & np.isfinite(base.risk_down[rows])
        event = self.truth.drop[rows][both] > ADVERSE_MOVE
        theirs = float(proper.brier(base.risk_down[rows][both], event).sum())
        mine = float(proper.brier(p[both], event).sum())
        return 100.0 * (1.0 - mine / theirs) if theirs > 0.0 else None

    def _draws(self, rows: Any) -> OverlapDraws:
        return self.draws.at((self.truth.ts[rows] - self.truth.ts[0]) // self.step_ms)


def weights_over_time(agents: Mapping[str, Forecasts], truth: Truth, step_ms: int) -> list[Row]:
    """Return each agent's published weight at ≤ 120 evenly spaced closes; NaN where it has none."""
    told = [columns.weight for columns in agents.values()]
    known = np.isfinite(np.stack(told)).any(axis=0) if told else np.zeros(len(truth), np.bool_)
    rows = np.flatnonzero(known)
    out = []
    for row in rows[thinned(len(rows))] if len(rows) else ():
        weights = {name: float(columns.weight[row]) for name, columns in agents.items()}
        out.append({"at": iso(int(truth.ts[row]) + step_ms), **weights})
    return out


def _errors(gain: Floats, block: int) -> Row:
    found = block_bootstrap(gain, block)
    if found is None:
        return {"gain_se": None, "gain_lo": None, "gain_hi": None}
    return {
        "gain_se": float(found.se) * UNIT,
        "gain_lo": float(found.lo) * UNIT,
        "gain_hi": float(found.hi) * UNIT,
    }
