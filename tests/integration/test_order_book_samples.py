"""Recorded order books of real markets, told to the feed as snapshot and diffs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.books import read_books, recording_of
from data.sources.book_messages import said_of
from data.sources.order_book import Diff, OrderBook, Snapshot
from domain.market import BookSnapshot, market_of

SAMPLES = os.environ.get("CONCLAVE_SAMPLES", "")
FOLDER = Path(SAMPLES) if SAMPLES else None
DEPTHS = sorted(FOLDER.glob("*-l2top20-*.parquet")) if FOLDER else []
BOOK = 1_000  # levels that are asked for: those of the recordings are all there are
LATE_NS = 10_000_000  # by which a book may come after the quote that it holds

pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="CONCLAVE_SAMPLES is unset: no folder of real sample recordings"
)


def changes(before: Any, after: Any) -> list[list[str]]:
    old, new = dict(before), dict(after)
    gone = [[str(price), "0"] for price in old if price not in new]
    return gone + [[str(p), str(q)] for p, q in new.items() if old.get(p) != q]


def messages(books: list[BookSnapshot], name: str, perp: bool) -> Iterator[str]:
    """Iterate over the diffs between recordings, as the exchange words them."""
    for number, (before, after) in enumerate(pairwise(books), 1):
        body: dict[str, Any] = {
            "e": "depthUpdate", "E": after.at, "s": name, "U": 10 * number - 9, "u": 10 * number,
            "b": changes(before.bids, after.bids), "a": changes(before.asks, after.asks),
        }  # fmt: skip
        if perp:
            body |= {"T": after.at, "pu": 10 * number - 10}
        yield json.dumps(body)


def replayed(path: Path) -> list[BookSnapshot]:
    """Return what the feed's book was after every recording, each of which it must equal."""
    symbol, _ = recording_of(path)
    name, recorded = symbol.split(":")[0].replace("/", ""), list(read_books(path))
    book = OrderBook(symbol)
    book.start(Snapshot(symbol, 0, recorded[0].bids, recorded[0].asks, BOOK))
    views = [recorded[0]]
    for text, own in zip(
        messages(recorded, name, market_of(symbol) == "perp"), recorded[1:], strict=True
    ):
        diff = said_of(text, {name: symbol})
        assert isinstance(diff, Diff)
        assert book.apply(diff), book.lost
        view = book.view()
        assert view == own
        views.append(own)
    return views


@pytest.mark.long
@pytest.mark.parametrize("path", DEPTHS, ids=lambda path: path.name[:38])
def test_a_replayed_book_is_the_recorded_one_and_shows_the_recorded_best_quotes(path: Path) -> None:
    """Match every book with quotes of the other stream, whose numbers the books do not tell.

    Of perpetuals both are stamped by the exchange. A book was made between its transaction time T
    and its event time E: its prices are compared with the last quote at or before E, and all of
    price and quantity with the quotes that held at some instant of [T, E]. Spot's quotes have no
    stamp of the exchange: both are matched by the time of receipt on one machine, its prices with
    the last quote received by then, price and quantity with those of the 10 ms before.
    """
    books = replayed(path)
    best = np.array([[*book.bids[0], *book.asks[0]] for book in books])
    depth = pq.read_table(path, columns=["ts", "T", "local_ns"]).to_pydict()
    ticker = pq.read_table(path.with_name(path.name.replace("l2top20", "bookticker"))).to_pydict()
    quotes = np.array([ticker[name] for name in ("bid", "bid_qty", "ask", "ask_qty")]).T
    if any(ticker["ts"]):
        stamps, since, until = (
            np.array(x) for x in (ticker["ts"], depth["T"], depth["ts"])
        )  # fmt: skip
    else:
        stamps, until = np.array(ticker["local_ns"]), np.array(depth["local_ns"])
        since = until - LATE_NS
    last = np.searchsorted(stamps, until, side="right") - 1
    first = np.searchsorted(stamps, since, side="left") - 1  # held until the first of them
    both = first >= 0
    assert both.mean() > 0.99
    prices = (quotes[last] == best)[both][:, [0, 2]].all(axis=1).mean()
    whole = (quotes[last] == best)[both].all(axis=1).mean()
    held = np.mean([
        (quotes[a : b + 1] == row).all(axis=1).any()
        for a, b, row in zip(first[both], last[both], best[both], strict=True)
    ])  # fmt: skip
    second = 1_000 if any(ticker["ts"]) else 1_000_000_000
    stale = np.searchsorted(stamps, until - second, side="right") - 1  # for comparison
    stale_whole = (quotes[stale] == best)[stale >= 0].all(axis=1).mean()
    print(f"{path.name}: {both.sum()} books; best prices of the last quote {prices:.4%}, "
          f"quantities as well {whole:.4%}; a quote that held {held:.4%}; "
          f"the quote of a second before {stale_whole:.4%}")  # fmt: skip
    assert prices > 0.998
    assert whole > 0.94
    assert held > 0.999
    assert stale_whole < 0.2
