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
