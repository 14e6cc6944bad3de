"""What the API answers with, route by route; :mod:`serving.requests` is what it takes.

A field more than these breaks no client; a test holds every route to having none.
Times are ISO-8601 ``Z`` (market time unless said otherwise), money is text with every digit,
probabilities and returns are fractions, nothing is ever NaN.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
Money = Annotated[
    str,
    Field(
        pattern=r"^-?[0-9]+(\.[0-9]+)?$", examples=["99322.80"],
        description="decimal text, quote currency unless said otherwise",
    ),
]  # fmt: skip
Instant = Annotated[str, Field(examples=["2025-01-31T00:05:00Z"], description="ISO-8601, UTC")]
Fraction = Annotated[float, Field(ge=0, le=1)]
TradeSide = Literal["LONG", "SHORT"]
OrderSide = Literal["buy", "sell"]
Mode = Literal["ACTIVE", "REDUCING", "HALTED", "KILLED"]
Level = Literal["info", "warning", "error"]


class Strict(BaseModel):
    """Refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorBody(Strict):
    """What went wrong, in words for people and a code for programs."""

    code: str
    message: str
    hint: str = ""
    request_id: str = ""


class ErrorReply(Strict):
    """Every error, the framework's own included, has this shape."""

    error: ErrorBody


class Reply(BaseModel):
    """What every reply is: frozen, and open to fields of a newer version."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Listing(Reply, Generic[T]):
    """A page of a list, and the cursor of the next one."""

    items: list[T]
    next: str | None = Field(None, description="`cursor` of the next page; null: this is the last")


# The signal


class Version(Strict):
    """Which code and which models spoke."""

    git_commit: str
    model_version: str


class Gate(Strict):
    """What the optional gate said."""

    action: Literal["allow", "shrink", "veto", "override", "off", "shadow"]
    size_factor: float
    confidence: float
    reason: str
    input_decision: str | None


class Signal(Strict):
    """The standard output: one decision, everywhere in the same shape."""

    ts: str
    symbol: str
    timeframe: str
    horizon_steps: int
    prob_up: float | None
    expected_return: float | None = Field(description="mean log return over the horizon, fraction")
    p10: float | None
    p50: float | None
    p90: float | None
    risk_score: float | None
    decision: Literal["LONG", "SHORT", "NO_TRADE"]
    confidence: float
    reason: str
    version: Version
    id: str
    as_of: str
    final_decision: Literal["LONG", "SHORT", "NO_TRADE"]
    reasons: list[str]
    break_even_prob: float | None
    stop: float | None
    target: float | None
    weights: dict[str, float]
    explanations: dict[str, str]
    contributions: dict[str, float]
    absent: dict[str, str]
    degraded: bool
    gate: Gate
    origin: Literal["bar", "on_demand", "warm_up"]
    source: str


# Agents


class ModelView(Reply):
    """A model that an agent speaks with."""

    name: str = Field(examples=["baseline/trend"])
    version: str
    place: str = Field(description="shipped or models_dir")
    wanted: str | None = Field(description="version that is promoted; null: what ships is meant")
    problem: str = Field(description="why the promoted one is not used; empty if it is")


class AgentView(Reply):
    """An agent as it answers now; nulls for one that has never answered."""

    name: str
    version: str | None
    runs: Literal["serve", "in_process"]
    trained_until: Instant | None = Field(description="bars before it were seen in training")
    models: list[ModelView]
    problem: str
    notes: list[str]


class Evidence(Reply):
    """What is known of an agent's skill since it took, or lost, its seat."""

    n: int = Field(ge=0, description="outcomes")
    skill_low_1e4: float | None = Field(description="95 % bounds valid at all times, 10⁻⁴ Brier")
    skill_high_1e4: float | None
    changes: int = Field(ge=0, description="seats won and lost so far")


class WeightAt(Reply):
    """A weight in an earlier decision; null where it was not pooled."""

    as_of: Instant
    weight: float | None


class WeightView(Reply):
    """What an agent weighs now, and the record that earned it."""

    symbol: str
    timeframe: str
    horizon_bars: int
    agent: str
    member: bool
    awake: bool
    weight: Fraction = Field(description="before renormalising over the awake; 0 in probation")
    decayed_brier: float | None = Field(description="decayed mean Brier score; 0.25 is a coin")
    skill_1e4: float | None = Field(description="(¼ − decayed Brier) × 10⁴")
    n: int = Field(ge=0, description="scored outcomes")
    n_effective: float = Field(ge=0, description="n / horizon: outcomes overlap")
    loss: float = Field(description="decayed sum of its Brier loss minus the council's")
    grace: bool = Field(description="too new to lose weight")
    probation: bool = Field(description="scored, but in no pool")
    evidence: Evidence
    history: list[WeightAt] = Field([], description="only with `history`, oldest first")


