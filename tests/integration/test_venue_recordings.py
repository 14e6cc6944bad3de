"""Recorded books and trades served by the local exchange, heard by the feed, asked for by ccxt."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.books import read_books, recording_of
from data.sources.exchange import connect
from data.sources.live_books import LiveBooks, book_streams, trade_streams
from domain.market import BookSnapshot, Trade, market_of
from serving.live_feed import Place
from sim.venue.market import Markets, VenueClock
from sim.venue.recorded import Recording, recording
from tests.integration.test_venue_command import venue as command
from tests.recordings import DEPTHS, FOLDER, agreement
from tests.venue_server import venue, wall

pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="CONCLAVE_SAMPLES is unset: no folder of real sample recordings"
)
SPEED = 5.0
Heard = list[BookSnapshot | Trade]


def heard(made: Recording, seconds: float) -> Heard:
    """Listen to books and trades for so many seconds of the market."""
    clock = VenueClock(made.start_ms, wall, SPEED)
    markets, market = Markets({}, clock, recordings=[made]), market_of(made.symbol)
    names = {made.symbol.split(":")[0].replace("/", ""): made.symbol}
    until, events = made.start_ms + int(seconds * 1_000), Heard()

    async def listen(url: str) -> None:
        place = Place("binance", market, url)
        await asyncio.to_thread(place.history.open)
        enough = asyncio.Event()

        def see(symbol: str, event: BookSnapshot | Trade) -> None:
            events.append(event)
            if event.at >= until:
                enough.set()

        apart = market == "perp"
        feed = LiveBooks(
            place.streams(book_streams(names, market), "public"), names, place.book, see,
            trade_urls=place.streams(trade_streams(names), "market") if apart else (),
        )  # fmt: skip
        runs = [feed.run, feed.run_trades] if apart else [feed.run]
        running = [asyncio.create_task(run()) for run in runs]
        try:
            async with asyncio.timeout(60 + 5 * seconds / SPEED):
                await enough.wait()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        assert (feed.health.gaps, feed.health.garbage) == (0, 0)

    with venue(made=markets) as url:
        asyncio.run(listen(url))
    return events


def agrees(path: Path, seconds: float) -> None:
    made = recording(path)
    events = heard(made, min(seconds, (made.end_ms - made.start_ms) / 1_000 - 1))
    own, at = list(read_books(path)), pq.read_table(path, columns=["ts"])["ts"].to_numpy()
    books = [event for event in events if isinstance(event, BookSnapshot)]
    rows = np.searchsorted(at, [book.at for book in books], side="right") - 1
    for book, row in zip(books, rows.tolist(), strict=True):
        assert (book.bids, book.asks) == (own[row].bids, own[row].asks)
    # After the snapshot, at which the line was joined, no recorded book is left out.
    assert np.diff(rows).max() <= 2
    assert len(set(rows.tolist())) > 0.97 * (rows[-1] - rows[0])
    found = agreement(path, rows, np.array([[*book.bids[0], *book.asks[0]] for book in books]))
    print(path.name, found)
    assert found.prices > 0.99
    prints = [event for event in events if isinstance(event, Trade)]
    raw = pq.read_table(path.with_name(path.name.replace("l2top20", "trades"))).to_pydict()
    first = raw["ts"].index(prints[0].at)
    while raw["price"][first] != prints[0].price or raw["qty"][first] != prints[0].qty:
        first += 1
    told = slice(first, first + len(prints))
    assert [one.price for one in prints] == raw["price"][told]
    assert [one.qty for one in prints] == raw["qty"][told]
    assert [one.at for one in prints] == raw["ts"][told]


# Of each market one, which is enough for all but the whole of what was recorded.
SOME = list({market_of(recording_of(path)[0]): path for path in DEPTHS}.values())


@pytest.fixture(params=SOME, ids=lambda path: path.name[:38])
def path(request: pytest.FixtureRequest) -> Path:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.long
def test_the_feed_has_every_recorded_book_and_the_recorded_best_quotes(path: Path) -> None:
    agrees(path, 40.0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("whole", DEPTHS, ids=lambda path: path.name[:38])
def test_the_feed_has_them_over_the_whole_recording(whole: Path) -> None:
    agrees(whole, 1e6)


@pytest.mark.long
def test_ccxt_reads_a_venue_of_recordings(path: Path) -> None:
    made = recording(path)
    clock = VenueClock(made.start_ms + 150_000, wall, 0.0)
    markets, market = Markets({}, clock, recordings=[made]), market_of(made.symbol)
    with venue(made=markets) as url:
        client = connect("binance", market, url)
        client.load_markets()
        assert [name for name, one in client.markets.items() if one["active"]] == [made.symbol]
        book = client.fetch_order_book(made.symbol)
        own = next(b for b in reversed(list(read_books(path))) if b.at <= clock.now())
        assert [tuple(level[:2]) for level in book["bids"]] == list(own.bids)
        assert [tuple(level[:2]) for level in book["asks"]] == list(own.asks)
        trades = client.fetch_trades(made.symbol, limit=50)
        assert len(trades) == 50
        assert trades[-1]["price"] == made.tape.last(clock.now())[1]
        bars = client.fetch_ohlcv(made.symbol, "1m", limit=10)
        assert 2 <= len(bars) <= 4
        assert bars[-1][4] == trades[-1]["price"]
        assert client.fetch_ticker(made.symbol)["last"] == trades[-1]["price"]


@pytest.mark.long
def test_the_command_serves_them() -> None:
    symbol = recording_of(DEPTHS[0])[0]
    with command("--books", str(DEPTHS[0])) as url:
        client = connect("binance", market_of(symbol), url)
        assert len(client.fetch_order_book(symbol)["bids"]) == 20
