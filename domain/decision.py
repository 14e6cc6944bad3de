"""What the council agreed on, and what was decided from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from domain.canonical import short_hash
from domain.opinion import Opinion
from domain.quantiles import Quantiles

Origin = Literal["bar", "on_demand", "warm_up"]


class Action(StrEnum):
    """The three things a decision can be."""

    LONG = "LONG"
    SHORT = "SHORT"
    NO_TRADE = "NO_TRADE"

    @property
    def sign(self) -> int:
        """+1, −1 or 0."""
        return _SIGNS[self._value_]


_SIGNS = {"LONG": 1, "SHORT": -1, "NO_TRADE": 0}


class Reason(StrEnum):
    """Why a decision is NO_TRADE, an intent was refused, or an order is smaller than usual."""

    BELOW_COST = "below_cost"
    BELOW_THRESHOLD = "below_threshold"
    LOW_QUORUM = "low_quorum"
    DISAGREEMENT = "disagreement"
    STALE_DATA = "stale_data"
    WIDE_SPREAD = "wide_spread"
    THIN_BOOK = "thin_book"
    COHERENCE_GAP = "coherence_gap"
    INTERVAL_SPANS_COST = "interval_spans_cost"
    CONFORMAL_BREAK = "conformal_break"
    RISK_VETO = "risk_veto"
    GATE_VETO = "gate_veto"
    SHORT_NOT_POSSIBLE = "short_not_possible"
    BELOW_MIN_NOTIONAL = "below_min_notional"
    BREAKER = "breaker"
    KILLED = "killed"
    UNFILLED = "unfilled"  # an entry that its bar could not fill, or not fill whole
    INSUFFICIENT_MARGIN = "insufficient_margin"
    REFLECTION_MISSING = "reflection_missing"  # the last trade of its kind waits for a reflection
    IN_FLIGHT = "in_flight"  # nobody knows yet what became of an order of this symbol
    NOT_PLACED = "not_placed"  # an order in flight that the broker turned out never to have had
    DATA_GAP = "data_gap"  # too few contiguous bars since a gap to form an opinion
    WARM_UP = "warm_up"  # history opined and scored before the first live bar; never traded
    KELLY_FLOOR = "kelly_floor"  # no edge in the last trades: traded, but the smallest order only
    OPERATOR_PAUSE = "operator_pause"  # the person at the desk reported to be unfit


class ExitReason(StrEnum):
    """Why a position was closed."""

    STOP = "stop"
    TARGET = "target"
    OPPOSITE = "opposite"
    HORIZON = "horizon"
    RISK = "risk"
    KILL = "kill"
    SHUTDOWN = "shutdown"
    WIDE_SPREAD = "wide_spread"
    THIN_BOOK = "thin_book"
    LIQUIDATION = "liquidation"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Costs:
    """What one round trip costs, in basis points of notional."""

    fee_bps: float  # both sides
    spread_bps: float  # the full spread once: half at entry, half at exit
    slippage_bps: float  # both sides
    funding_bps: float = 0.0  # |expected| over the horizon

    @property
    def round_trip(self) -> float:
        """Their sum as a fraction."""
        return (self.fee_bps + self.spread_bps + self.slippage_bps + self.funding_bps) / 1e4


@dataclass(frozen=True, slots=True)
class Consensus:
    """The opinions of one instant, fused.

    Attributes
    ----------
    p_up : P(r > 0) in (0, 1).
    quantiles : of r on the canonical levels, log return.
    expected_return, mean_abs_return : E[r] and E|r| of the completed quantile function.
    risk_down, risk_up : adverse-event probabilities, or None if nobody forecast them.
    coherence_gap : |1 − F(0) − p_up|.
    dispersion : weighted standard deviation of the awake agents' p.
    weights : published weight of each awake agent, summing to 1.
    contributions : logits; with ``_fusion`` they sum to logit(p_up).
    candidates : p of every candidate, by name. ``shares`` : its share in the published p.
    pooled : p, quantiles (13,) and risk of either side as pooled, before tracker and calibration.
    sigma : volatility of the horizon, log return.
    debate : what was answered to whom, in order; empty if nobody spoke.
    opinions : the admitted opinions, sorted by agent.
    absent : agent → why it did not count.
    quorum : Σ over awake members of their weight before renormalisation, in [0, 1].
    state_seq : ledger rows with a smaller sequence number made the weights.
    """

    symbol: str
    timeframe: str
    as_of: int
    horizon_bars: int
    p_up: float
    quantiles: Quantiles | None
    expected_return: float | None
    mean_abs_return: float | None
    risk_down: float | None
    risk_up: float | None
    coherence_gap: float | None
    dispersion: float
    weights: Mapping[str, float]
    contributions: Mapping[str, float]
    candidates: Mapping[str, float]
    opinions: tuple[Opinion, ...]
    absent: Mapping[str, str]
    quorum: float
    forecasters: int  # awake members that count for MIN_FORECASTERS
    state_seq: int
    shares: Mapping[str, float] = field(default_factory=dict)
    pooled: tuple[Any, ...] = ()
    sigma: float | None = None
    debate: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What the optional gate said.

    Attributes
    ----------
    action : what follows from it; ``shadow`` and ``off``: nothing does.
    size_factor : part of the usual size that ``would`` leaves, in [0, 1].
    confidence : probability that its policy gives to what it says.
    would : what it says, applied or not; None where it was not asked.
    version : of the policy that says it.
    """

    action: Literal["allow", "shrink", "veto", "override", "off", "shadow"] = "off"
    size_factor: float = 1.0
    confidence: float = 0.0
    reason: str = ""
    input_decision: Action | None = None
    would: Literal["allow", "shrink", "veto", "override"] | None = None
    version: str = ""