class Score(Reply):
    """S of one forecaster over its own rows; null where it does not forecast such a thing."""

    n: int = Field(ge=0, description="outcomes it was awake for")
    brier: float | None = Field(description="mean (p − y)²; 0 best, 0.25 a coin")
    brier_skill_1e4: float | None = Field(description="(0.25 − brier) × 10⁴")
    log_loss: float | None = Field(description="mean −ln p of what happened, nats")
    auc: float | None
    accuracy: float | None = Field(description="share right; up is predicted iff p > ½")
    pinball_bps: float | None = Field(description="mean over p10, p50, p90; bp of log return")
    coverage_80: float | None = Field(description="share inside p10–p90; 0.8 is promised")
    interval_score_bps: float | None
    risk_brier: float | None = Field(description="of risk_down: a fall beyond 0.5 %")
    risk_auc: float | None
    weight_mean: float | None = Field(description="mean weight in the decisions")


class ScoreRow(Score):
    """The score of an agent, or of ``consensus``, on one symbol."""

    symbol: str
    agent: str = Field(description="name of the agent; `consensus` is the council")
    first: Instant | None = Field(description="as_of of the first scored row")
    last: Instant | None


class BinView(Reply):
    """One point of a reliability diagram; bins hold equally many forecasts."""

    lo: Fraction
    hi: Fraction
    n: int = Field(ge=1)
    forecast: Fraction = Field(description="mean forecast probability of up")
    observed: Fraction = Field(description="share that went up")
    band_lo: Fraction = Field(description="95 % range of `observed`, were the forecasts calibrated")
    band_hi: Fraction


class CoverageView(Reply):
    """How often outcomes lay inside a published interval."""

    low: Fraction = Field(description="quantile level of the lower end")
    high: Fraction
    nominal: Fraction = Field(description="share that the interval promises")
    observed: Fraction
    n: int = Field(ge=1)
    lo: Fraction = Field(description="95 % interval of `observed`, for n / horizon outcomes")
    hi: Fraction


class CalibrationRow(Reply):
    """How far one forecaster's probabilities and intervals can be taken at their word."""

    symbol: str
    agent: str
    n: int = Field(ge=0, description="outcomes with a probability")
    why: str | None = Field(description="why there are no bins; null where there are")
    brier: float | None
    ece: float | None = Field(description="expected calibration error")
    ece_noise: float | None = Field(description="what it would be for calibrated forecasts")
    slope: float | None = Field(description="of the outcome on logit p; 1 ideal, below 1 too sure")
    bins: list[BinView]
    coverage: list[CoverageView]


# Trades, positions, orders, equity


class TradeView(Reply):
    """A round trip: of an account here, or told from elsewhere (``account`` is ``external``)."""

    id: str
    account: str
    symbol: str
    side: TradeSide
    qty: Money = Field(description="base units")
    opened_at: Instant
    closed_at: Instant
    entry: Money
    exit: Money
    fee: Money
    slippage: Money = Field(description="inside the prices")
    spread: Money = Field(description="inside the prices")
    funding: Money = Field(description="positive is paid")
    pnl: Money = Field(description="net of fee and funding")
    reason: str = Field(description="what closed it; `external` for one told from elsewhere")
    strategy: str
    decision_id: str = Field(description="signal that opened it; empty where there is none")
    ref: str | None = Field(None, description="external: the id it was told with")
    by: str | None = Field(None, description="external: whose token told it")
    source: str | None = Field(None, description="external: where it comes from")
    note: str | None = None


class TradeTold(Reply):
    """An external trade as it is kept, and whether it was new."""

    trade: TradeView
    new: bool = Field(description="false: the same trade had been told before")


class FillView(Reply):
    """A (part of an) order carried out."""

    id: str
    order_id: str
    account: str
    symbol: str
    side: OrderSide
    qty: Money = Field(description="base units")
    price: Money
    at: Instant
    fee: Money
    spread: Money
    slippage: Money
    reference: Money = Field(description="price before spread and slippage")
    maker: bool
    intent: str
    realised: Money = Field(description="profit realised, before the fee")


class OrderView(Reply):
    """An order with its fills."""

    id: str
    account: str
    symbol: str
    side: OrderSide
    qty: Money = Field(description="base units")
    type: Literal["market", "limit", "stop"]
    created_at: Instant
    decision_id: str
    intent: str = Field(description="entry, or the reason of an exit")
    price: Money | None
    trigger: Money | None
    reduce_only: bool
    fills: list[FillView]


