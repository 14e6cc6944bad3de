"""When a position closes, and what a new decision means for it.

A position closes at the first of stop, target, opposite decision, horizon, risk and kill. Horizon
and opposite decision are exits of choice: they may wait some bars for a better book, the others
never do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from domain.decision import ExitReason, Reason
from domain.market import Market
from domain.trading import Position, Refusal

_OF_CHOICE = (ExitReason.HORIZON.value, ExitReason.OPPOSITE.value)
_BAD_BOOK = (Reason.WIDE_SPREAD.value, Reason.THIN_BOOK.value)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An exit of choice that waits for a better book.

    Attributes
    ----------
    since, last : ms, when it was first and last put off.
    """

    reason: ExitReason
    since: int
    last: int


def put_off(refusal: Refusal, known: Waiting | None) -> Waiting | None:
    """Return the exit that a refusal puts off, None for any other refusal.

    Parameters
    ----------
    known : the symbol's exit that waits already: patience is counted from its start.
    """
    if refusal.intent not in _OF_CHOICE or refusal.code not in _BAD_BOOK:
        return None
    since = refusal.at if known is None else known.since
    return Waiting(ExitReason(refusal.intent), since, refusal.at)


class Meaning(StrEnum):
    """What a side means for a symbol as it stands."""

    NOTHING = "nothing"
    ENTER = "enter"
    HOLD = "hold"  # same side: the horizon exit moves, nothing is added
    REVERSE = "reverse"  # close, and open the other side at the same fill
    CLOSE = "close"  # spot: SHORT closes a LONG
    IMPOSSIBLE = "impossible"  # spot: SHORT without a LONG


def meaning(side: int, position: Position | None, market: Market) -> Meaning:
    """Return what a decision for ``side`` (+1, −1 or 0) does to ``position``."""
    if side == 0:
        return Meaning.NOTHING
    short_of_spot = market == "spot" and side < 0
    if position is None:
        return Meaning.IMPOSSIBLE if short_of_spot else Meaning.ENTER
    if position.qty * side > 0:
        return Meaning.HOLD
    return Meaning.CLOSE if short_of_spot else Meaning.REVERSE


def horizon_over(position: Position | None, at: int) -> bool:
    """Return whether the position has been held for its horizon at ``at`` (ms)."""
    return position is not None and 0 < position.horizon_due <= at
