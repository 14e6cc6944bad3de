"""Paper against backtest: two ledgers of the same market, compared record by record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from operator import attrgetter
from typing import Any, Protocol, TypeVar

from consensus.replay import differing
from domain.canonical import plain
from domain.decision import Decision
from domain.market import Bar
from domain.operations import Reflection, RiskEvent
from domain.opinion import Outcome
from domain.times import iso
from domain.trading import (
    ZERO,
    ClosedTrade,
    EquityMark,
    Fill,
    ModeChange,
    Order,
    Posting,
    Refusal,
)
from sim.backtest import trades_sha256
from sim.rerun import OWN
from storage import kinds

R = TypeVar("R")
SATOSHI = Decimal("0.00000001")
_NOT_COMPARED = {Decision: ("git_commit", "state_seq")}  # who worked it out, and row numbers


class Rows(Protocol):
    """A ledger to be read."""

    def records(self, kind: type[R]) -> Iterator[tuple[int, R]]:
        """Iterate over (number, record) of one type in order."""
        ...


@dataclass(frozen=True, slots=True)
class _Compare:
    name: str
    type: type
    at: Callable[[Any], int]  # ms: when it became known
    wanted: Callable[[Any], bool] = lambda _: True


_COMPARED = (
    _Compare("bars", Bar, attrgetter("close_ms")),
    _Compare("funding", Posting, attrgetter("at"), lambda line: line.book == "funding"),
    _Compare("fills", Fill, attrgetter("at")),
    _Compare("trades", ClosedTrade, attrgetter("closed_at")),
    _Compare("postings", Posting, attrgetter("at"), lambda line: line.book != "funding"),
    _Compare("drafts", Reflection, attrgetter("at"), lambda words: words.draft),
    _Compare("outcomes", Outcome, attrgetter("due")),
    _Compare("mode_changes", ModeChange, attrgetter("at")),
    _Compare("risk_events", RiskEvent, attrgetter("at"), lambda event: event.by in OWN),
    _Compare("equity", EquityMark, attrgetter("at")),
    _Compare("decisions", Decision, attrgetter("as_of")),
    _Compare("refusals", Refusal, attrgetter("at")),
    _Compare("orders", Order, attrgetter("created_at")),
)
KINDS = tuple(each.name for each in _COMPARED)
"""What is compared, in the order in which a step makes it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that both sides do not tell alike.

    Attributes
    ----------
    at : when it became known, UTC ms.
    session, replayed : JSON's types; None where that side has no such record.
    fields : those that differ, if both have it.
    """

    kind: str
    at: int
    session: Mapping[str, Any] | None
    replayed: Mapping[str, Any] | None
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"{self.kind} at {iso(self.at)}"
        if self.session is None or self.replayed is None:
            side = "the backtest" if self.session is None else "the session"
            return f"{where}: only {side} has it"
        name = self.fields[0]
        return f"{where}: {name} {self.session[name]} ≠ {self.replayed[name]}"


@dataclass(frozen=True, slots=True)
class Compared:
    """One kind of record on both sides: how many, how many differ, and the first that does."""

    kind: str
    session: int
    replayed: int
    different: int
    first: Difference | None


@dataclass(frozen=True, slots=True)
class Money:
    """What a side ends with.

    Attributes
    ----------
    equity : of the last mark, quote units; None before the first.
    friction : spread and slippage paid, quote units; ``notional`` : traded for it.
    trades_sha256 : of the closed trades, as ``backtest`` prints it.
    """

    equity: Decimal | None
    friction: Decimal
    notional: Decimal
    trades: int
    trades_sha256: str

    @property
    def friction_bps(self) -> float | None:
        """Spread and slippage in basis points of what was traded; None without a fill."""
        return float(self.friction / self.notional * 10_000) if self.notional else None


@dataclass(frozen=True, slots=True)
class Parity:
    """A session against its backtest.

    Attributes
    ----------
    apart, largest_apart : |Δ| of equity at the last mark and at the worst, in satoshi (1e-8 quote
        units), rounded up.
    """

    compared: tuple[Compared, ...]
    session: Money
    replayed: Money
    apart: int
    largest_apart: int
    start: int
    end: int

    @property
    def first(self) -> Difference | None:
        """The earliest difference; within one instant the one that a step makes first."""
        found = [each.first for each in self.compared if each.first is not None]
        return min(found, key=lambda each: (each.at, KINDS.index(each.kind)), default=None)

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return self.first is None

    def as_json(self) -> dict[str, Any]:
        """Return JSON's types only."""
        realised, modelled = self.session.friction_bps, self.replayed.friction_bps
        apart = None if realised is None or modelled is None else realised - modelled
        first = self.first
        body: dict[str, Any] = plain({
            "same": self.same,
            "start": iso(self.start),
            "end": iso(self.end),
            "first": None if first is None else str(first),
            "compared": {
                each.kind: {
                    "session": each.session,
                    "replayed": each.replayed,
                    "different": each.different,
                    "first": each.first,
                }
                for each in self.compared
            },
            "equity": {
                "session": self.session.equity,
                "replayed": self.replayed.equity,
                "apart_satoshi": self.apart,
                "largest_apart_satoshi": self.largest_apart,
            },
            "slippage": {
                "realised": self.session.friction,
                "modelled": self.replayed.friction,
                "realised_bps": realised,
                "modelled_bps": modelled,
                "apart_bps": apart,
            },
            "trades_sha256": {
                "session": self.session.trades_sha256,
                "replayed": self.replayed.trades_sha256,
            },
        })  # fmt: skip
        return body