class PositionView(Reply):
    """An open position."""

    account: str
    symbol: str
    side: TradeSide
    qty: Money = Field(description="base units, negative when short")
    entry_price: Money
    mark: Money | None = Field(description="last close")
    opened_at: Instant
    decision_id: str
    horizon_due: Instant
    stop: Money | None
    target: Money | None
    fee: Money
    spread: Money
    slippage: Money
    funding: Money


class AccountView(Reply):
    """An account at one instant, marked to the last closes."""

    account: str
    currency: str
    at: Instant
    cash: Money
    equity: Money
    high_water: Money
    drawdown: Money = Field(description="fraction below the high-water mark")
    positions: list[PositionView]


class EquityPoint(Reply):
    """The account's value at the close of a bar."""

    account: str
    at: Instant
    cash: Money
    equity: Money
    high_water: Money


class EquityView(Reply):
    """The account now (null before the first bar) and its value over time, oldest first."""

    account: AccountView | None
    items: list[EquityPoint]
    next: None = None


# Risk


class CheckView(Reply):
    """One limit, its value now and how far it is; a margin of at least 0 passes."""

    name: str
    code: str
    value: float | str | None
    limit: float | str | None
    margin: float | None
    stops: str
    passed: bool


class StakeView(Reply):
    """What Kelly's rule would risk now."""

    fraction: float = Field(description="of equity, lost at the stop")
    smallest: bool
    trades: int
    p: float | None
    b: float | None
    f: float | None
    vol: float | None
    vol_factor: float


class ReadingView(Reply):
    """The operator's newest report of one source."""

    source: str
    value: float
    limit: float
    at: Instant
    until: Instant
    by: str
    note: str


class RiskView(Reply):
    """The risk mode, every limit, and what follows from them."""

    mode: Mode
    since: Instant | None
    by: str | None
    why: str | None
    checks: list[CheckView]
    size_factor: float | None
    risk_cap: float | None
    stakes: dict[str, StakeView]
    operator: list[ReadingView]


class _RiskRow(Reply):
    account: str
    at: Instant
    seq: int = Field(description="number in the ledger")


class ModeChangeRow(_RiskRow):
    """A change of mode."""

    type: Literal["mode_change"]
    mode: Mode
    by: str
    why: str


class RiskEventRow(_RiskRow):
    """Something that bears on risk."""

    type: Literal["risk_event"]
    kind: str
    subject: str
    level: Level
    by: str
    body: dict[str, Any]


class OperatorRow(_RiskRow):
    """A report of the operator."""

    type: Literal["operator_report"]
    source: Literal["hrv", "self_report"]
    value: float
    by: str
    note: str


class RefusalRow(_RiskRow):
    """An order or intent that was not carried out."""

    type: Literal["refusal"]
    symbol: str
    code: str
    rule: str
    value: str
    intent: str
    decision_id: str


RiskRow = Annotated[
    ModeChangeRow | RiskEventRow | OperatorRow | RefusalRow, Field(discriminator="type")
]


class KillTold(Reply):
    """What a kill came to."""

    mode: Mode
    changed: bool
    file: str | None = Field(None, description="kill file, where the database took no request")


class ArmTold(Reply):
    """What arming came to; the first step has the code for the second."""

    mode: Mode
    changed: bool
    confirm: str | None = None
    message: str | None = None


class OperatorTold(Reply):
    """A report as it was taken down."""

    source: Literal["hrv", "self_report"]
    value: float
    at: Instant
    paused: bool = Field(description="whether entries wait because of it")


class EventTold(Reply):
    """An event as it was taken down."""

    id: str
    at: Instant
    new: bool


# Journal, assertions, proposals


class ReflectionView(Reply):
    """What somebody makes of a trade."""

    account: str
    symbol: str
    decision_id: str
    at: Instant
    author: str
    text: str
    tags: list[str]
    draft: bool
    followed_plan: bool | None


class JournalRow(TradeView):
    """A closed trade with the newest that was written about it."""

    reflection: ReflectionView | None
    followed_plan: bool | None
    missing: bool = Field(description="no person wrote about it yet")


class DecidedBrief(Reply):
    """The decision that opened a trade, in short."""

    id: str
    reason: str
    prob_up: float | None
    stop: float | None
    target: float | None


class ExcursionView(Reply):
    """How far a trade went, fractions of its entry."""

    favourable: float
    adverse: float


