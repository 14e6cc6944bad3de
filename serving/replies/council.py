"""What the council answers with: signals, agents, scores, and why."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from serving.replies.base import Fraction, Instant, Reply, Strict


class Version(Strict):
    """Which code and which models spoke."""

    git_commit: str = Field(description="commit of the code that decided")
    model_version: str = Field(description="hash of the sorted versions of all agents")


class Gate(Strict):
    """What the optional gate said."""

    action: Literal["allow", "shrink", "veto", "override", "off", "shadow"]
    size_factor: Fraction = Field(description="share of the size that it leaves")
    confidence: Fraction = Field(description="how sure the gate is")
    reason: str
    input_decision: str | None = Field(description="what the council wanted before it")


class Signal(Strict):
    """The standard output: one decision, everywhere in the same shape."""

    ts: Instant = Field(description="when it was emitted, market time")
    symbol: str = Field(examples=["BTC/USDT"])
    timeframe: str = Field(examples=["5m"], description="length of a bar")
    horizon_steps: int = Field(examples=[5], description="bars that the forecast reaches ahead")
    prob_up: Fraction | None = Field(
        examples=[0.53], description="probability of a higher close at the horizon; a tie is not up"
    )
    expected_return: float | None = Field(
        examples=[0.0008], description="mean log return over the horizon, fraction"
    )
    p10: float | None = Field(examples=[-0.004], description="10 % quantile of the log return")
    p50: float | None = Field(examples=[0.0006], description="median of the log return, fraction")
    p90: float | None = Field(examples=[0.005], description="90 % quantile of the log return")
    risk_score: Fraction | None = Field(
        examples=[0.22], description="probability of a move beyond 0.5 % against the side"
    )
    decision: Literal["LONG", "SHORT", "NO_TRADE"]
    confidence: Fraction = Field(examples=[0.06], description="|2·prob_up − 1|")
    reason: str = Field(description="the decision in a sentence")
    version: Version
    id: str = Field(examples=["be5d6eeffa0f2063"])
    as_of: Instant = Field(description="close of the last bar that was known")
    final_decision: Literal["LONG", "SHORT", "NO_TRADE"] = Field(description="as `decision`")
    reasons: list[str] = Field(
        examples=[["below_cost"]], description="codes of what spoke against a trade"
    )
    break_even_prob: float | None = Field(
        description="probability of the side at which the trade pays for its costs; null: none does"
    )
    stop: float | None = Field(description="price at which it is given up, quote currency")
    target: float | None = Field(description="price at which the profit is taken, quote currency")
    weights: dict[str, float] = Field(description="agent → weight in this decision, fraction")
    explanations: dict[str, str] = Field(description="agent → its words")
    contributions: dict[str, float] = Field(
        description="agent → its share of the council's log-odds; `_fusion` is what the later "
        "layers added; they sum up exactly"
    )
    absent: dict[str, str] = Field(description="agent → why it had no say")
    degraded: bool = Field(description="whether somebody who should have spoken did not")
    gate: Gate
    origin: Literal["bar", "on_demand", "warm_up"] = Field(
        description="decided at a bar's close, because somebody asked, or on history"
    )
    source: str = Field(examples=["demo"], description="where the bars are from")


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
    skill_high_1e4: float | None = Field(description="upper bound, 10⁻⁴ Brier")
    changes: int = Field(ge=0, description="seats won and lost so far")


class WeightAt(Reply):
    """A weight in an earlier decision; null where it was not pooled."""

    as_of: Instant
    weight: float | None = Field(description="fraction")


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
    auc: float | None = Field(description="area under the ROC curve; 0.5 is a coin")
    accuracy: float | None = Field(description="share right; up is predicted iff p > ½")
    pinball_bps: float | None = Field(description="mean over p10, p50, p90; bp of log return")
    coverage_80: float | None = Field(description="share inside p10–p90; 0.8 is promised")
    interval_score_bps: float | None = Field(description="of p10–p90, bp; less is better")
    risk_brier: float | None = Field(description="of risk_down: a fall beyond 0.5 %")
    risk_auc: float | None = Field(description="of risk_down")
    weight_mean: float | None = Field(description="mean weight in the decisions")


class ScoreRow(Score):
    """The score of an agent, or of ``consensus``, on one symbol."""

    symbol: str
    agent: str = Field(description="name of the agent; `consensus` is the council")
    first: Instant | None = Field(description="as_of of the first scored row")
    last: Instant | None


class BinView(Reply):
    """One point of a reliability diagram; bins hold equally many forecasts."""

    lo: Fraction = Field(description="smallest forecast in the bin")
    hi: Fraction = Field(description="largest forecast in the bin")
    n: int = Field(ge=1)
    forecast: Fraction = Field(description="mean forecast probability of up")
    observed: Fraction = Field(description="share that went up")
    band_lo: Fraction = Field(description="95 % range of `observed`, were the forecasts calibrated")
    band_hi: Fraction = Field(description="upper end of that range")


class CoverageView(Reply):
    """How often outcomes lay inside a published interval."""

    low: Fraction = Field(description="quantile level of the lower end")
    high: Fraction = Field(description="quantile level of the upper end")
    nominal: Fraction = Field(description="share that the interval promises")
    observed: Fraction = Field(description="share that it held")
    n: int = Field(ge=1)
    lo: Fraction = Field(description="95 % interval of `observed`, for n / horizon outcomes")
    hi: Fraction = Field(description="upper end of that interval")


class CalibrationRow(Reply):
    """How far one forecaster's probabilities and intervals can be taken at their word."""

    symbol: str
    agent: str
    n: int = Field(ge=0, description="outcomes with a probability")
    why: str | None = Field(description="why there are no bins; null where there are")
    brier: float | None = Field(description="mean (p − y)²")
    ece: float | None = Field(description="expected calibration error")
    ece_noise: float | None = Field(description="what it would be for calibrated forecasts")
    slope: float | None = Field(description="of the outcome on logit p; 1 ideal, below 1 too sure")
    bins: list[BinView]
    coverage: list[CoverageView]


