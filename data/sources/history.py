"""Bars and funding of the past from an exchange, page by page, and its order book of now."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data.files import Funding
from data.sources.answers import bars_of, hours_of, settled_of, time_of
from data.sources.exchange import Caller
from data.sources.market_time import market_name
from data.sources.order_book import Snapshot
from domain.errors import UsageError
from domain.market import BarFrame
from domain.times import timeframe_ms

PAGE = 1_000  # bars that are asked for at once
BOOK = 1_000  # levels a side of an order book
_LEAST_PAGE = 300  # bars that every exchange gives at once


class History:
    """What an exchange remembers.

    Parameters
    ----------
    caller : asks it.
    """

    def __init__(self, caller: Caller) -> None:
        self._call, self._exchange = caller, caller.exchange

    def open(self) -> None:
        """Read what the exchange lists.

        Raises
        ------
        ServiceUnreachable : if it does not answer.
        """
        self._call(self._exchange.load_markets)

    def require(self, symbol: str, timeframe: str) -> None:
        """Refuse what the exchange does not have.

        Raises
        ------
        UsageError : for a symbol or a timeframe that it does not offer.
        """
        if symbol not in self._exchange.markets:
            near = [name for name in self._exchange.markets if name[:3] == symbol[:3]][:5]
            hint = f"There are {', '.join(near)} …" if near else ""
            raise UsageError("symbol", f"must be one that {self._exchange.id} lists", symbol, hint)
        timeframe_ms(timeframe)
        known = self._exchange.timeframes or {}
        if timeframe not in known:
            raise UsageError(
                "timeframe", f"must be one that {self._exchange.id} has", timeframe,
                f"It has {', '.join(known)}.",
            )  # fmt: skip

    def now(self) -> int:
        """Return the exchange's time, UTC ms; this machine's where it does not tell."""
        if not self._exchange.has.get("fetchTime"):
            return int(self._exchange.milliseconds())
        return self._call(lambda: time_of(self._exchange.fetch_time()))

    @property
    def market(self) -> str:
        """The market's name, as a server of a made one told it with its last answer."""
        return market_name(self._exchange)

    def pages(
        self, symbol: str, timeframe: str, start_ms: int, now_ms: int, *, sure: bool = False
    ) -> Iterator[BarFrame]:
        """Iterate over closed bars that open from ``start_ms`` on, a thousand at a time.

        A page may hold fewer, where the exchange has none; holes stay holes.

        Parameters
        ----------
        now_ms : the exchange's time; what has not closed by then is left out.
        sure : take a bar only where the same answer holds a later one: an answer may be older than
            the clock says (a cache), and its last bar a growing one.
        """
        step = timeframe_ms(timeframe)
        start = -(-start_ms // step) * step
        while start + step <= now_ms:
            page = self._call(self._page, symbol, timeframe, start)
            over = page.slice(0, len(page) - 1) if sure and len(page) else page
            kept = over.between(start, now_ms - step + 1)
            if len(kept):
                yield kept
                start = int(kept.ts[-1]) + step
            elif not len(page) or int(page.ts[-1]) < start:
                start += _LEAST_PAGE * step  # a long hole, or the time before its first bar
            else:
                return

    def funding(self, symbol: str, start_ms: int, now_ms: int) -> Funding:
        """Return the settlements of a perpetual from ``start_ms`` on.

        Raises
        ------
        UsageError : if the exchange does not tell them.
        """
        ts: list[int] = []
        rates: list[float] = []
        while start_ms <= now_ms:
            rows = self._call(self._settled, symbol, start_ms)
            fresh = [(at, rate) for at, rate in rows if start_ms <= at <= now_ms]
            if not fresh:
                break
            ts += [at for at, _ in fresh]
            rates += [rate for _, rate in fresh]
            start_ms = ts[-1] + 1
        return Funding(symbol, np.array(ts, dtype=np.int64), np.array(rates, dtype=np.float64))

    def funding_hours(self) -> dict[str, int | None]:
        """Return the hours between two stamps, by perpetual that the exchange says anything of.

        Raises
        ------
        UsageError : if the exchange does not tell them.
        ServiceUnreachable : if it does not answer.
        """
        if not self._exchange.has.get("fetchFundingIntervals"):
            rule = f"are not told by {self._exchange.id}"
            raise UsageError(
                "hours of funding", rule, None, "Without funding: --set execution.funding=false"
            )
        return self._call(lambda: hours_of(self._exchange.fetch_funding_intervals()))

    def book(self, symbol: str) -> Snapshot:
        """Return the order book, a thousand levels a side.

        Raises
        ------
        UsageError : if the exchange does not number its books.
        ServiceUnreachable : if it does not answer, or with what is none.
        """
        return self._call(self._book, symbol)

    def _book(self, symbol: str) -> Snapshot:
        told = self._exchange.fetch_order_book(symbol, BOOK)
        update = told.get("nonce")
        if not isinstance(update, int):
            raise UsageError("order book", f"is not numbered by {self._exchange.id}", update)
        bids, asks = (
            tuple((float(row[0]), float(row[1])) for row in told[name]) for name in ("bids", "asks")
        )
        return Snapshot(symbol, update, bids, asks, BOOK)

    def _settled(self, symbol: str, start: int) -> list[tuple[int, float]]:
        rows = self._exchange.fetch_funding_rate_history(symbol, since=start, limit=PAGE)
        return settled_of(rows, symbol)

    def _page(self, symbol: str, timeframe: str, start: int) -> BarFrame:
        rows = self._exchange.fetch_ohlcv(symbol, timeframe, since=start, limit=PAGE)
        return bars_of(rows, symbol, timeframe)