class JournalEntry(JournalRow):
    """A closed trade with everything written about it."""

    reflections: list[ReflectionView]
    decision: DecidedBrief | None
    excursion: ExcursionView | None


class JournalTold(Reply):
    """What was written down, and the order that closes where one was asked for."""

    reflection: ReflectionView
    new: bool | None = None
    order: str | None = None
    symbol: str | None = None


class AssertionView(Reply):
    """One thing that must hold of the ledger; null where it could not be measured."""

    name: str
    value: float | None
    limit: float | None
    n: int
    passed: bool | None
    unit: str
    why: str
    rule: str
    evidence: dict[str, Any]


class AssertionsView(Reply):
    """All of them, as last measured; ``at`` is null before the first time."""

    at: Instant | None
    items: list[AssertionView]
    next: None = None


class ProposalView(Reply):
    """What the system proposes, and what a person made of it (wall time)."""

    id: int
    kind: str
    state: Literal["open", "accepted", "rejected"]
    body: dict[str, Any]
    created_at: Instant
    decided_at: Instant | None
    decided_by: str


# Symbols, jobs, system


class SymbolView(Reply):
    """A watched symbol. Changes take effect at the next start, and only where SYMBOLS is unset."""

    symbol: str = Field(examples=["BTC/USDT"])
    market: Literal["spot", "perp"]
    timeframe: str = Field(examples=["5m"])
    active: bool = Field(description="whether the next start follows it")
    meta: dict[str, str | int | float | bool | None]
    followed: bool = Field(description="whether the desk that runs now follows it")


class JobView(Reply):
    """Long work that was asked for (wall time)."""

    id: int
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    args: dict[str, Any]
    by: str
    command: list[str] = Field(description="what the worker runs, without the interpreter")
    result: dict[str, Any] = Field(description="exit_code, seconds, log, output; empty until then")
    created_at: Instant
    updated_at: Instant


class DeskView(Reply):
    """What the desk is doing; nulls while none runs."""

    phase: str | None
    done: float | None = Field(description="share of the phase, where it has an end")
    decided: int | None
    via: str | None
    as_of: Instant | None
    pid: int | None


class OpenQuestion(Reply):
    """An open proposal, in short."""

    id: int
    at: str
    what: str


class HealthView(Reply):
    """Whether the parts work, and what is wrong with those that do not."""

    status: str = Field(description="ok, degraded, or the risk mode in lower case")
    problems: list[str]
    source: str
    world: str
    simulated: bool
    speed: float | None = Field(description="market seconds per wall second; null: unpaced")
    desk: DeskView
    drifts: list[OpenQuestion]
    failures: list[OpenQuestion]
    rows: dict[str, int]


class Alive(Reply):
    """The process lives."""

    status: Literal["ok"]


class Ready(Reply):
    """A signal can be asked for."""

    status: Literal["ok"]
    phase: str | None


class EventView(Reply):
    """Something that happened, as the stream tells it; ``id`` rises."""

    id: int
    kind: str = Field(description="decision, fill, trade, risk, journal, …")
    at: Instant
    level: Level
    body: dict[str, Any]


# Why


class OpinionView(Reply):
    """What one agent forecast."""

    agent: str
    model_version: str
    p_up: float | None
    direction_probability: float | None
    confidence: float
    expected_return: float | None
    p10: float | None
    p50: float | None
    p90: float | None
    risk_down: float | None
    risk_up: float | None
    rationale: str
    evidence: dict[str, Any]


class OutcomeView(Reply):
    """What came of a forecast."""

    due: Instant
    log_return: float
    up: bool
    drop: float
    rise: float
    brier: float | None


class DeclinedView(Reply):
    """What a NO_TRADE declined, bp of notional."""

    side: str
    gross_bps: float
    net_bps: float


class WhyView(Reply):
    """A decision in full: votes, weights, exact contributions, costs, margins, outcome."""

    signal: Signal
    intent: str
    votes: list[OpinionView]
    weights: dict[str, float]
    contributions: dict[str, float] = Field(description="logits; they add up to the council's")
    strongest_dissent: OpinionView | None
    debate: list[Any]
    costs: dict[str, Any] | None = Field(description="bp of notional")
    waterfall: list[dict[str, Any]] = Field(description="bp of notional, item by item")
    flips: list[dict[str, Any]] = Field(description="what would have had to be otherwise")
    inputs: dict[str, Any]
    break_even_prob: float | None
    margins: dict[str, float | None] = Field(description="distance to each limit; negative fails")
    state_seq: int = Field(description="last ledger row the council had learned from")
    outcome: OutcomeView | None
    declined: DeclinedView | None
