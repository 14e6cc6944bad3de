"""What can be set about the council. Defaults are the specification's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from domain.canonical import short_hash
from domain.errors import SettingError

AGENTS = ("climatology", "technical", "baseline", "chronos", "tft", "microstructure", "risk")
UNINFORMED = frozenset({"climatology"})  # not counted by MIN_FORECASTERS, and in no debate
COVERAGES = {0.8: (0.1, 0.9), 0.9: (0.05, 0.95), 0.95: (0.025, 0.975)}  # central interval → levels


@dataclass(frozen=True, slots=True)
class CouncilSettings:
    """Who sits in the council and how it learns.

    Attributes
    ----------
    members : agents that pool from the first decision; every other agent is only scored.
    sole : the agent whose forecast alone is published, as it is; empty = the council's.
    horizon_bars : the one horizon that is pooled and scored, bars.
    half_life : of scores and of κ's slope, resolved outcomes.
    eta : learning rate on the decayed relative Brier loss.
    floor : share of the prior in the published weights, fraction.
    grace : outcomes during which a member weighs as if it had lost nothing.
    probation : least outcomes before an agent outside the council can win a seat.
    debate_step : Δ, the furthest that a debate moves an agent, logits; 0 = none.
    clip : range that every p is clipped to.
    max_quantile : largest |quantile| believed, log return.
    kappa_prior, kappa_weight : prior of κ and the number of outcomes it counts for.
    coverage_half_life : of the published interval's observed coverage, resolved outcomes.
    boa_forget : share of the past that Bernstein aggregation forgets with each outcome.
    stack_spread : prior standard deviation of each stacked coefficient around 1/K.
    platt_spread : the same of intercept and slope of the recalibrated pool around 0 and 1.
    risk_spread : the same of each risk's.
    base_weight : outcomes that ½ counts for in the constant candidate.
    conformal_rate : γ of the tracker, standard deviations of the horizon an outcome.
    late_window : least rounds that are kept apart so that a late outcome finds its place.
    max_pending : instants that may wait for their outcome; beyond it the oldest is given up.
    """

    members: tuple[str, ...] = AGENTS
    sole: str = ""
    horizon_bars: int = 5
    half_life: float = 10_000.0
    eta: float = 1.0
    floor: float = 1e-3
    grace: int = 50
    probation: int = 500
    debate_step: float = 0.05
    clip: tuple[float, float] = (0.02, 0.98)
    max_quantile: float = 0.20
    kappa_prior: float = 0.4
    kappa_weight: float = 5_000.0
    coverage_half_life: float = 1_000.0
    boa_forget: float = 1e-5
    stack_spread: float = 0.3
    platt_spread: tuple[float, float] = (0.02, 0.1)
    risk_spread: tuple[float, float] = (0.1, 0.05)
    base_weight: float = 2_000.0
    conformal_rate: float = 5e-4
    late_window: int = 64
    max_pending: int = 4_096

    def __post_init__(self) -> None:
        _require("members", self.members, "must be different names", _distinct(self.members))
        _require("sole", self.sole, "must be a member", self.sole in ("", *self.members))
        _require("horizon_bars", self.horizon_bars, "must be ≥ 1", self.horizon_bars >= 1)
        _require("half_life", self.half_life, "must be > 0", self.half_life > 0)
        _require("eta", self.eta, "must be ≥ 0 and finite", 0 <= self.eta < math.inf)
        _require("floor", self.floor, "must lie in [0, 1]", 0 <= self.floor <= 1)
        low, high = self.clip
        _require("clip", self.clip, "must be 0 < low < ½ < high < 1", 0 < low < 0.5 < high < 1)
        _require("max_quantile", self.max_quantile, "must be > 0", self.max_quantile > 0)
        _require("kappa_weight", self.kappa_weight, "must be > 0", self.kappa_weight > 0)
        _require("coverage_half_life", self.coverage_half_life, "must be > 0",
                 self.coverage_half_life > 0)  # fmt: skip
        _require("boa_forget", self.boa_forget, "must lie in [0, 1)", 0 <= self.boa_forget < 1)
        _require("debate_step", self.debate_step, "must be ≥ 0", self.debate_step >= 0)
        spreads = (self.stack_spread, *self.platt_spread, *self.risk_spread)
        _require("stack_spread, platt_spread, risk_spread", spreads, "must be > 0",
                 min(spreads) > 0)  # fmt: skip
        _require("base_weight", self.base_weight, "must be > 0", self.base_weight > 0)
        _require("conformal_rate", self.conformal_rate, "must lie in [0, 1]",
                 0 <= self.conformal_rate <= 1)  # fmt: skip
        _require("late_window", self.late_window, "must be ≥ 1", self.late_window >= 1)
        _require("max_pending", self.max_pending, "must be > horizon_bars",
                 self.max_pending > self.horizon_bars)  # fmt: skip

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read :func:`dataclasses.asdict` back from JSON, which knows no tuples.

        Raises
        ------
        TypeError : for a field that there is not.
        """
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in body.items()
        }
        return cls(**fields)

    @property
    def decay(self) -> float:
        """λ = 2^(−1/half_life), per resolved outcome."""
        return float(2.0 ** (-1.0 / self.half_life))

    @property
    def coverage_decay(self) -> float:
        """The same for the observed coverage."""
        return float(2.0 ** (-1.0 / self.coverage_half_life))

    @property
    def fold_id(self) -> str:
        """Hash of what shapes the fold: a snapshot made under another one is refused."""
        return short_hash(
            [
                self.horizon_bars,
                self.half_life,
                self.clip,
                self.max_quantile,
                self.coverage_half_life,
                sorted(self.members),
                self.boa_forget,
                self.stack_spread,
                self.platt_spread,
                self.risk_spread,
                self.probation,
                self.base_weight,
                self.conformal_rate,
                self.late_window,
                self.max_pending,
            ]
        )