NO_GATE = GateVerdict()


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision with everything needed to explain and to repeat it.

    ``intent`` is what the strategy wanted; ``action`` is what remained after gate and risk.
    ``inputs`` holds what :mod:`consensus.decision` and risk were given (costs, κ, thresholds,
    data quality), ``margins`` the distance to each threshold (≥ 0 passes).
    """

    symbol: str
    timeframe: str
    as_of: int
    ts: int  # ms, emission by the injected clock
    horizon_bars: int
    strategy: str
    intent: Action
    action: Action
    reasons: tuple[str, ...]
    reason: str  # one sentence
    prob_up: float | None
    expected_return: float | None
    quantiles: Quantiles | None
    risk_score: float | None
    risk_down: float | None
    risk_up: float | None
    break_even_prob: float | None
    stop: float | None  # price, quote units
    target: float | None  # price, quote units
    weights: Mapping[str, float] = field(default_factory=dict)
    contributions: Mapping[str, float] = field(default_factory=dict)
    explanations: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    margins: Mapping[str, float | None] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    model_versions: Mapping[str, str] = field(default_factory=dict)
    gate: GateVerdict = NO_GATE
    origin: Origin = "bar"
    source: str = "replay"
    state_seq: int = 0
    git_commit: str = ""

    @property
    def confidence(self) -> float:
        """|2·prob_up − 1| in [0, 1]."""
        return 0.0 if self.prob_up is None else abs(2.0 * self.prob_up - 1.0)

    @property
    def degraded(self) -> bool:
        """Whether an agent that should have answered did not (sleeping is not failing)."""
        return any(why in DEGRADING for why in self.absent.values())

    @property
    def model_version(self) -> str:
        """Short hash of the sorted agent versions."""
        return short_hash(sorted(self.model_versions.items()), 12)

    @property
    def identity(self) -> tuple[str | int | bool, ...]:
        """The same question to the same models is the same decision."""
        return (
            self.symbol, self.timeframe, self.strategy, self.as_of, self.model_version,
            self.origin == "on_demand",
        )  # fmt: skip

    @property
    def id(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)


# Reasons in ``absent`` that mean a part failed, as against an agent that has nothing to say.
DEGRADING = frozenset(
    {"deadline", "failed", "unreachable", "invalid", "stale", "overloaded", "no_model"}
)


def strongest_dissent(p_up: float, contributions: Mapping[str, float]) -> str | None:
    """Return the agent that pulls hardest away from the side that ``p_up`` favours, if any does.

    Parameters
    ----------
    contributions : logits that add up to that of ``p_up``; what begins with ``_`` is no agent.
    """
    side = 1.0 if p_up >= 0.5 else -1.0
    against = {
        agent: -side * pull
        for agent, pull in contributions.items()
        if not agent.startswith("_") and side * pull < 0.0
    }
    return max(sorted(against), key=lambda agent: against[agent]) if against else None
