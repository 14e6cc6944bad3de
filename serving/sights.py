"""What a live market shows beside its bars, on its way to the ledger: books, funding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from domain.market import Bar, Instant, SeenBook, SettledFunding, market_of
from domain.ports import LiveSource
from domain.times import iso
from domain.trading import OrderType
from execution.funding import settled
from execution.loop import Seen, TradingLoop
from storage.seen_books import SqlBooks
from storage.settled_funding import SqlFunding

log = structlog.get_logger("desk")


@dataclass(frozen=True, slots=True)
class Sights:
    """Gathers what goes with a bar, and lets agents and fills know of it.

    Attributes
    ----------
    routes : forecast symbol → execution symbol.
    every_ms : between two funding stamps, by execution symbol.
    books, funding : what agents and fills see; funding is None where none is charged.
    """

    loop: TradingLoop
    source: LiveSource
    routes: Mapping[str, str]
    every_ms: Mapping[str, int]
    books: SqlBooks
    funding: SqlFunding | None

    def beside(self, bar: Bar, instant: Instant) -> tuple[Bar | None, list[Seen]]:
        """Return the bar of the same span where a bar is executed elsewhere, and what was seen."""
        executed = instant.executed.get(bar.symbol)
        same = self.routes[bar.symbol] == bar.symbol
        return executed, [*self._settled(bar if same else executed), *self._seen(bar, instant)]

    def late(self, symbol: str, executed: Bar) -> list[Seen]:
        """Return what was seen in an execution bar that comes after its close."""
        return [*self._settled(executed), *self._after_close(symbol, executed.open_ms)]

    def _seen(self, bar: Bar, instant: Instant) -> list[SeenBook]:
        """Return the books that orders fill from in a bar, if there are any, and that at its close.

        A bar that is known already has had its own.
        """
        if bar.close_ms <= self.loop.absorbed_up_to(bar.symbol):
            return []
        seen = [one for one in instant.seen if one.symbol == bar.symbol]
        self.books.remember(seen)
        if bar.symbol not in instant.executed and self.routes[bar.symbol] != bar.symbol:
            return seen  # nothing fills before the bar it is executed in has come
        return [*self._after_close(bar.symbol, bar.open_ms), *seen]

    def _after_close(self, symbol: str, close_ms: int) -> list[SeenBook]:
        """Return the books that market orders fill from after a close; none where none waits."""
        route = self.routes[symbol]
        waiting = any(
            order.symbol == route and order.type is OrderType.MARKET
            for order in self.loop.open_orders()
        )
        if not waiting:
            return []
        seen = self.source.after_close(route, close_ms)
        self.books.remember(seen)
        return seen

    def _settled(self, executed: Bar | None) -> list[SettledFunding]:
        """Return what the funding stamps since the last bar of a perpetual pay."""
        known = 0 if executed is None else self.loop.executed_up_to(executed.symbol)
        if executed is None or self.funding is None or not known:
            return []
        if market_of(executed.symbol) != "perp":
            return []
        last_open = known - (executed.close_ms - executed.open_ms)  # up to here it was charged
        every_ms = self.every_ms[executed.symbol]
        stamps = settled(
            executed.symbol, last_open, executed.open_ms, self.source.published, every_ms
        )
        for one in stamps:
            if not one.published:
                log.warning("funding_assumed", symbol=one.symbol, stamp=iso(one.at), rate=one.rate)
        self.funding.remember(stamps)
        return stamps
