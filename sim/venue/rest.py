"""The venue's public questions over HTTP, as Binance spot and USDT-M answer them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from aiohttp import web

from data.sources.market_time import NAME, SPEED
from domain.errors import DataRefused
from domain.market import BarFrame, Market
from domain.times import timeframe_ms
from execution.funding import INTERVAL_MS, stamps_between
from sim.venue import refusals
from sim.venue.asked import Asked, text
from sim.venue.exchange_info import LIMITS, exchange_info
from sim.venue.market import Markets, next_funding
from sim.venue.refusals import Refused, Weights
from sim.venue.tape import Prints
from sim.venue.tickers import average, book_ticker, day, price

INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
_MOST_BARS: Mapping[Market, int] = {"spot": 1_000, "perp": 1_500}
_PREFIX: Mapping[Market, str] = {"spot": "/api/v3", "perp": "/fapi/v1"}

Answer = Callable[[Asked], Any]


def limits(wall: Callable[[], int]) -> dict[Market, Weights]:
    """Return the weights of both markets, each counted by itself.

    Parameters
    ----------
    wall : ms, for the minutes in which they are counted.
    """
    return {market: Weights(most, wall) for market, most in LIMITS.items()}


def unknown(wall: Callable[[], int]) -> Any:
    """Return the middleware that answers in JSON what nobody else does.

    Parameters
    ----------
    wall : ms.
    """

    @web.middleware
    async def answered(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
            # the code lets ccxt tell it from an exchange that is away
            body = {"code": -1020, "msg": "This operation is not supported.",
                    "timestamp": wall(), "status": error.status, "error": error.reason,
                    "path": request.path}  # fmt: skip
            return web.json_response(body, status=error.status)

    return answered


def routes(markets: Markets, weights: Mapping[Market, Weights]) -> list[web.RouteDef]:
    """Return the routes of both markets."""
    found: list[web.RouteDef] = []
    for market, prefix in _PREFIX.items():
        for path, (answer, weight) in (_COMMON | _OWN[market]).items():
            handle = _handler(market, markets, weights[market], answer, weight)
            found.append(web.get(prefix + path, handle))
    found.append(web.get("/dapi/v1/exchangeInfo", _no_coin_contracts))
    return found


async def _no_coin_contracts(_: web.Request) -> web.Response:
    return web.json_response({"timezone": "UTC", "rateLimits": [], "symbols": []})


def _handler(
    market: Market, markets: Markets, weights: Weights, answer: Answer,
    weight: Callable[[Asked], int],
) -> Callable[[web.Request], Awaitable[web.Response]]:  # fmt: skip
    async def handle(request: web.Request) -> web.Response:
        asked = Asked(market, request.query, markets)
        try:
            used = weights.take(request.remote or "", weight(asked))
            body = answer(asked)
        except Refused as refused:
            return refused.response()
        except DataRefused:  # before the first of a file's bars
            return refusals.no_bars().response()
        headers = {"X-MBX-USED-WEIGHT-1M": str(used), NAME: markets.name}
        if markets.clock.speed > 0:  # else time stands still
            headers[SPEED] = repr(float(markets.clock.speed))
        return web.json_response(body, headers=headers)

    return handle


def _ping(_: Asked) -> Any:
    return {}


def _time(asked: Asked) -> Any:
    return {"serverTime": asked.markets.clock.now()}


def _klines(asked: Asked) -> Any:
    listing, interval = asked.listing(), asked.query.get("interval")
    if not interval:
        raise refusals.missing("interval")
    if interval not in INTERVALS:
        raise refusals.invalid_interval()
    step, now = timeframe_ms(interval), asked.markets.clock.now()
    n = asked.limit(500, _MOST_BARS[asked.market])
    start, end = asked.number("startTime"), asked.number("endTime")
    end = now if end is None else min(end, now)
    if start is None:
        start = asked.markets.within(end) // step * step - (n - 1) * step
    first = max(-(-start // step) * step, asked.markets.tape(listing).first_open(step))
    n = min(n, (end - first) // step + 1)
    if n <= 0:
        return []
    return _rows(asked.markets.bars(listing, interval, first, n))


def _rows(bars: BarFrame) -> list[list[Any]]:
    rows = []
    for bar in bars.bars():
        quote = bar.volume * (bar.high + bar.low + bar.close) / 3.0
        rows.append([
            bar.open_ms, text(bar.open), text(bar.high), text(bar.low), text(bar.close),
            text(bar.volume), bar.close_ms - 1, text(quote), 24, text(bar.volume / 2.0),
            text(quote / 2.0), "0",
        ])  # fmt: skip
    return rows


def _depth(asked: Asked) -> Any:
    listing = asked.listing()
    levels = asked.limit(100 if asked.market == "spot" else 500, 1_000)
    at = asked.markets.clock.now()  # one moment: the number must be that of these levels
    book = asked.markets.book(listing, levels, at)
    body: dict[str, Any] = {
        "lastUpdateId": asked.markets.update_id(listing, book.at),
        "bids": [[text(price), text(qty)] for price, qty in book.bids],
        "asks": [[text(price), text(qty)] for price, qty in book.asks],
    }
    if asked.market == "perp":
        body |= {"E": at, "T": book.at}
    return body


def _trades(asked: Asked) -> Any:
    listing = asked.listing()
    found = asked.markets.trades(listing, asked.limit(500, 1_000))
    return [
        {"id": number, "price": text(price), "qty": text(qty), "quoteQty": text(price * qty),
         "time": at, "isBuyerMaker": sold, "isBestMatch": True}
        for number, at, price, qty, sold in _each(found)
    ]  # fmt: skip


def _agg_trades(asked: Asked) -> Any:
    listing, n = asked.listing(), asked.limit(500, 1_000)
    start, end = asked.number("startTime"), asked.number("endTime")
    number = asked.number("fromId")
    if number is not None:
        start, end = asked.markets.tape(listing).when(number), None
    now = asked.markets.clock.now()
    end = now if end is None else min(end, now)
    tape = asked.markets.tape(listing)
    if end < tape.start_ms:
        return []
    if start is None:
        found = asked.markets.trades(listing, n, end)
    else:
        start = max(start, tape.start_ms)
        # several prints may share an instant
        until = tape.forth(n, start) if number is None else tape.when(number + n - 1) + 1
        found = asked.markets.prints(listing, start, min(end + 1, until))
        if number is not None:
            found = found.where(found.number >= number)
        found = found.where(np.s_[:n])
    return [
        {"a": number, "p": text(price), "q": text(qty), "f": number, "l": number, "T": at,
         "m": sold, "M": True}
        for number, at, price, qty, sold in _each(found)
    ]  # fmt: skip


def _each(found: Prints) -> Iterator[tuple[int, int, float, float, bool]]:
    columns = (found.number, found.at, found.price, found.qty, found.sold)
    yield from zip(*(column.tolist() for column in columns), strict=True)


def _premium(asked: Asked) -> Any:
    now, rows = asked.markets.clock.now(), []
    for listing in asked.listings():
        price, stamp = text(asked.markets.price(listing)), next_funding(listing, now)
        rate = asked.markets.funding_rate(listing, now)
        rows.append({
            "symbol": listing.name, "markPrice": price, "indexPrice": price,
            "estimatedSettlePrice": price, "lastFundingRate": f"{rate:.8f}",
            "interestRate": "0.00010000", "nextFundingTime": stamp, "time": now,
        })  # fmt: skip
    return rows[0] if "symbol" in asked.query else rows


def _funding(asked: Asked) -> Any:
    listing, now = asked.listing(), asked.markets.clock.now()
    n = asked.limit(100, 1_000)
    start, end = asked.number("startTime"), asked.number("endTime")
    end = asked.markets.within(now if end is None else min(end, now))
    every = listing.instrument.funding_ms
    first = end // every * every - (n - 1) * every if start is None else start
    first = max(first, asked.markets.tape(listing).start_ms)
    stamps = islice(stamps_between(first - 1, end, every), n)
    return [
        {"symbol": listing.name, "fundingTime": stamp,
         "fundingRate": f"{asked.markets.funding_rate(listing, stamp):.8f}",
         "markPrice": text(asked.markets.mark(listing, stamp))}
        for stamp in stamps
    ]  # fmt: skip


def _funding_info(asked: Asked) -> Any:
    """List the perpetuals whose stamps are not eight hours apart, as Binance does."""
    return [
        {"symbol": listing.name, "adjustedFundingRateCap": "0.02000000",
         "adjustedFundingRateFloor": "-0.02000000",
         "fundingIntervalHours": listing.instrument.funding_hours, "disclaimer": False}
        for listing in asked.listings() if listing.instrument.funding_ms != INTERVAL_MS
    ]  # fmt: skip


def _by_limit(steps: tuple[tuple[int, int], ...], usual: int) -> Callable[[Asked], int]:
    def weight(asked: Asked) -> int:
        wanted = asked.number("limit") or usual
        return next((cost for most, cost in steps if wanted <= most), steps[-1][1])

    return weight


def _flat(cost: int) -> Callable[[Asked], int]:
    return lambda _: cost


Paths = dict[str, tuple[Answer, Callable[[Asked], int]]]
_COMMON: Paths = {
    "/ping": (_ping, _flat(1)),
    "/time": (_time, _flat(1)),
}
_OWN: Mapping[Market, Paths] = {
    "spot": {
        "/exchangeInfo": (exchange_info, _flat(20)),
        "/klines": (_klines, _flat(2)),
        "/depth": (_depth, _by_limit(((100, 5), (500, 25), (1_000, 50)), 100)),
        "/trades": (_trades, _flat(25)),
        "/aggTrades": (_agg_trades, _flat(4)),
        "/avgPrice": (average, _flat(2)),
        "/ticker/price": (price, _flat(2)),
        "/ticker/bookTicker": (book_ticker, _flat(2)),
        "/ticker/24hr": (day, _flat(2)),
    },
    "perp": {
        "/exchangeInfo": (exchange_info, _flat(1)),
        "/klines": (_klines, _by_limit(((99, 1), (499, 2), (1_000, 5), (1_500, 10)), 500)),
        "/depth": (_depth, _by_limit(((50, 2), (100, 5), (500, 10), (1_000, 20)), 500)),
        "/trades": (_trades, _flat(5)),
        "/aggTrades": (_agg_trades, _flat(20)),
        "/ticker/price": (price, _flat(1)),
        "/ticker/bookTicker": (book_ticker, _flat(2)),
        "/ticker/24hr": (day, _flat(1)),
        "/premiumIndex": (_premium, _flat(1)),
        "/fundingRate": (_funding, _flat(1)),
        "/fundingInfo": (_funding_info, _flat(0)),
    },
}
