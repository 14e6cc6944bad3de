"""The public shapes: what HTTP, the CLI's ``--json`` and the report files show.

Inside, one name per thing (``p_up``, ``horizon_bars``); here, the names users rely on.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from consensus.abstention import declined
from consensus.whatif import flips, waterfall
from domain.canonical import plain
from domain.cards import AgentCard
from domain.decision import Decision, strongest_dissent
from domain.market import parse_symbol
from domain.opinion import Opinion, Outcome
from domain.times import LAST_MS, iso
from domain.trading import ClosedTrade, Fill, Portfolio, Position
from storage.proposals import Proposal

_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"


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


class SignalRequest(Strict):
    """Ask the council about the last closed bar, or (replay and demo only) an earlier one."""

    symbol: str = Field(max_length=40, examples=["BTC/USDT"])
    timeframe: str | None = Field(default=None, max_length=8, examples=["5m"])
    strategy: str | None = Field(default=None, max_length=40, examples=["council"])
    as_of: str | None = Field(default=None, max_length=40, examples=["2025-06-01T12:00:00Z"])


class KillRequest(Strict):
    """Why somebody stops the system, and whether open positions are closed or left alone."""

    why: str = Field(default="", max_length=400, pattern=r"^[^\x00-\x1f\x7f]*$")
    flatten: bool = Field(default=True, description="false freezes: stops and targets stay")


class ArmRequest(Strict):
    """Why somebody allows trading again."""

    why: str = Field(default="", max_length=400, pattern=_ONE_LINE)
    confirm: str | None = Field(default=None, max_length=64, description="code of the first step")


class OperatorRequest(Strict):
    """How the person at the desk is."""

    source: Literal["hrv", "self_report"] = Field(
        default="hrv", description="hrv: RMSSD in ms; self_report: 0 (unfit) to 10 (at their best)"
    )
    value: float = Field(ge=0, le=1000, allow_inf_nan=False, examples=[42.0])
    note: str = Field(default="", max_length=400, pattern=_ONE_LINE)

    @model_validator(mode="after")
    def _within_its_scale(self) -> OperatorRequest:
        if self.source == "self_report" and self.value > 10:
            raise ValueError("a self_report must lie between 0 and 10")
        return self


class RiskEventRequest(Strict):
    """Something that bears on risk, told from outside; the same id again is the same event."""

    id: str = Field(min_length=1, max_length=64, pattern=r"^[\w.:-]+$", examples=["fomc-2025-06"])
    level: Literal["info", "warning", "error"] = "info"
    text: str = Field(max_length=400, pattern=_ONE_LINE)
    data: dict[str, str | int | float | bool | None] = Field(default={}, max_length=50)


class ProposalRequest(Strict):
    """What a person decides about a proposal."""

    decision: Literal["accept", "reject"]
    why: str = Field(default="", max_length=400, pattern=r"^[^\x00-\x1f\x7f]*$")


class JournalRequest(Strict):
    """What a person says of a closed trade, or of the position that this closes."""

    action: Literal["reflect", "close"] = "reflect"
    trade_id: str | None = Field(default=None, max_length=64, description="reflect: which trade")
    symbol: str | None = Field(default=None, max_length=40, description="close: which position")
    text: str = Field(max_length=4000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")
    tags: list[str] = Field(default=[], max_length=10, examples=[["late", "news"]])
    followed_plan: bool | None = None
    author: str = Field(default="operator", max_length=40, pattern=r"^[\w .-]+$")

    @model_validator(mode="after")
    def _names_its_subject(self) -> JournalRequest:
        if self.action == "reflect" and self.trade_id is None:
            raise ValueError("reflect needs a trade_id")
        if self.action == "close" and self.symbol is None:
            raise ValueError("close needs a symbol")
        return self


class StateRequest(Strict):
    """A followed symbol's state at the close of a bar."""

    symbol: str = Field(max_length=40)
    as_of: int = Field(ge=0, le=LAST_MS, description="UTC ms")


class OpinionsRequest(Strict):
    """States that the desk wants opinions about."""

    items: list[StateRequest] = Field(max_length=1000)


class Page(BaseModel):
    """A list and where it goes on."""

    items: list[dict[str, Any]]
    next: str | None = None


def signal_of(decision: Decision) -> Signal:
    """Return the public form of a decision."""
    quantiles = decision.quantiles
    values = {
        name: None if quantiles is None else quantiles.at(level)
        for name, level in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9))
    }
    gate = decision.gate
    body = {
        "ts": iso(decision.ts),
        "symbol": decision.symbol,
        "timeframe": decision.timeframe,
        "horizon_steps": decision.horizon_bars,
        "prob_up": decision.prob_up,
        "expected_return": decision.expected_return,
        **values,
        "risk_score": decision.risk_score,
        "decision": decision.action,
        "confidence": decision.confidence,
        "reason": decision.reason,
        "version": {"git_commit": decision.git_commit, "model_version": decision.model_version},
        "id": decision.id,
        "as_of": iso(decision.as_of),
        "final_decision": decision.action,
        "reasons": list(decision.reasons),
        "break_even_prob": decision.break_even_prob,
        "stop": decision.stop,
        "target": decision.target,
        "weights": decision.weights,
        "explanations": decision.explanations,
        "contributions": decision.contributions,
        "absent": decision.absent,
        "degraded": decision.degraded,
        "gate": {
            "action": gate.action,
            "size_factor": gate.size_factor,
            "confidence": gate.confidence,
            "reason": gate.reason,
            "input_decision": gate.input_decision or decision.intent,
        },
        "origin": decision.origin,
        "source": decision.source,
    }
    return Signal.model_validate(plain(body))


