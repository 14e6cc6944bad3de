"""A stored session once more, through the loop and the broker of a backtest.

Bars come from the ledger (or a file), opinions from the ledger, and so does what people did: kills,
arming, positions closed by hand, questions on demand. Everything else is worked out anew, from the
first row or from a later one; the loop then begins as after a restart there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import Any, TypeVar

import numpy as np

from data.memory import MarketMemory
from domain.decision import Decision, ExitReason
from domain.errors import UsageError
from domain.market import Bar, BarFrame
from domain.operations import OperatorReport, Reflection, RiskEvent
from domain.opinion import Opinion
from domain.ports import BookSource, Ledger, Needs
from domain.trading import ModeChange, Order, Refusal, RiskMode
from execution.control import FEED
from execution.dispatch import RECONCILIATION
from execution.loop import TradingLoop
from execution.risk import RISK
from execution.rows import in_order
from sim.progress import Progress
from storage.memory import MemoryLedger

OWN = (RISK, RECONCILIATION, "loop")  # who changes the mode, or notes an event, by itself
_BY_HAND = (ExitReason.MANUAL, ExitReason.SHUTDOWN, ExitReason.KILL)
_CLOSING = (ExitReason.KILL, ExitReason.RISK)
_TICK = 2_000  # rows
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of a session under the same terms.

    Attributes
    ----------
    after : the last row before it.
    loop : makes the loop over a ledger, with a fresh strategy and a fresh broker.
    routes : forecast symbol → execution symbol.
    needs : how much of a state the strategy was shown.
    books : who remembers the order books that it was shown.
    """

    after: int
    loop: Callable[[Ledger], TradingLoop]
    routes: Mapping[str, str]
    timeframe: str
    needs: Needs
    books: BookSource | None = None


class Continued:
    """A ledger that goes on in memory behind the first rows of another one.

    Parameters
    ----------
    past : is only read. ``head`` : number of the last row of it that is seen.
    """

    def __init__(self, past: Ledger, head: int) -> None:
        self._past, self._head, self._own = past, head, MemoryLedger()

    def append(self, records: Sequence[Any]) -> list[int]:
        """Store records behind the past; see :meth:`domain.ports.Ledger.append`."""
        return [self._head + seq for seq in self._own.append(records)]

    def records(self, kind: type[R], after: int = 0, **where: Any) -> Iterator[tuple[int, R]]:
        """Iterate over (number, record) of one type in order."""
        own = self._own.records(kind, max(0, after - self._head), **where)
        return self._joined(self._past.records(kind, after, **where), own)

    def records_since(self, after: int = 0) -> Iterator[tuple[int, Any]]:
        """Iterate over (number, record) of all types in order, ``seq > after``."""
        own = self._own.records_since(max(0, after - self._head))
        return self._joined(in_order(self._past, after), own)

    def head(self) -> tuple[int, str]:
        """Return the newest number, and a hash of what was appended here."""
        count, digest = self._own.head()
        return self._head + count, digest

    def _joined(
        self, past: Iterator[tuple[int, R]], own: Iterator[tuple[int, R]]
    ) -> Iterator[tuple[int, R]]:
        known = takewhile(lambda row: row[0] <= self._head, past) if self._head else iter(())
        return chain(known, ((self._head + seq, record) for seq, record in own))


