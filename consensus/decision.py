"""Stage 6: the decision with abstention. A pure function; every failing check is a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from consensus.settings import COVERAGES, DecisionRules
from domain.decision import Action, Consensus, Costs, Reason

_NOMINAL = 0.8  # coverage that the published p10–p90 interval should have
_ROUNDING = 1e-12  # half of the seats is a quorum though their weights sum to ½ − 1 ulp

# The reasons that are given here; gate, risk and execution add the others.
GIVEN = frozenset(
    {
        Reason.DATA_GAP,
        Reason.LOW_QUORUM,
        Reason.STALE_DATA,
        Reason.BELOW_COST,
        Reason.BELOW_THRESHOLD,
        Reason.RISK_VETO,
        Reason.WIDE_SPREAD,
        Reason.THIN_BOOK,
        Reason.INTERVAL_SPANS_COST,
        Reason.DISAGREEMENT,
        Reason.COHERENCE_GAP,
        Reason.CONFORMAL_BREAK,
    }
)


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured about the data behind a decision. None means not measured.

    Attributes
    ----------
    age_ms : emission time minus ``as_of``.
    bar_ms : length of a bar.
    spread_bps : of the order book at ``as_of``.
    liquidity : price × quantity near the top of the book, quote units.
    data_gap : whether members slept because a gap is too recent.
    coverage, coverage_n : observed share inside the published p10–p90, and its outcomes.
    """

    age_ms: int
    bar_ms: int
    spread_bps: float | None = None
    liquidity: float | None = None
    data_gap: bool = False
    coverage: float | None = None
    coverage_n: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided and how far from each threshold.

    Attributes
    ----------
    side : the side p favours before thresholds (None without a p); LONG iff p ≥ ½.
    action : ``side`` if every check holds, else NO_TRADE.
    reasons : the checks that fail, most important first.
    margins : distance to each threshold, ≥ 0 passes (``break_even`` must be > 0); None where
        it is not measured or cannot be.
    break_even_prob : ½ + c/(2κm) for the side's probability; None above 1 or where κm = 0.
    risk_score : adverse-move probability of ``side``, or None.
    """

    side: Action | None
    action: Action
    reasons: tuple[Reason, ...]
    margins: Mapping[str, float | None]
    break_even_prob: float | None
    risk_score: float | None


class _Check(NamedTuple):
    reason: Reason
    name: str
    margin: float | None
    holds: bool


def decide(
    consensus: Consensus | None,
    costs: Costs,
    kappa: float,
    rules: DecisionRules,
    quality: Quality,
) -> Verdict:
    """Take the side that p favours, or abstain and say why.

    Parameters
    ----------
    consensus : None if no member has a direction: NO_TRADE ``low_quorum``.
    kappa : κ ≥ 0, what has come true of (2p − 1)·E|r|.
    """
    if consensus is None:
        checks = [*_duty_checks(0.0, 0, rules, quality), *_market_checks(costs, rules, quality)]
        return Verdict(None, Action.NO_TRADE, _failing(checks), _margins(checks), None, None)
    side = Action.LONG if consensus.p_up >= 0.5 else Action.SHORT
    break_even = break_even_prob(costs.round_trip, kappa, consensus.mean_abs_return)
    checks = [
        *_duty_checks(consensus.quorum, consensus.forecasters, rules, quality),
        *_value_checks(consensus, side, costs.round_trip, break_even, rules),
        *_market_checks(costs, rules, quality),
        *_shape_checks(consensus, side, costs.round_trip, rules, quality),
    ]
    reasons = _failing(checks)
    action = Action.NO_TRADE if reasons else side
    return Verdict(side, action, reasons, _margins(checks), break_even, risk_of(side, consensus))


def break_even_prob(cost: float, kappa: float, mean_abs: float | None) -> float | None:
    """Return ½ + c/(2κm), or None where it exceeds 1 or κm = 0 or m is unknown.

    Parameters
    ----------
    cost : c, round trip, log return.
    mean_abs : m = E|r|, log return.
    """
    slope = kappa * (mean_abs or 0.0)
    if not slope > 0.0:
        return None
    needed = 0.5 + cost / (2.0 * slope)
    return needed if needed <= 1.0 else None


def risk_of(side: Action, consensus: Consensus) -> float | None:
    """Return the probability of the move that hurts ``side``."""
    return consensus.risk_down if side is Action.LONG else consensus.risk_up


def _duty_checks(
    quorum: float, forecasters: int, rules: DecisionRules, quality: Quality
) -> Iterator[_Check]:
    weight, heads = quorum - rules.quorum, forecasters - rules.min_forecasters
    heavy = weight >= -_ROUNDING
    if quality.data_gap and not (heavy and heads >= 0):
        yield _Check(Reason.DATA_GAP, "", None, False)
    yield _Check(Reason.LOW_QUORUM, "quorum", weight, heavy)
    yield _Check(Reason.LOW_QUORUM, "forecasters", float(heads), heads >= 0)
    limit = 2 * quality.bar_ms if rules.max_age_ms is None else rules.max_age_ms
    fresh = limit - abs(quality.age_ms)  # a bar of the future tells of a clock that ran back
    yield _Check(Reason.STALE_DATA, "age_ms", float(fresh), fresh >= 0)


def _value_checks(
    consensus: Consensus,
    side: Action,
    cost: float,
    break_even: float | None,
    rules: DecisionRules,
) -> Iterator[_Check]:
    p_side = consensus.p_up if side is Action.LONG else 1.0 - consensus.p_up
    past = None if break_even is None else p_side - break_even
    beyond = None if past is None else past - rules.delta
    yield _Check(Reason.BELOW_COST, "", None, past is not None and past > 0)
    gain = None if consensus.expected_return is None else side.sign * consensus.expected_return
    yield _Check(Reason.BELOW_COST, "", None, gain is not None and gain >= cost)
    spared = past is None or past <= 0  # its reason is below_cost already
    margin_kept = beyond is not None and beyond > 0
    yield _Check(Reason.BELOW_THRESHOLD, "break_even", beyond, spared or margin_kept)
    enough = p_side - rules.prob_min
    yield _Check(Reason.BELOW_THRESHOLD, "prob_min", enough, enough >= 0)
    net = None if gain is None else gain - max(cost, rules.min_expected_return)
    worth = gain is None or gain >= rules.min_expected_return
    yield _Check(Reason.BELOW_THRESHOLD, "expected_return", net, worth)
    risk = risk_of(side, consensus)
    room = None if risk is None else rules.risk_max - risk
    safe = not rules.require_risk if room is None else room >= 0
    yield _Check(Reason.RISK_VETO, "risk", room, safe)


def _market_checks(costs: Costs, rules: DecisionRules, quality: Quality) -> Iterator[_Check]:
    spread = max(costs.spread_bps, quality.spread_bps or 0.0)
    room = rules.max_spread_bps - spread
    yield _Check(Reason.WIDE_SPREAD, "spread_bps", room, room >= 0)
    depth = None if quality.liquidity is None else quality.liquidity - rules.min_liquidity
    yield _Check(Reason.THIN_BOOK, "liquidity", depth, depth is None or depth >= 0)


def _shape_checks(
    consensus: Consensus, side: Action, cost: float, rules: DecisionRules, quality: Quality
) -> Iterator[_Check]:
    if rules.interval_rule is not None:
        clear = _interval_margin(consensus, side, cost, rules.interval_rule)
        holds = clear is not None and clear >= 0
        yield _Check(Reason.INTERVAL_SPANS_COST, "interval", clear, holds)
    if rules.max_disagreement is not None:
        room = rules.max_disagreement - consensus.dispersion
        yield _Check(Reason.DISAGREEMENT, "disagreement", room, room >= 0)
    if rules.max_coherence_gap is not None and consensus.coherence_gap is not None:
        room = rules.max_coherence_gap - consensus.coherence_gap
        yield _Check(Reason.COHERENCE_GAP, "coherence_gap", room, room >= 0)
    known = quality.coverage is not None and quality.coverage_n >= rules.min_coverage_n
    if rules.max_coverage_error is not None and known:
        room = rules.max_coverage_error - abs((quality.coverage or 0.0) - _NOMINAL)
        yield _Check(Reason.CONFORMAL_BREAK, "coverage", room, room >= 0)


def _interval_margin(
    consensus: Consensus, side: Action, cost: float, coverage: float
) -> float | None:
    """How far the interval's near end lies beyond the cost of the side."""
    if consensus.quantiles is None:
        return None
    low, high = COVERAGES[coverage]
    near = consensus.quantiles.at(low if side is Action.LONG else high)
    return side.sign * near - cost


def _failing(checks: list[_Check]) -> tuple[Reason, ...]:
    return tuple(dict.fromkeys(check.reason for check in checks if not check.holds))


def _margins(checks: list[_Check]) -> dict[str, float | None]:
    return {check.name: check.margin for check in checks if check.name}
