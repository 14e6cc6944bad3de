"""What the broker knows of each order that has no end yet, and whose a client id is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from math import inf

from domain.decision import ExitReason
from domain.trading import ZERO, Order

UNWIND = "-x"  # what closes an entry that was withdrawn after it was filled; then -x1, -x2, …
_UNWIND = re.compile(rf"{UNWIND}\d*")
_LONGEST_S, _DOUBLINGS = 60.0, 6  # between two tries of what is refused
_FORCED = ("autoclose-", "adl_autoclose")  # orders that the venue makes itself


class Stage(StrEnum):
    """Where an order is: waiting here to be sent; taken by the venue; nobody can say."""

    HELD = "held"
    TAKEN = "taken"
    DOUBT = "doubt"


@dataclass(slots=True)
class Retry:
    """When something may be tried again: 2, 4, 8 … 60 s after a try in vain.

    Attributes
    ----------
    tries : in vain, in a row. ``not_before`` : monotonic seconds.
    """

    tries: int = 0
    not_before: float = 0.0

    def due(self, now: float) -> bool:
        """Return whether it may be tried, ``now`` in monotonic seconds."""
        return now >= self.not_before

    def put_off(self, now: float) -> None:
        """Take note of a try in vain."""
        self.tries += 1
        self.not_before = now + min(_LONGEST_S, 2.0 ** min(self.tries, _DOUBLINGS))

    def leave(self) -> None:
        """Try no more."""
        self.not_before = inf

    def reset(self) -> None:
        """Take note of a try that was not in vain."""
        self.tries, self.not_before = 0, 0.0


@dataclass(slots=True)
class Tracked:
    """An order and what became of it so far; quantities in base units.

    An exit that the venue ends before it is filled goes on in parts, each with a client id of its
    own: ``ID``, ``ID-1``, ``ID-2``, …

    Attributes
    ----------
    filled : as the venue reports. ``handed`` : in fills that were handed out.
    before : filled by the parts that are over.
    sent_at : monotonic seconds of a request whose fate is not known.
    reference, half_spread : of the book when it was sent, quote units; None = not known.
    withdrawn : by the loop, which must not be left with what it fills.
    conditional : whether the venue keeps its present part as a conditional order.
    sending, asking : when it may be sent again, and asked after or withdrawn again.
    refusals : of the present part in a row, or that it never arrived.
    """

    order: Order
    stage: Stage = Stage.HELD
    part: int = 0
    before: Decimal = ZERO
    filled: Decimal = ZERO
    handed: Decimal = ZERO
    sent_at: float = 0.0
    reference: Decimal | None = None
    half_spread: Decimal | None = None
    withdrawn: bool = False
    conditional: bool = False
    sending: Retry = field(default_factory=Retry)
    asking: Retry = field(default_factory=Retry)
    refusals: int = 0

    @property
    def client_id(self) -> str:
        """Its id at the venue, of the present part."""
        return part_id(self.order.id, self.part)

    @property
    def entry(self) -> bool:
        """Whether it opens a position."""
        return not self.order.reduce_only

    @property
    def may_fill(self) -> bool:
        """Whether it is an entry of which more may still fill."""
        return self.entry and self.filled < self.order.qty

    @property
    def bracket(self) -> bool:
        """Whether it is a stop or a target, which rests until its position closes."""
        return self.order.reduce_only and not self.order.closes

    @property
    def unwinds(self) -> bool:
        """Whether it closes an entry that was withdrawn after it was filled."""
        return unwound(self.order.id) is not None

    @property
    def kept(self) -> bool:
        """Whether it is an exit that is not at the venue, and is to be sent."""
        return self.stage is Stage.HELD and self.order.closes


def unwind_id(order_id: str, n: int) -> str:
    """Return the id of the n-th order, from 0, that closes what an entry filled."""
    return f"{order_id}{UNWIND}{n or ''}"


def unwound(order_id: str) -> str | None:
    """Return the id of the entry that an order closes, None if it is no such order."""
    base, dash, tail = order_id.rpartition("-")
    return base if _UNWIND.fullmatch(dash + tail) else None


def part_id(order_id: str, part: int) -> str:
    """Return the client id of a part of an order."""
    return order_id if part == 0 else f"{order_id}-{part}"


@dataclass(slots=True)
class Tracking:
    """All of them, by id and by the venue's numbers.

    Attributes
    ----------
    live : orders without an end, oldest first.
    mine : every id that was ever ours, with its intent.
    """

    live: dict[str, Tracked] = field(default_factory=dict)
    mine: dict[str, str] = field(default_factory=dict)
    _owner: dict[str, tuple[str, str]] = field(default_factory=dict)  # number → (order id, intent)

    def add(self, order: Order) -> Tracked:
        """Follow an order from now on."""
        self.mine[order.id] = order.intent
        self.live[order.id] = tracked = Tracked(order)
        return tracked

    def drop(self, tracked: Tracked) -> None:
        """Forget an order that is over; its id stays known."""
        self.live.pop(tracked.order.id, None)

    def forget(self, tracked: Tracked) -> None:
        """Take an order for one that never was: its id may be sent."""
        self.drop(tracked)
        self.mine.pop(tracked.order.id, None)

    def of(self, symbol: str) -> list[Tracked]:
        """Return the orders of a symbol without an end, oldest first."""
        return [one for one in self.live.values() if one.order.symbol == symbol]

    def brackets(self, tracked: Tracked) -> list[Tracked]:
        """Return stop and target of an entry."""
        return [
            one for one in self.of(tracked.order.symbol)
            if one.bracket and one.order.decision_id == tracked.order.decision_id
        ]  # fmt: skip

    def owns(self, number: str, order: Order) -> None:
        """Remember under which number the venue keeps an order."""
        self._owner[number] = order.id, order.intent

    def owner(self, number: str) -> tuple[str, str] | None:
        """Return (order id, intent) of the venue's number; None if it is not known."""
        return self._owner.get(number)

    def recognise(self, number: str, client_id: str) -> tuple[str, str] | None:
        """Return the same by a client id, and remember it; None if it is somebody else's."""
        base, _, tail = client_id.rpartition("-")
        if client_id.startswith(_FORCED):
            found: tuple[str, str] | None = client_id, ExitReason.LIQUIDATION.value
        elif unwound(client_id) in self.mine:
            found = client_id, ExitReason.RISK.value
        elif client_id in self.mine:
            found = client_id, self.mine[client_id]
        elif base in self.mine and tail.isdecimal():
            found = base, self.mine[base]
        else:
            found = None
        if found is not None:
            self._owner[number] = found
        return found
