"""What can be asked of the API: a function for each call, which says what the answer is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from domain.errors import UsageError
from serving.replies import (
    AgentView,
    ArmTold,
    AssertionsView,
    CalibrationRow,
    EquityView,
    EventTold,
    HealthView,
    JobView,
    JournalEntry,
    JournalRow,
    JournalTold,
    KillTold,
    Listing,
    OperatorTold,
    OrderView,
    PositionView,
    ProposalView,
    RiskRow,
    RiskView,
    ScoreRow,
    Signal,
    SymbolView,
    TradeTold,
    TradeView,
    WeightView,
    WhyView,
)
from serving.requests import JournalRequest, SymbolChange, SymbolRequest, TradeRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """What is asked, and what the answer is.

    Attributes
    ----------
    repeatable : whether asking twice is the same as asking once.
    """

    method: str
    path: str
    answer: Any
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class ListCall(Call[Listing[T]]):
    """A call for a page of a list."""


# Calls: the council


def signal(symbol: str, **asked: str) -> Call[Signal]:
    """Ask for a decision; ``asked`` may name timeframe, strategy and as_of."""
    return Call("POST", "/v1/signals", Signal, body={"symbol": symbol, **asked})


def signals(symbol: str | None = None, limit: int = 100) -> ListCall[Signal]:
    """Ask for decisions, newest first."""
    return _list("/v1/signals", Signal, symbol=symbol, limit=limit)


def signal_by(signal_id: str) -> Call[Signal]:
    """Ask for one decision."""
    return Call("GET", f"/v1/signals/{_safe(signal_id)}", Signal)


def why(signal_id: str) -> Call[WhyView]:
    """Ask for the explanation of a decision."""
    return Call("GET", f"/v1/signals/{_safe(signal_id)}/why", WhyView)


def agents() -> ListCall[AgentView]:
    """Ask who the agents are."""
    return _list("/v1/agents", AgentView)


def weights(symbol: str | None = None, history: int = 0) -> ListCall[WeightView]:
    """Ask what each agent weighs."""
    return _list("/v1/agents/weights", WeightView, symbol=symbol, history=history)


def scores(symbol: str | None = None, last: int = 1000) -> ListCall[ScoreRow]:
    """Ask what forecasts were worth."""
    return _list("/v1/agents/scores", ScoreRow, symbol=symbol, last=last)


def calibration(agent: str | None = None, last: int = 1000) -> ListCall[CalibrationRow]:
    """Ask how far probabilities can be taken at their word."""
    return _list("/v1/calibration", CalibrationRow, agent=agent, last=last)


# Calls: the account


def trades(account: str | None = None, limit: int = 100) -> ListCall[TradeView]:
    """Ask for closed trades, newest first."""
    return _list("/v1/trades", TradeView, account=account, limit=limit)


def trade(trade_id: str) -> Call[TradeView]:
    """Ask for one trade."""
    return Call("GET", f"/v1/trades/{_safe(trade_id)}", TradeView)


def tell_trade(told: TradeRequest) -> Call[TradeTold]:
    """Tell a trade made elsewhere; the same id again is the same trade."""
    return Call("POST", "/v1/trades", TradeTold, body=told.model_dump(mode="json"))


def positions() -> ListCall[PositionView]:
    """Ask for open positions."""
    return _list("/v1/positions", PositionView)


def orders(limit: int = 100) -> ListCall[OrderView]:
    """Ask for orders with their fills, newest first."""
    return _list("/v1/orders", OrderView, limit=limit)


def equity(points: int = 500) -> Call[EquityView]:
    """Ask for the account and its value over time."""
    return Call("GET", "/v1/equity", EquityView, {"points": points})


def journal(*, missing: bool = False, limit: int = 100) -> ListCall[JournalRow]:
    """Ask for trades with what was written about them."""
    return _list("/v1/journal", JournalRow, missing=missing, limit=limit)


def journal_entry(trade_id: str) -> Call[JournalEntry]:
    """Ask for a trade with everything written about it."""
    return Call("GET", f"/v1/journal/{_safe(trade_id)}", JournalEntry)


def write_journal(said: JournalRequest) -> Call[JournalTold]:
    """Write about a trade, or close a position."""
    return Call("POST", "/v1/journal", JournalTold, body=said.model_dump(), repeatable=False)


# Calls: risk


def risk() -> Call[RiskView]:
    """Ask for the risk mode and every limit."""
    return Call("GET", "/v1/risk/state", RiskView)


def risk_events(kind: str | None = None, limit: int = 100) -> ListCall[Any]:
    """Ask what happened to risk, newest first."""
    return _list("/v1/risk/events", RiskRow, kind=kind, limit=limit)


def report_event(
    event_id: str, text: str, level: str = "info", data: Mapping[str, Any] | None = None
) -> Call[EventTold]:
    """Tell an event that bears on risk; the same id again is the same event."""
    body = {"id": event_id, "text": text, "level": level, "data": dict(data or {})}
    return Call("POST", "/v1/risk/events", EventTold, body=body)


def kill(reason: str = "", *, flatten: bool = True) -> Call[KillTold]:
    """Stop everything."""
    return Call("POST", "/v1/risk/kill", KillTold, body={"why": reason, "flatten": flatten})


def arm(confirm: str | None = None, reason: str = "") -> Call[ArmTold]:
    """Allow trading again: first without, then with the code of the first answer."""
    body = {"why": reason, "confirm": confirm}
    return Call("POST", "/v1/risk/arm", ArmTold, body=body, repeatable=False)


def report_operator(value: float, source: str = "hrv", note: str = "") -> Call[OperatorTold]:
    """Say how the operator is."""
    body = {"value": value, "source": source, "note": note}
    return Call("POST", "/v1/risk/hrv", OperatorTold, body=body, repeatable=False)


# Calls: the system


def health() -> Call[HealthView]:
    """Ask whether all parts work."""
    return Call("GET", "/v1/system/health", HealthView)


def assertions() -> Call[AssertionsView]:
    """Ask what must hold, as last measured."""
    return Call("GET", "/v1/assertions", AssertionsView)


def measure_assertions() -> Call[AssertionsView]:
    """Have them measured now; give the client a timeout of minutes."""
    return Call("POST", "/v1/assertions", AssertionsView, repeatable=False)


def decide_proposal(proposal_id: int, decision: str, reason: str = "") -> Call[ProposalView]:
    """Accept or reject a proposal."""
    body = {"decision": decision, "why": reason}
    path = f"/v1/proposals/{proposal_id}"
    return Call("POST", path, ProposalView, body=body, repeatable=False)


def proposals(state: str | None = None, limit: int = 100) -> ListCall[ProposalView]:
    """Ask what the system proposes."""
    return _list("/v1/proposals", ProposalView, state=state, limit=limit)


def symbols() -> ListCall[SymbolView]:
    """Ask which symbols are watched."""
    return _list("/v1/symbols", SymbolView)


def symbol(name: str) -> Call[SymbolView]:
    """Ask for one watched symbol."""
    return Call("GET", f"/v1/symbols/{_dashed(name)}", SymbolView)


def add_symbol(asked: SymbolRequest) -> Call[SymbolView]:
    """Watch a symbol from the next start on."""
    return Call("POST", "/v1/symbols", SymbolView, body=asked.model_dump(), repeatable=False)


def change_symbol(name: str, change: SymbolChange) -> Call[SymbolView]:
    """Change how a symbol is watched."""
    body = change.model_dump(exclude_none=True)
    return Call("PATCH", f"/v1/symbols/{_dashed(name)}", SymbolView, body=body)


def remove_symbol(name: str) -> Call[SymbolView]:
    """Stop watching a symbol."""
    path = f"/v1/symbols/{_dashed(name)}"
    return Call("DELETE", path, SymbolView, repeatable=False)


def jobs(state: str | None = None, limit: int = 100) -> ListCall[JobView]:
    """Ask for jobs, newest first."""
    return _list("/v1/system/jobs", JobView, state=state, limit=limit)


def job(job_id: int) -> Call[JobView]:
    """Ask for one job."""
    return Call("GET", f"/v1/system/jobs/{job_id}", JobView)


def queue_job(kind: str, **args: Any) -> Call[JobView]:
    """Queue a training, evaluation, backtest or look-ahead check."""
    body = {"kind": kind, "args": args}
    return Call("POST", "/v1/system/jobs", JobView, body=body, repeatable=False)


def cancel_job(job_id: int) -> Call[JobView]:
    """Cancel a job."""
    body = {"state": "cancelled"}
    return Call("PATCH", f"/v1/system/jobs/{job_id}", JobView, body=body, repeatable=False)


def raw(method: str, path: str, body: Mapping[str, Any] | None = None) -> Call[dict[str, Any]]:
    """Ask for anything, and take its JSON as it is."""
    return Call(method, path, dict[str, Any], body=body, repeatable=method == "GET")


def _list(path: str, item: Any, **params: Any) -> ListCall[Any]:
    known = {name: value for name, value in params.items() if value is not None}
    return ListCall("GET", path, Listing[item], known)


def _dashed(symbol: str) -> str:
    return _safe(symbol.replace("/", "-", 1))


def _safe(text: str) -> str:
    if not text or not all(c.isalnum() or c in "_.:-" for c in text) or text in (".", ".."):
        raise UsageError("id", "must be letters, digits and _ . : -", text)
    return text
