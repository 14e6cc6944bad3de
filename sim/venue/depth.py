"""Where a symbol's books come from."""

from __future__ import annotations

from typing import Protocol

from sim.venue.books import LEVELS, Levels, Shape, changes, side
from sim.venue.tape import STEP_MS, Tape


class Depth(Protocol):
    """The books of one symbol, at instants at which the venue tells of them."""

    def update(self, at_ms: int) -> int:
        """Return the number of the newest change by an instant; none is left out."""
        ...

    def book(self, at_ms: int, n: int) -> tuple[Levels, Levels]:
        """Return bids and asks of an instant, best first, at most n levels a side."""
        ...

    def changes(self, before_ms: int, at_ms: int, n: int) -> tuple[Levels, Levels]:
        """Return what turns :meth:`book` of one instant into another's; quantity 0 = gone."""
        ...


class MadeDepth:
    """Books that are invented around the last price."""

    def __init__(self, shape: Shape, tape: Tape) -> None:
        self._shape, self._tape = shape, tape

    def update(self, at_ms: int) -> int:
        """Return the number of the newest change by an instant: one comes with every print."""
        return at_ms // STEP_MS

    def book(self, at_ms: int, n: int) -> tuple[Levels, Levels]:
        """Return bids and asks of an instant."""
        price, update = self._moment(at_ms)
        n = min(n, LEVELS)
        return side(self._shape, price, update, n, -1), side(self._shape, price, update, n, 1)

    def changes(self, before_ms: int, at_ms: int, n: int) -> tuple[Levels, Levels]:
        """Return what turns one book into another."""
        was, now, n = self._moment(before_ms), self._moment(at_ms), min(n, LEVELS)
        return changes(self._shape, was, now, n, -1), changes(self._shape, was, now, n, 1)

    def _moment(self, at_ms: int) -> tuple[float, int]:
        at, price = self._tape.last(at_ms)
        return price, at // STEP_MS