class Rerun:
    """Runs a session again; what comes of it is in ``ledger``.

    Parameters
    ----------
    session : the ledger to run again; it is only read.
    stages : at least one, in order.
    given : bars to take instead of the session's, by symbol. What they have and the session lacks
        is traded without opinions; what they lack is left out.
    after : number of the last row that is taken as it stands; nothing was half done there
        (:func:`last_before`).

    Raises
    ------
    UsageError : without a stage.
    """

    def __init__(
        self,
        session: Ledger,
        stages: Sequence[Stage],
        given: Mapping[str, BarFrame] | None = None,
        *,
        after: int = 0,
    ) -> None:
        if not stages:
            raise UsageError("rerun", "needs the terms of a session")
        begun = sum(stage.after <= after for stage in stages[1:])
        self.ledger = Continued(session, after)
        self.inputs: Counter[str] = Counter()
        self._session, self._after = session, after
        self._stages = list(stages[begun:])
        self._given = dict(given or {})
        self._memories: dict[str, MarketMemory] = {}
        self._said: dict[tuple[str, int], list[Opinion]] = {}
        self._last: dict[str, int] = {}  # open of the session's last bar, by forecast symbol
        self._executed: Bar | None = None
        self._held: ModeChange | Reflection | None = None  # what the next row says more of
        self._closed: tuple[str, int] | None = None  # last closed by hand: why, when
        self._enter(self._stages.pop(0))

    def run(self, progress: Progress | None = None) -> Ledger:
        """Take all rows that are left, in order; ``progress`` gets rows done and rows in all."""
        total = self._session.head()[0]
        for done, (seq, row) in enumerate(in_order(self._session, self._after)):
            self._settle(row)
            self._come_late(row)
            while self._stages and seq > self._stages[0].after:
                self._enter(self._stages.pop(0))
            self._take(row)
            if progress is not None and not done % _TICK:
                progress(seq, total)
        self._settle(None)
        self._come_late(None)
        return self.ledger

    def _enter(self, stage: Stage) -> None:
        self._stage = stage
        self._loop = stage.loop(self.ledger)
        self._loop.resume()
        for symbol in stage.routes:
            if symbol not in self._memories:
                self._memories[symbol] = self._remembered(symbol, stage)

    def _remembered(self, symbol: str, stage: Stage) -> MarketMemory:
        # All at once costs a fraction of bar by bar; what is asked for says as of when.
        memory = MarketMemory(symbol, stage.timeframe, keep=None, books=stage.books)
        known = list(self._session.records(Bar, symbol=symbol, timeframe=stage.timeframe))
        if known:
            frame = BarFrame.of([bar for _, bar in known])
            given = self._given.get(symbol, frame)
            memory.append(given.between(int(frame.ts[0]), int(frame.ts[-1]) + 1))
        for seq, bar in known:
            if seq <= self._after:
                self._last[symbol] = bar.open_ms
        return memory

    def _take(self, row: Any) -> None:
        if isinstance(row, Bar):
            self._bar(row)
        elif isinstance(row, Opinion):
            self.inputs["opinions"] += 1
            self._said.setdefault((row.symbol, row.as_of), []).append(row)
        elif isinstance(row, Decision):
            self._decide(row)
        elif isinstance(row, ModeChange):
            if row.by not in OWN or self._handed_back(row):
                self._held = row
        elif isinstance(row, Order):
            self._close_by_hand(row)
        elif isinstance(row, Reflection):
            if not row.draft:
                self._held = row
        elif isinstance(row, OperatorReport | RiskEvent):
            self._note(row)

    # Bars

    def _bar(self, bar: Bar) -> None:
        if bar.symbol not in self._stage.routes:
            self._executed = self._given_bar(bar.symbol, bar.open_ms, bar)
            return
        for missing in self._passed_over(bar):
            self._absorb(missing, self._given_bar(self._stage.routes[bar.symbol], missing.open_ms))
            state = self._memories[bar.symbol].state(
                missing.close_ms, self._stage.needs.bars, self._stage.needs.feature_rows
            )
            if state is not None:
                self._loop.decide(state, [], {}, state.as_of)
        self._last[bar.symbol] = bar.open_ms
        executed, self._executed = self._executed, None
        own = self._given_bar(bar.symbol, bar.open_ms, bar)
        if own is not None:
            self._absorb(own, executed)
            self.inputs["bars"] += 1

    def _come_late(self, row: Any) -> None:
        """Take in a bar of an execution market that no bar of its forecast symbol follows."""
        executed = self._executed
        if executed is None or (
            isinstance(row, Bar) and row.open_ms == executed.open_ms
            and self._stage.routes.get(row.symbol) == executed.symbol
        ):  # fmt: skip
            return
        self._executed = None
        self._loop.absorb_execution(executed)

    def _absorb(self, bar: Bar, executed: Bar | None) -> None:
        goes_elsewhere = self._stage.routes[bar.symbol] != bar.symbol
        self._loop.absorb(bar, executed if goes_elsewhere else None)

    def _given_bar(self, symbol: str, open_ms: int, stored: Bar | None = None) -> Bar | None:
        frame = self._given.get(symbol)
        if frame is None:
            return stored
        row = int(np.searchsorted(frame.ts, open_ms))
        return frame.bar(row) if row < len(frame) and frame.ts[row] == open_ms else None

    def _passed_over(self, bar: Bar) -> Iterable[Bar]:
        frame, last = self._given.get(bar.symbol), self._last.get(bar.symbol)
        if frame is None or last is None:
            return ()
        return frame.between(last + 1, bar.open_ms).bars()

    # Decisions

    def _decide(self, stored: Decision) -> None:
        symbol, as_of = stored.symbol, stored.as_of
        memory, known = self._memories.get(symbol), self._loop.absorbed_up_to(symbol)
        if memory is None or known < as_of or (stored.origin != "on_demand" and known != as_of):
            return  # its bar is missing, and that is told
        state = memory.state(as_of, self._stage.needs.bars, self._stage.needs.feature_rows)
        if state is None or state.as_of != as_of:
            return
        if stored.origin == "on_demand":
            self.inputs["on_demand"] += 1
        heard = stored.model_versions
        said = [o for o in self._said.get((symbol, as_of), ()) if not heard or o.agent in heard]
        self._loop.decide(state, said, stored.absent, stored.ts, origin=stored.origin)

    # What people did

    def _settle(self, row: Any) -> None:
        """Carry out what was ordered, once the row after it tells what it came with."""
        if isinstance(self._held, ModeChange):
            self._change_mode(self._held, row)
        elif self._held is not None:
            self._reflect(self._held, row)

    def _change_mode(self, change: ModeChange, row: Any) -> None:
        if isinstance(row, Refusal) and row.at == change.at:
            return  # an entry that was withdrawn; whether positions were closed comes after it
        flatten = isinstance(row, Order) and row.created_at == change.at and row.intent in _CLOSING
        if flatten:
            self._closed = (row.intent, row.created_at)
        by, why, at = change.by, change.why, change.at
        if by == RISK or (by == FEED and change.mode is RiskMode.ACTIVE):
            self._loop.release_entries(why, at)
        elif change.mode is RiskMode.REDUCING:  # also what a limit has reduced becomes theirs
            if by == FEED:
                self._loop.hold_entries(why, at)
            else:
                self._loop.pause(by, why, at)
        else:
            self._loop.change_mode(change.mode, by, why, at, flatten=flatten)
        self.inputs["mode_changes"] += 1
        self._held = None

    def _handed_back(self, change: ModeChange) -> bool:
        """Return whether a limit's reduction came of a feed that let go."""
        last = self._loop.risk.change
        held = last is not None and (last.mode, last.by) == (RiskMode.REDUCING, FEED)
        return held and (change.mode, change.by) == (RiskMode.REDUCING, RISK)

    def _reflect(self, words: Reflection, row: Any) -> None:
        mine = isinstance(row, Order) and (row.intent, row.symbol, row.decision_id) == (
            ExitReason.MANUAL, words.symbol, words.decision_id,
        )  # fmt: skip
        if mine:
            self._closed = (row.intent, row.created_at)
            self._loop.close(words, row.created_at)
            self.inputs["closed_by_hand"] += 1
        else:
            self._loop.note(words)
        self.inputs["notes"] += 1
        self._held = None

    def _close_by_hand(self, order: Order) -> None:
        if order.intent not in _BY_HAND or (order.intent, order.created_at) == self._closed:
            return
        self._closed = (order.intent, order.created_at)
        self._loop.flatten(order.created_at, ExitReason(order.intent))
        self.inputs["closed_by_hand"] += 1

    def _note(self, row: OperatorReport | RiskEvent) -> None:
        if isinstance(row, OperatorReport) or row.by not in OWN:
            self._loop.note(row)
            self.inputs["notes"] += 1


def last_before(ledger: Ledger, start: int) -> int:
    """Return the number of the last row before the first bar that opens from ``start`` (ms) on."""
    first = next((seq for seq, bar in ledger.records(Bar) if bar.open_ms >= start), None)
    return ledger.head()[0] if first is None else first - 1
