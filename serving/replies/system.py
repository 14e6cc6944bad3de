"""What the system answers with: assertions, proposals, symbols, jobs, events, health."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from serving.replies.base import Instant, Level, Reply


class AssertionView(Reply):
    """One thing that must hold of the ledger; null where it could not be measured."""

    name: str
    value: float | None = Field(description="in `unit`")
    limit: float | None = Field(description="in `unit`")
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


class SymbolView(Reply):
    """A watched symbol. Changes take effect at the next start, and only where SYMBOLS is unset."""

    symbol: str = Field(examples=["BTC/USDT"])
    market: Literal["spot", "perp"]
    timeframe: str = Field(examples=["5m"])
    active: bool = Field(description="whether the next start follows it")
    meta: dict[str, str | int | float | bool | None] = Field(description="notes of yours")
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


class GateState(Reply):
    """What the gate has earned; returns are logarithmic, of a position of the usual size."""

    version: str | None
    strategy: str = Field(description="whose decisions it judges")
    state: Literal["applied", "shadow", "unusable"]
    problem: str = Field(description="why there is none to use; else empty")
    judged: int = Field(description="decisions it was asked about")
    differed: int = Field(description="of them not simply allowed")
    needed: int = Field(description="so many must differ before it can be applied")
    bars: int = Field(description="bars in which the two books earned something else")
    gate_log_return: float = Field(description="of the book with the gate, after costs, log")
    no_gate_log_return: float = Field(description="of the book without it")
    mean_difference_bps: float = Field(description="of those bars, gate less no gate")
    lower_bps: float | None = Field(description="95 % bound of that mean, valid at all times")
    upper_bps: float | None = Field(description="the other bound; both null: beyond the grid")


class CriterionView(Reply):
    """What must hold of a feed before anything is entered; ``met`` is null if not measured."""

    name: Literal["bars", "messages", "stamps", "spread"]
    met: bool | None
    value: float | None = Field(description="in `unit`")
    limit: float = Field(description="in `unit`")
    unit: str
    said: str = Field(description="what it is about, in words")


class TimeframeView(Reply):
    """Bars of one timeframe that are kept."""

    timeframe: str
    bars: int = Field(description="kept, of the symbol that has fewest")
    whole: int = Field(description="of them without a gap up to the newest")
    gaps: int = Field(description="missing bars of all symbols")
    different: int = Field(description="bars that those of 1m do not make, of all symbols")


class FeedView(Reply):
    """How a live market's feed does since the desk was started."""

    ready: bool = Field(description="whether every criterion has been met once")
    waiting: str = Field(description="what is not met yet; else empty")
    late: bool = Field(description="whether that took too long: no entries until it is met")
    problem: str = Field(description="what is wrong with the lines of bars now; else empty")
    criteria: list[CriterionView]
    timeframes: list[TimeframeView]
    messages: int = Field(description="that came, of bars, books and trades")
    bytes: int = Field(description="of them")
    garbage: int = Field(description="messages that could not be read")
    reconnects: int = Field(description="lines after the first of each")
    longest_away_s: float = Field(
        description="longest from the loss of a line until the next told something, s"
    )
    bars: int = Field(description="kept, of all symbols and timeframes")
    gaps: int = Field(description="bars that are missing between them")
    filled: int = Field(description="bars that came by REST because the line did not tell them")
    repeated: int = Field(description="bars that were told again")
    compared: int = Field(description="bars held against those that bars of 1m make")
    different: int = Field(description="of them not the same")
    executed_late: int = Field(description="bars of execution markets that came after their close")
    listeners_broken: int = Field(description="listeners that failed and were begun anew")
    clock_offset_ms: int = Field(description="the exchange's time less this machine's, ms")


class ReachView(Reply):
    """Whether the exchange answers a live broker."""

    open: bool = Field(description="whether it is left alone, and every question fails at once")
    opened: int = Field(description="how often that began")
    in_vain: int = Field(description="questions in a row that it did not answer")
    problem: str = Field(description="what came of the last one; else empty")


class StreamView(Reply):
    """How the stream of the account's own events does."""

    messages: int = Field(description="that came")
    connects: int = Field(description="lines that stood")
    lost: int = Field(description="lines that were lost")
    falls: int = Field(description="how often it had to begin anew")
    longest_away: float = Field(description="until a line told something again, s")
    problem: str = Field(description="why nothing is heard now; else empty")


class BrokerView(Reply):
    """How a live broker stands with its exchange; it can do without the stream."""

    venue: ReachView
    stream: StreamView


class UseView(Reply):
    """A resource over the last hour, beside its limit."""

    name: Literal["cpu", "memory", "network", "reconnects"]
    value: float | None = Field(description="in `unit`; null: not measured")
    limit: float = Field(description="in `unit`")
    unit: str
    alert: bool = Field(description="whether it is near the limit, or beyond")


class HealthView(Reply):
    """Whether the parts work, and what is wrong with those that do not."""

    status: str = Field(description="ok, degraded, or the risk mode in lower case")
    problems: list[str]
    source: str
    world: str
    simulated: bool
    execution: Literal["paper", "live"] = Field(description="live: orders go to the exchange")
    speed: float | None = Field(description="market seconds per wall second; null: unpaced")
    desk: DeskView
    drifts: list[OpenQuestion]
    failures: list[OpenQuestion]
    gate: GateState | None = Field(description="null: no gate judges")
    feed: FeedView | None = Field(description="null: no exchange is listened to")
    broker: BrokerView | None = Field(None, description="null: orders are filled on paper")
    resources: list[UseView]
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
