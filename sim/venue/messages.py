"""What the venue's streams say, as Binance words it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from domain.errors import NotFound
from domain.market import Market
from domain.times import timeframe_ms
from sim.venue.asked import text
from sim.venue.market import Listing, Markets, next_funding
from sim.venue.rest import INTERVALS
from sim.venue.tickers import day_of

_NAME = re.compile(r"(?P<symbol>[a-z0-9]+)@(?P<kind>[A-Za-z]+)(?P<levels>\d+)?(?:_(?P<bar>\w+))?"
                   r"(?:@(?P<speed>\d+ms|1s|3s))?")  # fmt: skip
_PARTIAL = (5, 10, 20)
_BOOK_SPEEDS = ("@100ms", "@250ms", "@500ms", "@1000ms")
_ALWAYS = ("kline", "markPrice")  # bars end by the clock, marks are of other exchanges
_OF_BOOKS = ("depth", "bookTicker")
_OF_PRINTS = ("trade", "aggTrade", "ticker", "miniTicker")
_MARKED_MS = 1_000  # between two marks
DIFFED = 1_000  # levels a side that diffs tell about

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of one market.

    Attributes
    ----------
    name : as it was asked for, ``btcusdt@kline_1m``.
    kind : kline, trade, aggTrade, bookTicker, ticker, miniTicker, depth or markPrice.
    bar : of klines. ``levels`` : of partial books; None = diffs.
    """

    name: str
    market: Market
    listing: Listing
    kind: str
    bar: str = ""
    levels: int | None = None


def stream_of(name: str, market: Market, markets: Markets) -> Stream | None:
    """Read a stream's name; None if there is no such stream."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    kind, bar = found["kind"], found["bar"] or ""
    levels = None if found["levels"] is None else int(found["levels"])
    known = kind in _KINDS and (market == "perp" or kind != "markPrice")
    fits = (bar in INTERVALS) == (kind == "kline") and (bool(bar) == (kind == "kline"))
    if (
        not known
        or not fits
        or (levels is not None and (kind != "depth" or levels not in _PARTIAL))
    ):
        return None
    try:
        listing = markets.listing(market, found["symbol"])
    except NotFound:
        return None
    return Stream(name, market, listing, kind, bar, levels)


def stream_names() -> Iterator[str]:
    """Iterate over what may follow a symbol's ``@``, at the speeds that clients ask for."""
    for kind in _KINDS:
        if kind == "kline":
            yield from (f"{kind}_{bar}" for bar in INTERVALS)
        elif kind == "depth":
            for levels in ("", *_PARTIAL):
                yield from (f"{kind}{levels}{speed}" for speed in ("", *_BOOK_SPEEDS))
        else:
            yield kind
    yield from ("markPrice@1s", "markPrice@3s")


def said(stream: Stream, markets: Markets, at_ms: int) -> list[Body]:
    """Return what a stream says at an instant of the market; nothing while its symbol is halted."""
    listing, kind = stream.listing, stream.kind
    if kind not in _ALWAYS and markets.halts.closed(listing.key, at_ms):
        return []
    if kind in _OF_BOOKS and not markets.moved(listing, at_ms):
        return []
    if kind in _OF_PRINTS and not markets.traded(listing, at_ms):
        return []
    if kind == "markPrice" and (at_ms - markets.step_ms) // _MARKED_MS == at_ms // _MARKED_MS:
        return []
    return _KINDS[stream.kind](stream, markets, at_ms)


def _kline(stream: Stream, markets: Markets, at: int) -> list[Body]:
    step = timeframe_ms(stream.bar)
    opened, bodies = at // step * step, list[Body | None]()
    if at == opened:  # the one before is over with the first print after it
        bodies.append(_bar(stream, markets, opened - step, at, closed=True))
    open_ = not markets.halts.closed(stream.listing.key, at)
    if open_ and (markets.traded(stream.listing, at) or at == opened):
        bodies.append(_bar(stream, markets, opened, at, closed=False))
    return [body for body in bodies if body is not None]


def _bar(stream: Stream, markets: Markets, opened: int, at: int, *, closed: bool) -> Body | None:
    step = timeframe_ms(stream.bar)
    found = markets.bars(stream.listing, stream.bar, opened, 1, opened + step if closed else at)
    if not len(found):
        return None
    bar = found.bar(0)
    quote = bar.volume * (bar.high + bar.low + bar.close) / 3.0
    end = opened + step if closed else at + 1
    first, last = markets.tape(stream.listing).numbers(opened, end)
    return {
        "e": "kline", "E": at, "s": stream.listing.name,
        "k": {
            "t": opened, "T": opened + step - 1, "s": stream.listing.name, "i": stream.bar,
            "f": first, "L": last, "o": text(bar.open), "c": text(bar.close),
            "h": text(bar.high), "l": text(bar.low), "v": text(bar.volume),
            "n": last - first + 1, "x": closed, "q": text(quote),
            "V": text(bar.volume / 2.0), "Q": text(quote / 2.0), "B": "0",
        },
    }  # fmt: skip


