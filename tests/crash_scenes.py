"""A loop whose every step boundary can be its last: around each append and broker call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np

from domain.canonical import short_hash
from domain.market import Bar, BarFrame, Instrument
from domain.ports import Broker, Ledger
from domain.trading import Holdings, Order, OrderStatus, Portfolio, Posting, Refusal
from execution.funding import INTERVAL_MS
from execution.limits import EXERCISE
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.paper import PaperBroker
from execution.rows import in_order
from execution.strategies import EmaCross
from storage.kinds import kind_of
from tests.execution_scenes import FIXED, PERP, STEP, states_of, walk

STAMP = 14  # the bar that opens with a funding settlement
KILL_AT, ARM_AT = 22, 27  # bars before which somebody kills and arms


class Gone(BaseException):
    """The process is no more: nothing may catch it."""


@dataclass
class Boundaries:
    """Names every boundary that is reached, and lets ``at`` decide what happens there."""

    at: Callable[[str], None] = lambda _: None
    seen: list[str] = field(default_factory=list)

    def reach(self, name: str) -> None:
        self.seen.append(name)
        self.at(name)


class WatchedLedger:
    """A ledger with a boundary before and after every append, named by what is appended."""

    def __init__(self, ledger: Any, boundaries: Boundaries) -> None:
        self._ledger, self._boundaries = ledger, boundaries

    def append(self, records: Sequence[Any]) -> list[int]:
        keys = [(type(r).__name__, kind_of(type(r)).key(r)) for r in records]
        name = f"append {short_hash(keys)} {'+'.join(sorted({key[0] for key in keys}))}"
        self._boundaries.reach(f"before {name}")
        numbers: list[int] = self._ledger.append(records)
        self._boundaries.reach(f"after {name}")
        return numbers

    def records(self, kind: Any, after: int = 0, **where: Any) -> Iterator[tuple[int, Any]]:
        return iter(self._ledger.records(kind, after, **where))

    def records_since(self, after: int = 0) -> Iterator[tuple[int, Any]]:
        return iter(self._ledger.records_since(after))

    def head(self) -> tuple[int, str]:
        head: tuple[int, str] = self._ledger.head()
        return head


class WatchedBroker:
    """A broker with a boundary before and after every call that changes it."""

    def __init__(self, broker: Broker, boundaries: Boundaries) -> None:
        self._broker, self._boundaries = broker, boundaries

    def _watched(self, name: str, call: Callable[[], Any]) -> Any:
        self._boundaries.reach(f"before {name}")
        answer = call()
        self._boundaries.reach(f"after {name}")
        return answer

    def submit(self, order: Order) -> Any:
        name = f"submit {order.id} {order.intent}"
        return self._watched(name, lambda: self._broker.submit(order))

    def cancel(self, order_id: str) -> None:
        self._watched(f"cancel {order_id}", lambda: self._broker.cancel(order_id))

    def on_bar(self, bar: Bar) -> Any:
        name = f"on_bar {bar.symbol} {bar.open_ms}"
        return self._watched(name, lambda: self._broker.on_bar(bar))

    def funding(self, bar: Bar) -> list[Posting]:
        name = f"funding {bar.symbol} {bar.open_ms}"
        lines: list[Posting] = self._watched(name, lambda: self._broker.funding(bar))
        return lines

    def open_orders(self) -> list[Order]:
        return self._broker.open_orders()

    def tend(self) -> None:
        self._broker.tend()

    def status(self, order_id: str) -> OrderStatus:
        return self._broker.status(order_id)

    def holdings(self) -> Holdings:
        return self._broker.holdings()

    def restore(self, records: Iterable[Any]) -> list[Refusal]:
        return self._broker.restore(records)


def exercised_bars(n: int) -> list[Bar]:
    """A walk with a funding stamp and, now and then, too little volume to fill an order whole."""
    frame = walk(n, sigma=0.004)
    shift = INTERVAL_MS - STAMP * STEP
    volume = np.where(np.arange(n) % 7 < 3, 0.05, 1.0)
    moved = BarFrame(
        frame.symbol, frame.timeframe, frame.ts + shift, frame.open, frame.high, frame.low,
        frame.close, volume,
    )  # fmt: skip
    return list(moved.bars())


@dataclass(frozen=True)
class Scene:
    """A session: bars, a rule, a venue that may be pickier than the desk knows, kill and arm."""

    bars: list[Bar]
    venue: Instrument = PERP

    def loop(self, ledger: Any, boundaries: Boundaries) -> TradingLoop:
        broker = PaperBroker({PERP.symbol: self.venue})
        return TradingLoop(
            EmaCross(3, 6), WatchedBroker(broker, boundaries), WatchedLedger(ledger, boundaries),
            {PERP.symbol: PERP}, LoopSettings({PERP.symbol: PERP.symbol}),
            limits=EXERCISE, sizing=FIXED,
        )  # fmt: skip

    def go_on(self, loop: TradingLoop) -> None:
        """Carry a loop from wherever it is to the end, as the desk does."""
        states = states_of(self.bars)
        for i, (bar, state) in enumerate(zip(self.bars, states, strict=True)):
            if loop.decided_up_to(PERP.symbol) >= bar.close_ms:
                continue
            if loop.absorbed_up_to(PERP.symbol) < bar.close_ms:
                if i == KILL_AT:
                    loop.kill("me", "drill", bar.open_ms)
                if i == ARM_AT:
                    loop.arm("me", "drill over", bar.open_ms)
                loop.absorb(bar)
            loop.decide(state, [], {}, state.as_of)

    def end(self, loop: TradingLoop, ledger: Ledger) -> tuple[list[Any], Portfolio, list[Order]]:
        """What must not depend on any crash."""
        at = self.bars[-1].close_ms
        return list(in_order(ledger)), loop.portfolio(at), loop.open_orders()


PICKY = replace(PERP, min_qty=Decimal("0.010"))  # refuses what costs 500 USDT above 50 000
