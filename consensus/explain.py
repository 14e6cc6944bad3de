"""Why: logit contributions, one line per agent, one sentence per decision.

Texts are written from the numbers they stand for; an agent's own rationale is quoted after them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from consensus.admission import Admitted
from consensus.decision import Quality, Verdict
from consensus.pooling import logit
from consensus.settings import DecisionRules
from domain.decision import Action, Consensus, Costs, Reason

FUSION = "_fusion"


def contributions(
    p_up: float, p: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, float]:
    """Return Δ_i = w_i logit p_i per agent and ``_fusion``; they sum to logit(p_up) to 1e-12.

    ``_fusion`` is what the layers between the Brier log pool and the published p add.
    """
    parts = {agent: weights[agent] * logit(chance) for agent, chance in sorted(p.items())}
    return parts | {FUSION: logit(p_up) - math.fsum(parts.values())}


def explanations(awake: Sequence[Admitted], consensus: Consensus | None) -> dict[str, str]:
    """Return one line per admitted agent."""
    weights = {} if consensus is None else consensus.weights
    parts = {} if consensus is None else consensus.contributions
    return {
        x.opinion.agent: _line(x, weights.get(x.opinion.agent), parts.get(x.opinion.agent))
        for x in awake
    }


def _line(x: Admitted, weight: float | None, part: float | None) -> str:
    if x.p_up is None:
        said = [
            f"risk {side} {risk:.3f}"
            for side, risk in (("down", x.opinion.risk_down), ("up", x.opinion.risk_up))
            if risk is not None
        ]
        text = ", ".join(said)
    elif weight is None or part is None:
        text = f"P(up) {x.p_up:.4f}, scored but not pooled"
    else:
        text = f"P(up) {x.p_up:.4f} at weight {weight:.3f}: {part:+.4f} logit"
    return f"{text}. {x.opinion.rationale}" if x.opinion.rationale else text


def sentence(
    verdict: Verdict,
    consensus: Consensus | None,
    costs: Costs,
    kappa: float,
    rules: DecisionRules,
    quality: Quality,
) -> str:
    """Return the decision's reason as one sentence, with the numbers that made it."""
    scene = _Scene(verdict, consensus, costs, kappa, rules, quality)
    if not verdict.reasons:
        return f"{verdict.action}: {scene.taken()}."
    first, *others = verdict.reasons
    clause = _CLAUSES[first](scene)
    also = f" (also {', '.join(others)})" if others else ""
    return f"NO_TRADE: {clause}{also}."