@dataclass(frozen=True, slots=True)
class DecisionRules:
    """When a side is taken. Rules that are None are off.

    Attributes
    ----------
    prob_min : least probability of the side taken.
    min_expected_return : least expected log return of the side taken.
    risk_max : largest probability of the side's adverse move.
    require_risk : whether a risk nobody forecast vetoes; if False it passes unmeasured.
    delta : safety margin on the break-even probability.
    min_forecasters : awake members with a direction, climatology not counted.
    quorum : least Σ of the awake members' weights before renormalisation.
    max_age_ms : oldest data decided on, and how far a clock may be behind it; None: two bars.
    max_spread_bps : widest modelled or observed spread.
    min_liquidity : least top-of-book liquidity where a book is known, quote units.
    interval_rule : .8, .9 or .95: that central interval must lie beyond the cost band.
    max_coherence_gap : largest |1 − F(0) − p|.
    max_disagreement : largest weighted standard deviation of the awake agents' p.
    max_coverage_error : largest |observed − .8| of the published p10–p90 interval.
    min_coverage_n : outcomes before the coverage rule applies.
    """

    prob_min: float = 0.60
    min_expected_return: float = 0.002
    risk_max: float = 0.30
    require_risk: bool = True
    delta: float = 0.0
    min_forecasters: int = 2
    quorum: float = 0.5
    max_age_ms: int | None = None
    max_spread_bps: float = 10.0
    min_liquidity: float = 50_000.0
    interval_rule: float | None = None
    max_coherence_gap: float | None = None
    max_disagreement: float | None = None
    max_coverage_error: float | None = None
    min_coverage_n: int = 500

    def __post_init__(self) -> None:
        for name in ("prob_min", "risk_max", "quorum"):
            value = getattr(self, name)
            _require(name, value, "must lie in [0, 1]", 0 <= value <= 1)
        _require("min_forecasters", self.min_forecasters, "must be ≥ 1", self.min_forecasters >= 1)
        _require("delta", self.delta, "must be ≥ 0", self.delta >= 0)
        _require("interval_rule", self.interval_rule, "must be .8, .9 or .95",
                 self.interval_rule is None or self.interval_rule in COVERAGES)  # fmt: skip
        _require("max_age_ms", self.max_age_ms, "must be > 0",
                 self.max_age_ms is None or self.max_age_ms > 0)  # fmt: skip


def _distinct(names: tuple[str, ...]) -> bool:
    return 0 < len(names) == len({*names} - {""})


def _require(name: str, value: object, rule: str, holds: bool) -> None:
    if not holds:
        raise SettingError(name, rule, value)
