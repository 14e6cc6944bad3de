"""The venue's public questions over HTTP, as Binance spot and USDT-M answer them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from domain.errors import DataRefused, NotFound
from domain.market import BarFrame, Market
from domain.times import DAY_MS, timeframe_ms
from execution.funding import INTERVAL_MS
from sim.venue import refusals
from sim.venue.market import Listing, Markets, next_funding, tape_start
from sim.venue.refusals import Refused, Weights
from sim.venue.tape import STEP_MS

INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
_LIMITS: Mapping[Market, int] = {"spot": 6_000, "perp": 2_400}
_MOST_BARS: Mapping[Market, int] = {"spot": 1_000, "perp": 1_500}
_PREFIX: Mapping[Market, str] = {"spot": "/api/v3", "perp": "/fapi/v1"}
_AVERAGED_MS = 300_000  # of avgPrice
_FOR_EVER = 4_133_404_800_000  # delivery date of a perpetual, as the venue writes it

Answer = Callable[["Asked"], Any]


class Asked:
    """One question: a market and its parameters."""

    def __init__(self, market: Market, query: Mapping[str, str], markets: Markets) -> None:
        self.market, self.query, self.markets = market, query, markets

    def listing(self) -> Listing:
        """Return the symbol that is asked about.

        Raises
        ------
        Refused : without one, or if it is not listed.
        """
        name = self.query.get("symbol")
        if not name:
            raise refusals.missing("symbol")
        return self._listed(name)

    def _listed(self, name: str) -> Listing:
        try:
            return self.markets.listing(self.market, name)
        except NotFound:
            raise refusals.invalid_symbol() from None

    def listings(self) -> list[Listing]:
        """Return the symbol or the symbols that are asked about, or all of the market.

        Raises
        ------
        Refused : if one is not listed, or ``symbols`` is no list in JSON.
        """
        if "symbol" in self.query:
            return [self.listing()]
        if "symbols" in self.query:
            return [self._listed(name) for name in _names(self.query["symbols"])]
        return [one for (market, _), one in self.markets.listings.items() if market == self.market]

    def number(self, name: str) -> int | None:
        """Return a whole number ≥ 0; None where it is not given.

        Raises
        ------
        Refused : if it is none.
        """
        text = self.query.get(name)
        if text is None or text == "":
            return None
        if not text.isdecimal():
            raise refusals.illegal(name)
        return int(text)

    def limit(self, usual: int, most: int) -> int:
        """Return how many are wanted, at most ``most``."""
        wanted = self.number("limit")
        return usual if not wanted else min(wanted, most)


def _names(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise refusals.illegal("symbols")
    return names


def limits(wall: Callable[[], int]) -> dict[Market, Weights]:
    """Return the weights of both markets, each counted by itself.

    Parameters
    ----------
    wall : ms, for the minutes in which they are counted.
    """
    return {market: Weights(most, wall) for market, most in _LIMITS.items()}


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
            body = {"timestamp": wall(), "status": error.status, "error": error.reason,
                    "message": "No message available", "path": request.path}  # fmt: skip
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
        except DataRefused:  # a file of bars that has ended
            return refusals.over().response()
        return web.json_response(body, headers={"X-MBX-USED-WEIGHT-1M": str(used)})

    return handle


def _ping(_: Asked) -> Any:
    return {}


def _time(asked: Asked) -> Any:
    return {"serverTime": asked.markets.clock.now()}


def _exchange_info(asked: Asked) -> Any:
    told = _spot_symbol if asked.market == "spot" else _perp_symbol
    now, halts = asked.markets.clock.now(), asked.markets.halts
    return {
        "timezone": "UTC",
        "serverTime": now,
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1,
             "limit": _LIMITS[asked.market]},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 50},
        ],
        "exchangeFilters": [],
        "symbols": [told(listing, halts.closed(listing.key, now)) for listing in asked.listings()],
    }  # fmt: skip


def _filters(listing: Listing) -> list[dict[str, Any]]:
    rules = listing.instrument
    lot = {"minQty": f"{rules.min_qty:f}", "maxQty": f"{rules.max_qty:f}",
           "stepSize": f"{rules.step:f}"}  # fmt: skip
    return [
        {"filterType": "PRICE_FILTER", "minPrice": f"{rules.tick:f}", "maxPrice": "10000000",
         "tickSize": f"{rules.tick:f}"},
        {"filterType": "LOT_SIZE", **lot},
        {"filterType": "MARKET_LOT_SIZE", **lot},
    ]  # fmt: skip


def _spot_symbol(listing: Listing, halted: bool) -> dict[str, Any]:
    rules = listing.instrument
    return {
        "symbol": listing.name, "status": "BREAK" if halted else "TRADING",
        "baseAsset": listing.base,
        "baseAssetPrecision": 8, "quoteAsset": listing.quote, "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT",
                       "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": False, "ocoAllowed": False, "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False, "permissions": [], "permissionSets": [["SPOT"]],
        "filters": [
            *_filters(listing),
            {"filterType": "NOTIONAL", "minNotional": f"{rules.min_notional:f}",
             "applyMinToMarket": True, "maxNotional": "9000000", "applyMaxToMarket": False,
             "avgPriceMins": 5},
        ],
    }  # fmt: skip


def _perp_symbol(listing: Listing, halted: bool) -> dict[str, Any]:
    rules = listing.instrument
    return {
        "symbol": listing.name, "pair": listing.name, "contractType": "PERPETUAL",
        "deliveryDate": _FOR_EVER, "onboardDate": 0,
        "status": "TRADING_HALT" if halted else "TRADING",
        "maintMarginPercent": "2.5000", "requiredMarginPercent": "5.0000",
        "baseAsset": listing.base, "quoteAsset": listing.quote, "marginAsset": listing.quote,
        "pricePrecision": _digits(f"{rules.tick:f}"),
        "quantityPrecision": _digits(f"{rules.step:f}"),
        "baseAssetPrecision": 8, "quotePrecision": 8, "underlyingType": "COIN",
        "liquidationFee": f"{rules.liquidation_bps / 1e4:g}",
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT",
                       "TAKE_PROFIT_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        "filters": [
            *_filters(listing),
            {"filterType": "MIN_NOTIONAL", "notional": f"{rules.min_notional:f}"},
        ],
    }  # fmt: skip


def _digits(step: str) -> int:
    return len(step.rstrip("0").partition(".")[2])


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
        start = end // step * step - (n - 1) * step
    first = max(
        -(-start // step) * step, -(-tape_start(asked.markets.tape(listing)) // step) * step
    )
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


def text(value: float) -> str:
    """Write a number as the venue does."""
    return repr(float(value))


def _depth(asked: Asked) -> Any:
    listing = asked.listing()
    levels = asked.limit(100 if asked.market == "spot" else 500, 1_000)
    at = asked.markets.clock.now()  # one moment: the number must be that of these levels
    book = asked.markets.book(listing, levels, at)
    body: dict[str, Any] = {
        "lastUpdateId": asked.markets.update_id(book.at),
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
        {"id": int(at) // STEP_MS, "price": text(price), "qty": text(qty),
         "quoteQty": text(price * qty), "time": int(at), "isBuyerMaker": bool(sold),
         "isBestMatch": True}
        for at, price, qty, sold in zip(found.at, found.price, found.qty, found.sold, strict=True)
    ]  # fmt: skip


def _agg_trades(asked: Asked) -> Any:
    listing, n = asked.listing(), asked.limit(500, 1_000)
    start, end = asked.number("startTime"), asked.number("endTime")
    number = asked.number("fromId")
    if number is not None:
        start, end = number * STEP_MS, None
    now = asked.markets.clock.now()
    end = now if end is None else min(end, now)
    if end < tape_start(asked.markets.tape(listing)):
        return []
    if start is None:
        found = asked.markets.trades(listing, n, end)
    else:
        start = max(start, tape_start(asked.markets.tape(listing)))
        found = asked.markets.prints(listing, start, min(end + 1, start + n * STEP_MS))
    return [
        {"a": int(at) // STEP_MS, "p": text(price), "q": text(qty), "f": int(at) // STEP_MS,
         "l": int(at) // STEP_MS, "T": int(at), "m": bool(sold), "M": True}
        for at, price, qty, sold in zip(found.at, found.price, found.qty, found.sold, strict=True)
    ]  # fmt: skip


def _book_ticker(asked: Asked) -> Any:
    rows = []
    for listing in asked.listings():
        book = asked.markets.book(listing, 1)
        (bid, bids), (ask, asks) = book.bids[0], book.asks[0]
        rows.append({"symbol": listing.name, "bidPrice": text(bid), "bidQty": text(bids),
                     "askPrice": text(ask), "askQty": text(asks), "time": book.at})  # fmt: skip
    return rows[0] if "symbol" in asked.query else rows


def _price(asked: Asked) -> Any:
    rows = []
    for listing in asked.listings():
        row: dict[str, Any] = {"symbol": listing.name, "price": text(asked.markets.price(listing))}
        if asked.market == "perp":
            row["time"] = asked.markets.moment(listing)
        rows.append(row)
    return rows[0] if "symbol" in asked.query else rows


def _average(asked: Asked) -> Any:
    listing = asked.listing()
    found = asked.markets.trades(listing, _AVERAGED_MS // STEP_MS)
    volume = float(found.qty.sum())
    price = float((found.price * found.qty).sum()) / volume if volume else float(found.price[-1])
    return {"mins": _AVERAGED_MS // 60_000, "price": text(price), "closeTime": int(found.at[-1])}


def _day(asked: Asked) -> Any:
    now = asked.markets.clock.now()
    rows = [day_of(asked.markets, listing, now) for listing in asked.listings()]
    return rows[0] if "symbol" in asked.query else rows


def day_of(markets: Markets, listing: Listing, now: int) -> dict[str, Any]:
    """Return the statistics of the last day, in whole hours, as of ``now`` (ms)."""
    tape, now = markets.tape(listing), markets.moment(listing, now)
    first = max((now - DAY_MS) // 3_600_000 * 3_600_000, tape_start(tape))
    bars = markets.bars(listing, "1h", first, 26, now)
    opened, last, volume = float(bars.open[0]), float(bars.close[-1]), float(bars.volume.sum())
    book = markets.book(listing, 1, now)
    quote = float((bars.volume * bars.close).sum())
    return {
        "symbol": listing.name, "priceChange": text(last - opened),
        "priceChangePercent": f"{100.0 * (last / opened - 1.0):.3f}",
        "weightedAvgPrice": text(quote / volume if volume else last), "lastPrice": text(last),
        "lastQty": "0", "bidPrice": text(book.bids[0][0]), "bidQty": text(book.bids[0][1]),
        "askPrice": text(book.asks[0][0]), "askQty": text(book.asks[0][1]),
        "openPrice": text(opened), "highPrice": text(bars.high.max()),
        "lowPrice": text(bars.low.min()), "volume": text(volume), "quoteVolume": text(quote),
        "openTime": first, "closeTime": now, "firstId": first, "lastId": now,
        "count": 24 * len(bars),
    }  # fmt: skip


def _premium(asked: Asked) -> Any:
    now, rows = asked.markets.clock.now(), []
    for listing in asked.listings():
        price, stamp = text(asked.markets.price(listing)), next_funding(now)
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
    end = now if end is None else min(end, now)
    newest = end // INTERVAL_MS * INTERVAL_MS
    first = newest - (n - 1) * INTERVAL_MS
    if start is not None:
        first = -(-start // INTERVAL_MS) * INTERVAL_MS
    first = max(first, -(-tape_start(asked.markets.tape(listing)) // INTERVAL_MS) * INTERVAL_MS)
    stamps = range(first, newest + 1, INTERVAL_MS)[:n]
    return [
        {"symbol": listing.name, "fundingTime": stamp,
         "fundingRate": f"{asked.markets.funding_rate(listing, stamp):.8f}",
         "markPrice": text(asked.markets.tape(listing).last(stamp)[1])}
        for stamp in stamps
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
        "/exchangeInfo": (_exchange_info, _flat(20)),
        "/klines": (_klines, _flat(2)),
        "/depth": (_depth, _by_limit(((100, 5), (500, 25), (1_000, 50)), 100)),
        "/trades": (_trades, _flat(25)),
        "/aggTrades": (_agg_trades, _flat(4)),
        "/avgPrice": (_average, _flat(2)),
        "/ticker/price": (_price, _flat(2)),
        "/ticker/bookTicker": (_book_ticker, _flat(2)),
        "/ticker/24hr": (_day, _flat(2)),
    },
    "perp": {
        "/exchangeInfo": (_exchange_info, _flat(1)),
        "/klines": (_klines, _by_limit(((99, 1), (499, 2), (1_000, 5), (1_500, 10)), 500)),
        "/depth": (_depth, _by_limit(((50, 2), (100, 5), (500, 10), (1_000, 20)), 500)),
        "/trades": (_trades, _flat(5)),
        "/aggTrades": (_agg_trades, _flat(20)),
        "/ticker/price": (_price, _flat(1)),
        "/ticker/bookTicker": (_book_ticker, _flat(2)),
        "/ticker/24hr": (_day, _flat(1)),
        "/premiumIndex": (_premium, _flat(1)),
        "/fundingRate": (_funding, _flat(1)),
    },
}