class _Scene:
    """The numbers a sentence may use."""

    def __init__(
        self,
        verdict: Verdict,
        consensus: Consensus | None,
        costs: Costs,
        kappa: float,
        rules: DecisionRules,
        quality: Quality,
    ) -> None:
        self.verdict, self.rules, self.quality = verdict, rules, quality
        self.cost_bp = costs.round_trip * 1e4
        self.modelled_spread = costs.spread_bps
        self.quorum = consensus.quorum if consensus else 0.0
        self.forecasters = consensus.forecasters if consensus else 0
        self.dispersion = consensus.dispersion if consensus else 0.0
        self.gap = (consensus.coherence_gap if consensus else None) or 0.0
        p_up = consensus.p_up if consensus else 0.5
        side = verdict.side or Action.LONG
        self.p_side = p_up if side is Action.LONG else 1.0 - p_up
        self.chance = f"P({'up' if side is Action.LONG else 'down'}) {self.p_side:.4f}"
        mean = consensus.expected_return if consensus else None
        self.gain_bp = None if mean is None else side.sign * mean * 1e4
        m = consensus.mean_abs_return if consensus else None
        self.scale_bp = None if m is None else kappa * m * 1e4

    def taken(self) -> str:
        return (
            f"{self.chance} exceeds the break-even {self.verdict.break_even_prob or 0.0:.4f} at "
            f"{self.cost_bp:.1f} bp round trip, expected return {self.gain_bp or 0.0:+.1f} bp, "
            f"risk {_or_unknown(self.verdict.risk_score)}"
        )

    def quorate(self) -> str:
        return (
            f"{self.forecasters} forecasters awake with {self.quorum:.2f} of the weight, "
            f"needed {self.rules.min_forecasters} with {self.rules.quorum:.2f}"
        )

    def cost(self) -> str:
        if self.scale_bp is None or self.gain_bp is None:
            return "nobody forecast the size of the move, so no cost can be covered"
        if self.verdict.break_even_prob is None:
            return (
                f"even certainty would earn {self.scale_bp:.1f} bp, "
                f"less than {self.cost_bp:.1f} bp round trip"
            )
        if self.p_side <= self.verdict.break_even_prob:
            return (
                f"{self.chance} does not exceed the break-even "
                f"{self.verdict.break_even_prob:.4f} at {self.cost_bp:.1f} bp round trip"
            )
        return (
            f"expected return {self.gain_bp:+.1f} bp does not pay {self.cost_bp:.1f} bp round trip"
        )

    def threshold(self) -> str:
        if self.p_side < self.rules.prob_min:
            return f"{self.chance} is below the required {self.rules.prob_min:.4f}"
        needed = self.rules.min_expected_return * 1e4
        if self.gain_bp is not None and self.gain_bp < needed:
            return f"expected return {self.gain_bp:+.1f} bp is below the required {needed:.1f} bp"
        return f"{self.chance} exceeds the break-even by less than {self.rules.delta:.4f}"

    def risk(self) -> str:
        if self.verdict.risk_score is None:
            return "nobody forecast the risk of the side"
        return (
            f"adverse-move risk {self.verdict.risk_score:.3f} is above the allowed "
            f"{self.rules.risk_max:.3f}"
        )

    def stale(self) -> str:
        age = self.quality.age_ms
        if age < 0:
            return f"the newest bar closes {_ago(-age)} from now: a clock is wrong"
        return f"the newest bar closed {_ago(age)} ago"

    def spread(self) -> str:
        widest = max(self.modelled_spread, self.quality.spread_bps or 0.0)
        return f"spread {widest:.1f} bp is above the allowed {self.rules.max_spread_bps:.1f} bp"

    def book(self) -> str:
        return (
            f"the top of the book holds {self.quality.liquidity or 0.0:.0f} of the required "
            f"{self.rules.min_liquidity:.0f} quote units"
        )

    def interval(self) -> str:
        return (
            f"the {(self.rules.interval_rule or 0.0) * 100:.0f} % interval "
            f"reaches into the cost band of {self.cost_bp:.1f} bp"
        )

    def coverage(self) -> str:
        return (
            f"the published 80 % interval has covered {(self.quality.coverage or 0.0) * 100:.1f} % "
            f"of {self.quality.coverage_n} outcomes"
        )


def _or_unknown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


_CLAUSES: dict[Reason, Callable[[_Scene], str]] = {
    Reason.DATA_GAP: lambda _: "too few bars since the last gap to form an opinion",
    Reason.LOW_QUORUM: _Scene.quorate,
    Reason.STALE_DATA: _Scene.stale,
    Reason.BELOW_COST: _Scene.cost,
    Reason.BELOW_THRESHOLD: _Scene.threshold,
    Reason.RISK_VETO: _Scene.risk,
    Reason.WIDE_SPREAD: _Scene.spread,
    Reason.THIN_BOOK: _Scene.book,
    Reason.INTERVAL_SPANS_COST: _Scene.interval,
    Reason.DISAGREEMENT: lambda scene: (
        f"the agents' P(up) differ by {scene.dispersion:.4f} (weighted standard deviation), "
        f"allowed {scene.rules.max_disagreement or 0.0:.4f}"
    ),
    Reason.COHERENCE_GAP: lambda scene: (
        f"direction and distribution disagree by {scene.gap:.4f}, "
        f"allowed {scene.rules.max_coherence_gap or 0.0:.4f}"
    ),
    Reason.CONFORMAL_BREAK: _Scene.coverage,
}


def _ago(age_ms: int) -> str:
    seconds = age_ms / 1000.0
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
