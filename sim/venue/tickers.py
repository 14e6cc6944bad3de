"""Prices and statistics of symbols, in a row each."""

from __future__ import annotations

from typing import Any

from domain.times import DAY_MS, HOUR_MS, MINUTE_MS
from sim.venue.asked import Asked, text
from sim.venue.market import Listing, Markets

_AVERAGED_MS = 300_000  # of the average price


def book_ticker(asked: Asked) -> Any:
    """Return the best prices of books."""
    rows = []
    for listing in asked.listings():
        book = asked.markets.book(listing, 1)
        (bid, bids), (ask, asks) = book.bids[0], book.asks[0]
        rows.append({"symbol": listing.name, "bidPrice": text(bid), "bidQty": text(bids),
                     "askPrice": text(ask), "askQty": text(asks), "time": book.at})  # fmt: skip
    return rows[0] if "symbol" in asked.query else rows


def price(asked: Asked) -> Any:
    """Return last prices."""
    rows = []
    for listing in asked.listings():
        row: dict[str, Any] = {"symbol": listing.name, "price": text(asked.markets.price(listing))}
        if asked.market == "perp":
            row["time"] = asked.markets.moment(listing)
        rows.append(row)
    return rows[0] if "symbol" in asked.query else rows


def average(asked: Asked) -> Any:
    """Return the average price of the last minutes, by volume."""
    listing = asked.listing()
    now = asked.markets.moment(listing)
    start = max(now - _AVERAGED_MS + 1, asked.markets.tape(listing).start_ms)
    found = asked.markets.prints(listing, start, now + 1)
    volume, last = float(found.qty.sum()), asked.markets.price(listing)
    mean = float((found.price * found.qty).sum()) / volume if volume else last
    return {"mins": _AVERAGED_MS // 60_000, "price": text(mean), "closeTime": now}


def day(asked: Asked) -> Any:
    """Return statistics of the last day."""
    now = asked.markets.clock.now()
    rows = [day_of(asked.markets, listing, now) for listing in asked.listings()]
    return rows[0] if "symbol" in asked.query else rows


def day_of(markets: Markets, listing: Listing, now: int) -> dict[str, Any]:
    """Return the statistics of the last day, in whole hours, as of ``now`` (ms)."""
    tape, now = markets.tape(listing), markets.moment(listing, now)
    first = max((now - DAY_MS) // HOUR_MS * HOUR_MS, tape.first_open(HOUR_MS))
    bars = markets.bars(listing, "1h", first, 26, now)
    if not len(bars):  # of a market that began in this hour
        first = tape.first_open(MINUTE_MS)
        bars = markets.bars(listing, "1m", first, 61, now)
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
