"""Recorded order books of real markets, told to the feed as snapshot and diffs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.books import read_books, recording_of
from data.sources.book_messages import said_of
from data.sources.order_book import Diff, OrderBook, Snapshot
from domain.market import BookSnapshot, market_of
from tests.recordings import DEPTHS, FOLDER, agreement

BOOK = 1_000  # levels that are asked for: those of the recordings are all there are

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
    books = replayed(path)
    best = np.array([[*book.bids[0], *book.asks[0]] for book in books])
    found = agreement(path, np.arange(len(books)), best)
    print(path.name, found)
    assert found.matched > 0.99
    assert found.prices > 0.998
    assert found.whole > 0.94
    assert found.held > 0.999
    assert found.stale < 0.2
