"""Order books and trades out of a stream's messages: what was said, nothing, or garbage.

Binance's words: ``depthUpdate``, partial books (``depth5|10|20``), ``bookTicker``, ``trade`` and
``aggTrade``, of spot and of USDT-M perpetuals, and the answer to ``depth`` over HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data.sources.messages import identity, instant, number, opened, plain
from data.sources.order_book import Diff, Level, Snapshot
from domain.errors import DataRefused
from domain.market import Trade, market_of

_LONGEST = 1 << 20  # characters of a message
_PARTIAL = re.compile(r"(?P<name>[a-z0-9]+)@depth(?P<levels>5|10|20)(@\d+ms)?", re.ASCII)
_TICKER = frozenset("usbBaA")  # names of a best quote, which on spot does not say what it is


@dataclass(frozen=True, slots=True)
class Print:
    """One trade, or several of one order at one price, with its number."""

    symbol: str
    number: int
    trade: Trade


@dataclass(frozen=True, slots=True)
class BestQuote:
    """Best bid and ask after an update: (price, quantity).

    Attributes
    ----------
    at : UTC ms; None on spot, where the exchange does not say.
    """

    symbol: str
    update: int
    at: int | None
    bid: Level
    ask: Level


Said = Diff | Snapshot | Print | BestQuote


def said_of(text: str | bytes, symbols: Mapping[str, str]) -> Said | None:
    """Read one message.

    Parameters
    ----------
    text : as it came. A partial book is known by the stream's name: by a combined line.
    symbols : the exchange's name → unified symbol, which says the market.

    Returns
    -------
    None for other messages, and for symbols that nobody asked about.

    Raises
    ------
    DataRefused : if it is no JSON object, or says what cannot be.
    """
    stream, body = opened(text, _LONGEST)
    partial = _PARTIAL.fullmatch(stream)
    if partial is not None:
        symbol = symbols.get(partial["name"].upper())
        return None if symbol is None else _partial(body, symbol, int(partial["levels"]))
    symbol, kind = symbols.get(str(body.get("s"))), body.get("e")
    if symbol is None:
        return None
    if kind == "depthUpdate":
        return _diff(body, symbol)
    if kind in ("trade", "aggTrade"):
        return _print(body, symbol, "t" if kind == "trade" else "a")
    if kind == "bookTicker" or (kind is None and body.keys() >= _TICKER):
        return _quote(body, symbol)
    return None


def snapshot_of(body: Mapping[str, Any], symbol: str, asked: int) -> Snapshot:
    """Read a book, as it is answered over HTTP and by spot's partial streams.

    Parameters
    ----------
    asked : levels a side that were asked for.

    Raises
    ------
    DataRefused : if it is none.
    """
    what = f"book of {symbol}"
    update = identity(body, "lastUpdateId", what)
    return Snapshot(symbol, update, _levels(body, "bids", what), _levels(body, "asks", what), asked)


def _partial(body: Mapping[str, Any], symbol: str, asked: int) -> Snapshot:
    if "lastUpdateId" in body:
        return snapshot_of(body, symbol, asked)
    what = f"book of {symbol}"
    update = identity(body, "u", what)
    return Snapshot(symbol, update, _levels(body, "b", what), _levels(body, "a", what), asked)


def _diff(body: Mapping[str, Any], symbol: str) -> Diff:
    what = f"depth of {symbol}"
    at = instant(body, "E", what)
    first, last = identity(body, "U", what), identity(body, "u", what)
    if first > last:
        raise DataRefused(what, "must have U ≤ u", (first, last))
    before = identity(body, "pu", what) if market_of(symbol) == "perp" else None
    if before is not None and before >= last:
        raise DataRefused(what, "must have pu < u", (before, last))
    return Diff(symbol, at, first, last, before, _levels(body, "b", what), _levels(body, "a", what))


def _print(body: Mapping[str, Any], symbol: str, name: str) -> Print:
    what = f"trade of {symbol}"
    price, qty = _positive(body, "p", what), _positive(body, "q", what)
    sold = body.get("m")
    if not isinstance(sold, bool):
        raise DataRefused(what, "must say whether the buyer was the maker", sold)
    trade = Trade(instant(body, "T", what), price, qty, sold)
    return Print(symbol, identity(body, name, what), trade)


def _quote(body: Mapping[str, Any], symbol: str) -> BestQuote:
    what = f"best quote of {symbol}"
    at = instant(body, "E", what) if "E" in body else None
    bid, ask = ((_positive(body, p, what), _positive(body, q, what)) for p, q in ("bB", "aA"))
    if bid[0] >= ask[0]:
        raise DataRefused(what, "the best bid must lie below the best ask", (bid[0], ask[0]))
    return BestQuote(symbol, identity(body, "u", what), at, bid, ask)


def _positive(body: Mapping[str, Any], name: str, what: str) -> float:
    found = number(body, name, what)
    if found <= 0.0:
        raise DataRefused(what, f"must give {name} > 0", found)
    return found


def _levels(body: Mapping[str, Any], name: str, what: str) -> tuple[Level, ...]:
    rows = body.get(name)
    if not isinstance(rows, list):
        raise DataRefused(what, f"must give {name} as a list of levels", rows)
    return tuple(_level(row, what) for row in rows)


def _level(row: object, what: str) -> Level:
    if isinstance(row, list) and len(row) == 2:
        price, qty = plain(row[0]), plain(row[1])
        if price > 0.0 and qty >= 0.0:
            return price, qty
    raise DataRefused(what, "must have levels of a price > 0 and a quantity ≥ 0", row)