class OpinionView(Reply):
    """What one agent forecast."""

    agent: str
    model_version: str
    p_up: float | None = Field(description="probability of a higher close")
    direction_probability: float | None = Field(description="p_up, or 1 − F(0) of the quantiles")
    confidence: float = Field(description="|2·p_up − 1|")
    expected_return: float | None = Field(description="mean log return, fraction")
    p10: float | None = Field(description="10 % quantile of the log return")
    p50: float | None = Field(description="median of the log return")
    p90: float | None = Field(description="90 % quantile of the log return")
    risk_down: float | None = Field(description="probability of a fall beyond 0.5 %")
    risk_up: float | None = Field(description="probability of a rise beyond 0.5 %")
    rationale: str
    evidence: dict[str, Any]


class OutcomeView(Reply):
    """What came of a forecast."""

    due: Instant
    log_return: float = Field(description="over the horizon, fraction")
    up: bool
    drop: float = Field(description="largest fall within the horizon, fraction")
    rise: float = Field(description="largest rise within the horizon, fraction")
    brier: float | None = Field(description="of the council's probability")


class DeclinedView(Reply):
    """What a NO_TRADE declined, bp of notional."""

    side: str
    gross_bps: float = Field(description="before costs")
    net_bps: float = Field(description="after the round trip it was decided with")


class WhyView(Reply):
    """A decision in full: votes, weights, exact contributions, costs, margins, outcome."""

    signal: Signal
    intent: str
    votes: list[OpinionView]
    weights: dict[str, float] = Field(description="agent → weight, fraction")
    contributions: dict[str, float] = Field(description="logits; they add up to the council's")
    strongest_dissent: OpinionView | None
    debate: list[Any]
    costs: dict[str, Any] | None = Field(description="bp of notional")
    waterfall: list[dict[str, Any]] = Field(description="bp of notional, item by item")
    flips: list[dict[str, Any]] = Field(description="what would have had to be otherwise")
    inputs: dict[str, Any]
    break_even_prob: float | None = Field(description="probability at which costs are paid for")
    margins: dict[str, float | None] = Field(description="distance to each limit; negative fails")
    state_seq: int = Field(description="last ledger row the council had learned from")
    outcome: OutcomeView | None
    declined: DeclinedView | None
