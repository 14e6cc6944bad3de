"""The seams: one or two methods each, a checker and a fake ship for every one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from domain.decision import Consensus, Decision, GateVerdict
from domain.market import Bar, BarFrame, BookView, Instant, MarketState, SeenBook
from domain.opinion import Opinion
from domain.trading import (
    ClosedTrade,
    Event,
    Fill,
    Holdings,
    Order,
    OrderStatus,
    Portfolio,
    Posting,
    Refusal,
)

R = TypeVar("R")


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> int:
        """Return UTC milliseconds."""
        ...


@dataclass(frozen=True, slots=True)
class Needs:
    """How much of a :class:`MarketState` an agent reads, so that no more is sent to it."""

    bars: int = 1
    feature_rows: int = 1


@runtime_checkable
class Agent(Protocol):
    """A forecaster: a pure function of what was knowable."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def needs(self) -> Needs: ...

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return one opinion per state, in order; what else is in the batch changes nothing."""
        ...


class AsyncAgent(Protocol):
    """An agent as the host sees it: here, in another process or on another machine."""

    @property
    def name(self) -> str: ...

    async def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return one opinion per state, in order."""
        ...


class Debater(Protocol):
    """An agent that may answer when it has seen the others."""

    def answer(self, states: Sequence[MarketState], view: Sequence[Consensus]) -> list[Opinion]:
        """Return revised opinions, one per state."""
        ...


class OpinionSource(Protocol):
    """Live agents or a recorded tape."""

    def opinions(self, state: MarketState) -> tuple[list[Opinion], dict[str, str]]:
        """Return the opinions at ``state.as_of`` and the absent agents with their reasons."""
        ...


class Strategy(Protocol):
    """Turns what is known into a decision; the council is one, ``ema_cross`` another."""

    @property
    def name(self) -> str: ...

    def prepare_state(
        self, state: MarketState, opinions: Sequence[Opinion], absent: Mapping[str, str]
    ) -> Any:
        """Digest market state and opinions into what :meth:`generate_signal` needs."""
        ...

    def generate_signal(self, prepared: Any, now: int) -> Decision:
        """Decide, with suggested stop and target; ``now`` (ms) is the emission time."""
        ...

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        """Fold ledger rows (sequence number, record) in order, passing over those of no interest.

        The live loop calls it with what it appended, a restart with what is stored: the same fold.
        """
        ...

    def post_trade_update(self, trade: ClosedTrade) -> None:
        """Learn from a closed trade."""
        ...


class Gate(Protocol):
    """May veto or shrink a decision; scored against its absence."""

    def judge(self, decision: Decision, state: MarketState, portfolio: Portfolio) -> GateVerdict:
        """Return a verdict."""
        ...

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        """Fold ledger rows (sequence number, record) in order, as :meth:`Strategy.observe`."""
        ...


class Broker(Protocol):
    """Carries orders out. Every method is idempotent on the order id."""

    def submit(self, order: Order) -> Refusal | None:
        """Accept an order, or say why not. It fills later, never at the price it was decided on.

        Raises
        ------
        AmbiguousOutcome : if nobody can say whether it was accepted.
        """
        ...

    def status(self, order_id: str) -> OrderStatus:
        """Return what became of an order; ``UNKNOWN`` only if it was certainly never accepted.

        Raises
        ------
        ServiceUnreachable : if that cannot be found out now.
        """
        ...

    def holdings(self) -> Holdings:
        """Return what the account holds, to be compared with the ledger."""
        ...

    def cancel(self, order_id: str) -> None:
        """Cancel a working order; unknown ids are ignored."""
        ...

    def funding(self, bar: Bar) -> list[Posting]:
        """Book the funding stamps up to the bar's open, before anything fills in it."""
        ...

    def on_bar(self, bar: Bar) -> list[Fill | Refusal]:
        """Let the market move by one bar; return what was filled, and refused, in order."""
        ...

    def open_orders(self) -> list[Order]:
        """Return the working orders, oldest first."""
        ...

    def tend(self) -> None:
        """Look after what is not certain yet, between two bars; the next one tells of it."""
        ...

    def restore(self, records: Iterable[Any]) -> list[Refusal]:
        """Fold stored rows, in the ledger's order, into a fresh broker; may come in pieces.

        Returns
        -------
        What it refused of the orders among them: a crash may have kept that from the ledger.
        """
        ...


