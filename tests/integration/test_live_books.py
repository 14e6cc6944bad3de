"""The live order books against the venue, while lines are cut and messages are lost on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from websockets.asyncio.server import ServerConnection

from data.flow import BookWatch
from data.sources.exchange import Caller, connect
from data.sources.history import History
from data.sources.line import Patience
from data.sources.live_books import (
    Ask,
    BooksHealth,
    Event,
    LiveBooks,
    book_streams,
    trade_streams,
)
from data.sources.order_book import Snapshot
from domain.errors import DataRefused, UsageError
from domain.market import BookSnapshot, Market, Trade
from sim.venue.market import Markets
from tests.relay import Relay, between, free_port
from tests.venue_server import BTC, ETH, markets, venue

SPEED = 600.0  # a print each 4 ms
NAMES: dict[Market, dict[str, str]] = {
    "spot": {"BTCUSDT": BTC, "ETHUSDT": ETH},
    "perp": {"BTCUSDT": f"{BTC}:USDT", "ETHUSDT": f"{ETH}:USDT"},
}
CALM = Patience(silence=30.0, first_wait=0.02, longest_wait=0.1)  # a busy machine pauses, too


def rest(url: str, market: Market) -> Ask:
    exchange = connect("binance", market, url)
    exchange.enableRateLimit = False
    history = History(Caller(exchange, lambda _: None))
    history.open()  # or the first snapshot would take as long as this, and be old

    async def ask(symbol: str) -> Snapshot:
        return await asyncio.to_thread(history.book, symbol)

    return ask


def lines(url: str, market: Market) -> list[str]:
    """Return the address of books, and that of trades where they are told at another one."""
    base, names = url.replace("http", "ws"), NAMES[market]
    books = book_streams(names, market)
    if market == "spot":
        return [f"{base}/stream?streams={books}"]
    trades = trade_streams(names)
    return [f"{base}/fstream/public/stream?streams={books}",
            f"{base}/fstream/market/stream?streams={trades}"]  # fmt: skip


def heard(
    made: Markets, n: int, market: Market = "spot", relay: Relay | None = None,
    until: Callable[[BooksHealth], bool] = lambda _: True,
) -> tuple[list[tuple[str, Event]], LiveBooks]:  # fmt: skip
    """Return n events and more, until something happened, and the feed.

    All events are the venue's own, or the test fails.
    """

    async def run(url: str) -> tuple[list[tuple[str, Event]], LiveBooks]:
        events, enough = list[tuple[str, Event]](), asyncio.Event()

        def see(symbol: str, event: Event) -> None:
            events.append((symbol, event))
            if len(events) >= n and until(feed.health):
                enough.set()

        own, tasks = lines(url, market), list[asyncio.Task[None]]()
        heard_at = own
        if relay is not None:
            ports = [free_port() for _ in own]
            heard_at = [f"ws://127.0.0.1:{port}" for port in ports]
            tasks += [
                asyncio.create_task(between(one, relay, port))
                for one, port in zip(own, ports, strict=True)
            ]
        feed = LiveBooks(
            heard_at[:1], NAMES[market], rest(url, market), see, CALM, trade_urls=heard_at[1:]
        )
        runs = [feed.run, *([feed.run_trades] if feed.trade_urls else [])]
        tasks += [asyncio.create_task(run()) for run in runs]
        try:
            async with asyncio.timeout(120):
                await enough.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return events, feed

    with venue(made=made) as url:
        events, feed = asyncio.run(run(url))
    for symbol in NAMES[market].values():
        require_own(made, market, symbol, [event for name, event in events if name == symbol])
    return events, feed


def require_own(made: Markets, market: Market, symbol: str, events: list[Event]) -> None:
    listing = made.listing(market, symbol.split(":")[0].replace("/", ""))
    books = [event for event in events if isinstance(event, BookSnapshot)]
    trades = [event for event in events if isinstance(event, Trade)]
    assert len(books) > 20
    assert len(trades) > 20
    for told in (books, trades):
        ats = [event.at for event in told]
        assert ats == sorted(set(ats))  # each once and in order
    for book in books:
        assert book == made.book(listing, 20, book.at)
    for trade in trades:
        own = made.tape(listing).prints(trade.at, trade.at + 1)
        assert (trade.price, trade.qty) == (own.price[0], own.qty[0])
        assert trade.buyer_is_maker == own.sold[0]


@pytest.fixture
def made() -> Markets:
    return markets(speed=SPEED)


@pytest.mark.parametrize("market", ["spot", "perp"])
def test_books_and_trades_of_two_symbols_are_the_venue_s(made: Markets, market: Market) -> None:
    events, feed = heard(made, 600, market)
    health = feed.health
    assert (health.connects, health.gaps, health.garbage, health.missed) == (1, 0, 0, 0)
    assert health.asked == 2
    assert health.problem == ""
    assert health.received > 100 * health.messages > 0
    watches = {symbol: BookWatch() for symbol in NAMES[market].values()}
    for symbol, event in events:
        watches[symbol].see(event)
    for watch in watches.values():
        view = watch.view(max(event.at for _, event in events) + 1)
        assert view.book is not None
        assert view.flow is not None
        assert view.trades


@pytest.mark.long
@pytest.mark.parametrize("market", ["spot", "perp"])
def test_books_are_the_venue_s_after_every_cut_and_every_loss(
    made: Markets, market: Market
) -> None:
    async def relay(number: int, listener: ServerConnection, message: str) -> bool:
        seen[number] = seen.get(number, 0) + 1
        if seen[number] % 71 == 0 and "btcusdt@depth" in message:
            lost.append(message)
        elif seen[number] % 89 == 0:
            await listener.send(message[:50])
        elif seen[number] % 53 == 0:
            await listener.send(message)
            await listener.send(message)
        else:
            await listener.send(message)
        return seen[number] < 400

    seen: dict[int, int] = {}
    lost: list[str] = []

    def enough(health: BooksHealth) -> bool:
        often = health.reconnects >= 3 and health.resyncs >= 6
        return often and health.gaps > 0 and health.garbage > 10 and health.repeated > 10

    _, feed = heard(made, 1_500, market, relay, enough)
    assert enough(feed.health)
    assert lost


@pytest.mark.long
def test_one_symbol_s_gap_does_not_disturb_the_other() -> None:
    made = markets(speed=150.0)  # beside other work, too, nobody is cut off for being too slow

    async def relay(number: int, listener: ServerConnection, message: str) -> bool:
        del number
        body = json.loads(message)
        if body["stream"] == "btcusdt@depth@100ms":
            count.append(1)
            if len(count) % 120 == 0:
                return True
        await listener.send(message)
        return True

    count: list[int] = []
    events, feed = heard(made, 1_000, relay=relay, until=lambda health: health.resyncs >= 3)
    eth = [event.at for name, event in events if name == ETH and isinstance(event, BookSnapshot)]
    btc = [event.at for name, event in events if name == BTC and isinstance(event, BookSnapshot)]
    steps = {after - before for before, after in pairwise(eth)}
    assert steps == {2_500}
    assert len({after - before for before, after in pairwise(btc)}) > 1
    assert 3 <= feed.health.resyncs <= feed.health.gaps
    assert feed.health.connects == 1


@pytest.mark.long
def test_a_snapshot_that_rest_refuses_is_asked_for_again_and_trades_go_on(made: Markets) -> None:
    asked: list[str] = []
    _, feed = heard_with(made, refusing(asked))
    assert feed.health.refused == 3
    assert feed.health.problem == ""
    assert asked.count(BTC) + asked.count(ETH) == feed.health.asked == 5


def refusing(asked: list[str]) -> Callable[[Ask], Ask]:
    def around(ask: Ask) -> Ask:
        async def refuse(symbol: str) -> Snapshot:
            asked.append(symbol)
            if len(asked) == 1:
                raise ConnectionResetError("cut")
            if len(asked) == 2:
                raise DataRefused("book", "is none")
            if len(asked) == 3:
                await asyncio.sleep(60)
            return await ask(symbol)

        return refuse

    return around


def heard_with(made: Markets, around: Callable[[Ask], Ask]) -> tuple[list[Event], LiveBooks]:
    events: list[Event] = []

    async def run(url: str) -> LiveBooks:
        there: set[str] = set()
        enough = asyncio.Event()

        def see(symbol: str, event: Event) -> None:
            events.append(event)
            if isinstance(event, BookSnapshot):
                there.add(symbol)
            if len(there) == 2:
                enough.set()
            elif not there and len(events) == 10:
                assert "no snapshot" in feed.health.problem or "no book" in feed.health.problem

        asks = around(rest(url, "spot"))
        patience = replace(CALM, silence=3.0)  # an answer that does not come is waited for so long
        feed = LiveBooks(lines(url, "spot"), NAMES["spot"], asks, see, patience)
        task = asyncio.create_task(feed.run())
        async with asyncio.timeout(90):
            await enough.wait()
        assert feed.book(BTC).view() is not None
        problem = feed.health.problem
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert problem == ""
        assert feed.book(BTC).view() is None  # nobody listens any more
        return feed

    with venue(made=made) as url:
        return events, asyncio.run(run(url))


def test_a_feed_without_an_address_or_a_symbol_is_refused() -> None:
    async def never(symbol: str) -> Snapshot:
        raise AssertionError(symbol)

    for urls, symbols in (([], {"BTCUSDT": BTC}), (["ws://127.0.0.1:1"], {})):
        with pytest.raises(UsageError, match="feed"):
            LiveBooks(urls, symbols, never, print)
    feed = LiveBooks(["http://127.0.0.1:1"], {"BTCUSDT": BTC}, never, print, CALM)
    with pytest.raises(UsageError, match="listens"):
        feed.book(ETH)
    with pytest.raises(UsageError, match="WebSocket"):
        asyncio.run(feed.run())


def test_what_the_reader_raises_is_not_taken_for_the_line_s(made: Markets) -> None:
    def see(symbol: str, event: Event) -> None:
        raise DataRefused("reader", f"wants nothing of {symbol}", event.at)

    async def run(url: str) -> None:
        feed = LiveBooks(lines(url, "spot"), NAMES["spot"], rest(url, "spot"), see, CALM)
        async with asyncio.timeout(30):
            await feed.run()

    with venue(made=made) as url, pytest.raises(DataRefused, match="reader"):
        asyncio.run(run(url))