def why_of(decision: Decision, opinions: list[Opinion], outcome: Outcome | None) -> dict[str, Any]:
    """Explain a decision in full: votes, weights, costs, margins, what came of it."""
    against = strongest_dissent(decision.prob_up or 0.5, decision.contributions)
    dissent = next((opinion for opinion in opinions if opinion.agent == against), None)
    body: dict[str, Any] = plain(
        {
            "signal": signal_of(decision).model_dump(),
            "intent": decision.intent,
            "votes": [opinion_of(opinion) for opinion in opinions],
            "weights": decision.weights,
            "contributions": decision.contributions,
            "strongest_dissent": None if dissent is None else opinion_of(dissent),
            "debate": decision.inputs.get("debate", []),
            "costs": decision.inputs.get("costs"),
            "waterfall": waterfall(decision),
            "flips": flips(decision),
            "inputs": decision.inputs,
            "break_even_prob": decision.break_even_prob,
            "margins": decision.margins,
            "state_seq": decision.state_seq,
            "outcome": None
            if outcome is None
            else {
                "due": iso(outcome.due),
                "log_return": outcome.log_return,
                "up": outcome.up,
                "drop": outcome.drop,
                "rise": outcome.rise,
                "brier": None if decision.prob_up is None else (decision.prob_up - outcome.up) ** 2,
            },
            "declined": None if outcome is None else _declined(decision, outcome),
        }
    )
    return body


def _declined(decision: Decision, outcome: Outcome) -> dict[str, Any] | None:
    """What a NO_TRADE declined; None for a side that was taken."""
    trade = declined(decision, outcome.log_return)
    if trade is None:
        return None
    return {"side": trade.side, "gross_bps": 1e4 * trade.gross, "net_bps": 1e4 * trade.net}


def opinion_of(opinion: Opinion) -> dict[str, Any]:
    """Return the public form of one agent's forecast."""
    quantiles = opinion.quantiles
    body: dict[str, Any] = plain(
        {
            "agent": opinion.agent,
            "model_version": opinion.model_version,
            "p_up": opinion.p_up,
            "direction_probability": opinion.direction_probability(),
            "confidence": opinion.confidence,
            "expected_return": opinion.expected_return,
            "p10": quantiles and quantiles.at(0.1),
            "p50": quantiles and quantiles.at(0.5),
            "p90": quantiles and quantiles.at(0.9),
            "risk_down": opinion.risk_down,
            "risk_up": opinion.risk_up,
            "rationale": opinion.rationale,
            "evidence": opinion.evidence,
        }
    )
    return body


def agent_of(name: str, card: AgentCard | None, *, remote: bool) -> dict[str, Any]:
    """Return the public form of an agent as it answers now; nulls for one that never answered."""
    until = None if card is None else card.trained_until
    return {
        "name": name,
        "version": card and card.version,
        "runs": "serve" if remote else "in_process",
        "trained_until": None if until is None else iso(until),
        "models": [] if card is None else [plain(model) for model in card.models],
        "problem": "It has not answered yet." if card is None else card.problem,
        "notes": [] if card is None else list(card.notes),
    }


def trade_of(trade: ClosedTrade) -> dict[str, Any]:
    """Return the public form of a closed trade (money as decimal strings, quote units)."""
    body = plain(trade)
    body.update(id=trade.id, opened_at=iso(trade.opened_at), closed_at=iso(trade.closed_at))
    return dict(body)


def fill_of(fill: Fill) -> dict[str, Any]:
    """Return the public form of a fill."""
    return {**plain(fill), "at": iso(fill.at)}


def position_of(position: Position, mark: object | None = None) -> dict[str, Any]:
    """Return the public form of an open position."""
    return {
        **plain(position),
        "side": "LONG" if position.qty > 0 else "SHORT",
        "opened_at": iso(position.opened_at),
        "horizon_due": iso(position.horizon_due),
        "mark": plain(mark),
    }


def portfolio_of(portfolio: Portfolio) -> dict[str, Any]:
    """Return the public form of an account at one instant."""
    return {
        "account": portfolio.account,
        "currency": portfolio.currency,
        "at": iso(portfolio.at),
        "cash": plain(portfolio.cash),
        "equity": plain(portfolio.equity),
        "high_water": plain(portfolio.high_water),
        "drawdown": plain(portfolio.drawdown),
        "positions": [
            position_of(position, portfolio.marks.get(symbol))
            for symbol, position in sorted(portfolio.positions.items())
        ],
    }


def proposal_of(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal in JSON's types."""
    decided = proposal.decided_at
    body: dict[str, Any] = plain(proposal)
    return {
        **body,
        "created_at": iso(proposal.created_at),
        "decided_at": None if decided is None else iso(decided),
    }


def symbol_in(text: str) -> str:
    """Read a symbol from a URL path or body: ``BTC-USDT``, ``BTCUSDT`` and ``BTC/USDT`` are one."""
    return parse_symbol(text)