class Ledger(Protocol):
    """INSERT-only, hash-chained memory. Nothing is ever changed or removed."""

    def append(self, records: Sequence[Any]) -> list[int]:
        """Store records of domain types in one transaction and return their sequence numbers.

        A record whose key is stored with equal content is skipped (its old number is returned);
        with other content :class:`~domain.errors.DuplicateRecord` is raised and nothing is stored.
        """
        ...

    def records(self, kind: type[R], after: int = 0, **where: Any) -> Iterator[tuple[int, R]]:
        """Iterate over (sequence number, record) of one type in order, ``seq > after``."""
        ...

    def head(self) -> tuple[int, str]:
        """Return the newest sequence number and the chain's hash; (0, 64 zeros) when empty."""
        ...


class Aside(Protocol):
    """Keeps what the ledger cannot take at a moment that does not wait, until the next start."""

    def put(self, records: Sequence[Any]) -> None:
        """Add records; they are safe when this returns."""
        ...

    def settle(self, ledger: Ledger) -> None:
        """Append to the ledger what was put aside, then forget it."""
        ...


class SnapshotStore(Protocol):
    """Saved folds, so that a restart takes seconds. Always recomputable from the ledger."""

    def save(self, kind: str, key: str, seq: int, body: Mapping[str, Any]) -> bool:
        """Keep a state that includes all rows up to ``seq``; False if the ledger ends before."""
        ...

    def latest(self, kind: str, key: str) -> tuple[int, dict[str, Any]] | None:
        """Return the newest (seq, body), or None."""
        ...


class Outbox(Protocol):
    """Events for people, kept until they are delivered."""

    def put(self, event: Event, key: str) -> None:
        """Queue once per key."""
        ...


class Notifier(Protocol):
    """Delivers one event; failing is logged, never fatal."""

    def notify(self, event: Event) -> None:
        """Deliver."""
        ...


class MarketSource(Protocol):
    """A feed of closed bars, in order per symbol."""

    @property
    def label(self) -> str:
        """``binance``, ``replay`` or ``demo``: shown on every surface."""
        ...

    def stream(self, after_ms: Mapping[str, int]) -> Iterator[Bar]:
        """Iterate over closed bars; ``after_ms`` maps symbols to the last open already known."""
        ...


@runtime_checkable
class LiveSource(Protocol):
    """An exchange that is watched as it trades."""

    @property
    def label(self) -> str:
        """``binance`` or ``demo``: shown on every surface."""
        ...

    @property
    def begins_ms(self) -> int:
        """Open of the first bar that a desk without a past learns from, UTC ms."""
        ...

    async def closed_since(self, symbol: str, first_ms: int) -> BarFrame:
        """Return the closed bars that open from ``first_ms`` on, as far as there are now.

        Raises
        ------
        ServiceUnreachable : if the exchange does not answer.
        """
        ...

    def instants(self, after_ms: Mapping[str, int]) -> AsyncGenerator[Instant]:
        """Iterate over closes for ever, by time; none is left out.

        Parameters
        ----------
        after_ms : symbol → open of the last bar known, for every forecast symbol; for execution
            symbols where it is another's.
        """
        ...

    def after_close(self, symbol: str, close_ms: int) -> list[SeenBook]:
        """Return the books of an execution symbol in the moments after a close."""
        ...

    def figures(self) -> Mapping[str, int]:
        """Return what went wrong since it began, counted, by name."""
        ...

    def published(self, symbol: str, stamp: int) -> float | None:
        """Return what a perpetual's funding stamp (ms) pays, None where the venue has not said."""
        ...


class BookSource(Protocol):
    """Somebody who watches order books, or remembers what was seen in them."""

    def look(self, symbol: str, as_of: int) -> BookView:
        """Return what was to be seen at ``as_of`` (ms), nothing later; empty where nobody watched.

        Asked again, it says the same: a restart decides as if nothing had happened.
        """
        ...


class ModelStore(Protocol):
    """Versioned artifacts."""

    def current(self, agent: str) -> str | None:
        """Return the promoted version's folder, or None."""
        ...
