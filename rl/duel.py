"""Gate against no gate, bar by bar: what applies a gate, and what switches it off again.

Two books per symbol hold what would be held with and without the gate: one position, in parts of
the usual size, entered at the next open, moved, turned and closed by the loop's own rules (a side
enters, keeps or turns; nothing else closes at the horizon). A bar earns the log return of what is
held from its open, less half a round trip for every part entered or left. Refusals by risk,
stops and how deep a bar fills touch both and are left out.

The difference of the two books in a bar, in units of 2 % and within ±1, is bet on by one e-process
(:mod:`consensus.evidence`). The gate is applied while the lower 95 % bound of its mean lies above
0, and at least 200 decisions were judged otherwise than "allow"; else it is a shadow: it judges,
and nothing follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from consensus.evidence import Evidence
from domain.decision import Decision
from domain.market import Bar

LEAST = 200  # decisions judged otherwise than "allow"
UNIT = 0.02  # log return of a bar's difference that counts as 1
_US = "gate"


@dataclass(slots=True)
class Book:
    """What is held on one symbol: ``part`` of the usual size, signed.

    Attributes
    ----------
    due : horizon exit, ms. ``entry`` : open at which it was entered, quote units; NaN until then.
    next_part : what is to be held from the next open on.
    """

    part: float = 0.0
    due: int = 0
    entry: float = math.nan
    next_part: float = 0.0

    def decide(self, side: float, at: int, horizon_ms: int, *, spot: bool = False) -> None:
        """Take in a side (signed part of the usual size, 0 for none) at the close ``at``.

        Parameters
        ----------
        spot : whether a short side only closes a long one.
        """
        held = self.next_part
        if spot and side < 0.0:
            self.next_part = 0.0
            return
        if side == 0.0:
            if held and self.due <= at:
                self.next_part = 0.0
            return
        self.due = at + horizon_ms
        if held * side <= 0.0:
            self.next_part = side

    def pass_bar(self, opened: float, before: float, close: float, half: float) -> float:
        """Return what a bar earns, log return of the usual size.

        Parameters
        ----------
        before : the close before it. ``half`` : of a round trip's cost, fraction.
        """
        earned = self.part * math.log(opened / before)
        moved = self.next_part - self.part
        if moved:
            earned -= half * abs(moved)
            self.part, self.entry = self.next_part, opened
        return earned + self.part * math.log(close / opened)


@dataclass(slots=True)
class Pair:
    """Both books of a symbol, and its last close."""

    gate: Book = field(default_factory=Book)
    none: Book = field(default_factory=Book)
    close: float = math.nan


class Duel:
    """The fold of decisions and bars; the same rows, the same state.

    Parameters
    ----------
    horizon_ms : until a position that is not renewed is closed.
    cost : of a round trip, fraction.
    version : of the policy whose verdicts count; those of others are taken for "allow".
    spot : whether a short side only closes a long one.
    """

    def __init__(
        self, horizon_ms: int, cost: float, version: str = "", *, spot: bool = False
    ) -> None:
        self._horizon_ms, self._half = horizon_ms, 0.5 * cost
        self._version, self._spot = version, spot
        self._pairs: dict[str, Pair] = {}
        self._evidence = Evidence(1)
        self.judged = self.differed = self.bars = 0
        self.gained = self.would_have = 0.0  # log return of the usual size, with and without
        self.applied = False

    def book(self, symbol: str) -> Book:
        """Return what the gate would hold on a symbol."""
        return self._pair(symbol).gate

    def succeeded(self, version: str) -> Duel:
        """Return the duel of a policy that was heard of only now, as if it had folded all rows.

        To be called on a duel that knows no policy: what others said counts as "allow" for it too.
        """
        duel = Duel(self._horizon_ms, 2.0 * self._half, version, spot=self._spot)
        duel._pairs = deepcopy(self._pairs)
        duel.gained, duel.would_have = self.gained, self.would_have
        return duel

    def decided(self, decision: Decision) -> None:
        """Fold a decision made at the close of a bar."""
        if decision.origin != "bar":
            return
        pair, at = self._pair(decision.symbol), decision.as_of
        side, verdict = float(decision.intent.sign), decision.gate
        pair.none.decide(side, at, self._horizon_ms, spot=self._spot)
        if side and verdict.would is not None and verdict.version == self._version:
            self.judged += 1
            self.differed += verdict.would != "allow"
            side *= {"allow": 1.0, "shrink": verdict.size_factor, "veto": 0.0}.get(
                verdict.would, -verdict.size_factor
            )
        pair.gate.decide(side, at, self._horizon_ms, spot=self._spot)

    def closed(self, bar: Bar) -> None:
        """Fold a bar."""
        pair = self._pair(bar.symbol)
        before, pair.close = pair.close, bar.close
        if math.isnan(before):
            return
        mine, other = (
            book.pass_bar(bar.open, before, bar.close, self._half)
            for book in (pair.gate, pair.none)
        )
        self.gained += mine
        self.would_have += other
        if mine == other:
            return
        self.bars += 1
        self._evidence.add(0, [_US], [min(max((mine - other) / UNIT, -1.0), 1.0)])
        self.applied = self.differed >= LEAST and bool(self._evidence.claims([_US])[0, 0])

    def as_dict(self) -> Mapping[str, Any]:
        """Return what is known, for people."""
        low, high = self._evidence.bounds(_US)
        return {
            "judged": self.judged, "differed": self.differed,
            "needed": LEAST, "bars": self.bars,
            "gate_log_return": self.gained, "no_gate_log_return": self.would_have,
            "mean_difference_bps": 1e4 * (self.gained - self.would_have) / max(self.bars, 1),
            "lower_bps": None if low is None else 1e4 * UNIT * low,
            "upper_bps": None if high is None else 1e4 * UNIT * high,
        }  # fmt: skip

    def _pair(self, symbol: str) -> Pair:
        return self._pairs.setdefault(symbol, Pair())