def _trade(stream: Stream, markets: Markets, at: int) -> list[Body]:
    return [
        {"e": "trade", "E": at, "s": stream.listing.name, "t": number, "p": price, "q": qty,
         "T": when, "m": sold, "M": True}
        for number, when, price, qty, sold in _prints(stream, markets, at)
    ]  # fmt: skip


def _agg_trade(stream: Stream, markets: Markets, at: int) -> list[Body]:
    return [
        {"e": "aggTrade", "E": at, "s": stream.listing.name, "a": number, "p": price, "q": qty,
         "f": number, "l": number, "T": when, "m": sold, "M": True}
        for number, when, price, qty, sold in _prints(stream, markets, at)
    ]  # fmt: skip


def _prints(stream: Stream, markets: Markets, at: int) -> Iterator[tuple[int, int, str, str, bool]]:
    """Iterate over (number, instant, price, quantity, whether the buyer was the maker)."""
    found = markets.printed(stream.listing, at)
    columns = (each.tolist() for each in (found.number, found.at, found.price, found.qty))
    for number, when, price, qty, sold in zip(*columns, found.sold.tolist(), strict=True):
        yield number, when, text(price), text(qty), sold


def _book_ticker(stream: Stream, markets: Markets, at: int) -> list[Body]:
    book = markets.book(stream.listing, 1, at)
    (bid, bids), (ask, asks) = book.bids[0], book.asks[0]
    number = markets.update_id(stream.listing, at)
    body: Body = {"u": number, "s": stream.listing.name, "b": text(bid), "B": text(bids),
                  "a": text(ask), "A": text(asks)}  # fmt: skip
    return [{"e": "bookTicker", "E": at, "T": at, **body} if stream.market == "perp" else body]


def _depth(stream: Stream, markets: Markets, at: int) -> list[Body]:
    number = markets.update_id(stream.listing, at)
    if stream.levels is not None:
        book = markets.book(stream.listing, stream.levels, at)
        bids, asks = _levels(book.bids), _levels(book.asks)
        if stream.market == "spot":
            return [{"lastUpdateId": number, "bids": bids, "asks": asks}]
        return [_update(stream, number, number, at, bids, asks)]
    bids, asks = map(_levels, markets.changes(stream.listing, DIFFED, at))
    first = markets.update_id(stream.listing, markets.before(stream.listing, at)) + 1
    return [_update(stream, first, number, at, bids, asks)]


def _update(stream: Stream, first: int, number: int, at: int, bids: Any, asks: Any) -> Body:
    body: Body = {"e": "depthUpdate", "E": at, "s": stream.listing.name, "U": first, "u": number,
                  "b": bids, "a": asks}  # fmt: skip
    return {**body, "T": at, "pu": first - 1} if stream.market == "perp" else body


def _levels(side: Iterable[tuple[float, float]]) -> list[list[str]]:
    return [[text(price), text(qty)] for price, qty in side]


def _ticker(stream: Stream, markets: Markets, at: int) -> list[Body]:
    day = day_of(markets, stream.listing, at)
    short = {
        "p": "priceChange", "P": "priceChangePercent", "w": "weightedAvgPrice", "c": "lastPrice",
        "Q": "lastQty", "b": "bidPrice", "B": "bidQty", "a": "askPrice", "A": "askQty",
        "o": "openPrice", "h": "highPrice", "l": "lowPrice", "v": "volume", "q": "quoteVolume",
        "O": "openTime", "C": "closeTime", "F": "firstId", "L": "lastId", "n": "count",
    }  # fmt: skip
    told: Body = {name: day[long] for name, long in short.items()}
    return [{"e": "24hrTicker", "E": at, "s": stream.listing.name, **told}]


def _mini_ticker(stream: Stream, markets: Markets, at: int) -> list[Body]:
    [whole] = _ticker(stream, markets, at)
    kept = {name: whole[name] for name in ("E", "s", "c", "o", "h", "l", "v", "q")}
    return [{"e": "24hrMiniTicker", **kept}]


def _mark_price(stream: Stream, markets: Markets, at: int) -> list[Body]:
    price = text(markets.mark(stream.listing, at))
    rate = f"{markets.funding_rate(stream.listing, at):.8f}"
    return [{"e": "markPriceUpdate", "E": at, "s": stream.listing.name, "p": price, "i": price,
             "P": price, "r": rate, "T": next_funding(stream.listing, at)}]  # fmt: skip


_KINDS: Mapping[str, Callable[[Stream, Markets, int], list[Body]]] = {
    "kline": _kline, "trade": _trade, "aggTrade": _agg_trade, "bookTicker": _book_ticker,
    "ticker": _ticker, "miniTicker": _mini_ticker, "depth": _depth, "markPrice": _mark_price,
}  # fmt: skip

KINDS = frozenset(_KINDS)
"""Of streams."""