def compare(session: Rows, replayed: Rows, tolerance: float = 0.0) -> Parity:
    """Compare two ledgers: every record that the loop makes, by its identity, field by field.

    Parameters
    ----------
    tolerance : floats this close are the same, for a session of another machine; money and
        quantities are compared exactly.
    """
    compared = tuple(_compared(each, session, replayed, tolerance) for each in _COMPARED)
    marks = [_marks(side) for side in (session, replayed)]
    instants = sorted(marks[0].keys() | marks[1].keys())
    apart = [_satoshi(*(side.get(at) for side in marks)) for at in instants]
    times = [bar.close_ms for _, bar in session.records(Bar)]
    return Parity(
        compared, _money(session, marks[0]), _money(replayed, marks[1]),
        apart[-1] if apart else 0, max(apart, default=0),
        min(times, default=0), max(times, default=0),
    )  # fmt: skip


def _compared(what: _Compare, session: Rows, replayed: Rows, tolerance: float) -> Compared:
    identity = kinds.kind_of(what.type).identity
    again = {identity(record): record for record in _wanted(what, replayed)}
    counted, total = 0, len(again)
    found: list[Difference] = []
    for record in _wanted(what, session):
        counted += 1
        other = again.pop(identity(record), None)
        if other is None:
            found.append(Difference(what.name, what.at(record), plain(record), None))
        elif names := _fields_apart(record, other, tolerance):
            at = what.at(record)
            found.append(Difference(what.name, at, plain(record), plain(other), names))
    found += [Difference(what.name, what.at(each), None, plain(each)) for each in again.values()]
    first = min(found, key=lambda each: each.at, default=None)
    return Compared(what.name, counted, total, len(found), first)


def _wanted(what: _Compare, side: Rows) -> Iterable[Any]:
    rows: Iterator[tuple[int, Any]] = side.records(what.type)
    return (record for _, record in rows if what.wanted(record))


def _fields_apart(one: Any, other: Any, tolerance: float) -> tuple[str, ...]:
    if one == other:
        return ()
    left_out = _NOT_COMPARED.get(type(one), ())
    names = [f.name for f in fields(one) if f.name not in left_out]
    sides = [{name: getattr(side, name) for name in names} for side in (one, other)]
    unequal = [name for name in names if sides[0][name] != sides[1][name]]
    again = {name: sides[1][name] for name in unequal}
    return tuple(differing(sides[0], again, tolerance))


def _marks(side: Rows) -> dict[int, EquityMark]:
    return {mark.at: mark for _, mark in side.records(EquityMark)}


def _satoshi(one: EquityMark | None, other: EquityMark | None) -> int:
    if one is None or other is None:
        return 0  # told as a record that one side lacks
    return math.ceil(abs(one.equity - other.equity) / SATOSHI)


def _money(side: Rows, marks: Mapping[int, EquityMark]) -> Money:
    fills = [fill for _, fill in side.records(Fill)]
    trades = [trade for _, trade in side.records(ClosedTrade)]
    last = marks[max(marks)] if marks else None
    return Money(
        None if last is None else last.equity,
        sum((fill.spread + fill.slippage for fill in fills), ZERO),
        sum((fill.price * fill.qty for fill in fills), ZERO),
        len(trades),
        trades_sha256(trades),
    )
