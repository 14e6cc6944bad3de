"""Books kept through long streams that lose, double, swap and spoil messages: the venue's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import make_mocked_request

from data.sources.book_messages import Print, said_of, snapshot_of
from data.sources.line import Patience
from data.sources.live_books import Event, LiveBooks, book_streams, trade_streams
from data.sources.order_book import Diff, Snapshot
from domain.errors import DataRefused, ServiceUnreachable
from domain.market import BookSnapshot, Market, Trade
from sim.venue.market import Markets
from sim.venue.messages import said, stream_of
from sim.venue.server import application
from sim.venue.tape import STEP_MS
from tests.venue_server import BTC, markets

SYMBOL: dict[Market, str] = {"spot": BTC, "perp": f"{BTC}:USDT"}
DEPTH: dict[Market, str] = {"spot": "/api/v3/depth", "perp": "/fapi/v1/depth"}
LOST, TWICE, LATE, SPOILT = 0.004, 0.01, 0.004, 0.002  # of the messages
NEVER = Patience(first_wait=1e-4, longest_wait=1e-3)


class Venue:
    """The venue without sockets: what its streams say from print to print, and its HTTP answers."""

    def __init__(self, market: Market, seed: int) -> None:
        self.wall_ms, self.market, self.rng = 0, market, np.random.default_rng(seed)
        self.made: Markets = markets(now=lambda: self.wall_ms, speed=1.0)
        self.listing = self.made.listing(market, "BTCUSDT")
        self.streams = [
            stream_of(name, market, self.made)
            for name in [
                *book_streams(["BTCUSDT"], market).split("/"),
                *([] if market == "spot" else [trade_streams(["BTCUSDT"])]),
            ]
        ]
        # weights are counted by a time that runs, or it would soon refuse to answer
        self.app = application(self.made, lambda: self.wall_ms * 1_000)
        self.told = 0

    def prints(self, n: int) -> Iterator[list[str]]:
        """Iterate over the messages of n prints."""
        at = self.made.clock.now() // STEP_MS * STEP_MS
        for _ in range(n):
            at += STEP_MS
            self.wall_ms += at - self.made.clock.now()
            bodies = (
                body
                for stream in self.streams
                for body in said(stream, self.made, at)  # type: ignore[arg-type]
            )
            yield [json.dumps(body) for body in bodies]

    def spoilt(self, n: int) -> Iterator[str]:
        """Iterate over what arrives of n prints."""
        late: list[str] = []
        for texts in self.prints(n):
            for text in texts:
                draw = self.rng.random()
                if draw < LOST:
                    continue
                if draw < LOST + LATE:
                    late.append(text)
                    continue
                bad = draw > 1.0 - SPOILT
                yield text[: len(text) // 2] if bad else text
                if draw < LOST + LATE + TWICE:
                    yield text
            yield from late[:1]
            late = late[1:]

    async def depth(self, symbol: str) -> Snapshot:
        """Answer as over HTTP; late, not at all, or with a book of before the question."""
        draw = self.rng.random()
        if draw < 0.1:
            raise ServiceUnreachable("venue", "does not answer")
        if draw < 0.6:
            await later(int(self.rng.integers(1, 8)))
        request = make_mocked_request(
            "GET", f"{DEPTH[self.market]}?symbol=BTCUSDT&limit=1000", app=self.app
        )
        answer = await (await self.app.router.resolve(request)).handler(request)
        body: dict[str, Any] = json.loads(answer.text)  # type: ignore[attr-defined]
        if draw > 0.8:
            await later(int(self.rng.integers(1, 8)))
        return snapshot_of(body, symbol, 1_000)

    def book(self, at: int) -> BookSnapshot:
        return self.made.book(self.listing, 1_000, at)


async def later(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def top(book: BookSnapshot, n: int = 20) -> BookSnapshot:
    return BookSnapshot(book.symbol, book.at, book.bids[:n], book.asks[:n])


def kept(market: Market, n: int, seed: int) -> LiveBooks:
    """Keep a book through n prints, and compare it with the venue's wherever it began anew."""
    venue, symbol = Venue(market, seed), SYMBOL[market]
    feed = LiveBooks(["ws://none"], {"BTCUSDT": symbol}, venue.depth, print, NEVER, seed)
    garbage, before, trades, compared, ended = 0, 0, list[Trade](), 0, False

    async def line() -> AsyncGenerator[Diff | Print, None]:
        nonlocal garbage
        for text in venue.spoilt(n):
            await asyncio.sleep(0)
            try:
                one = said_of(text, feed.symbols)
            except DataRefused:
                garbage += 1
                continue
            assert isinstance(one, Diff | Print)
            yield one
        for texts in venue.prints(1_000):  # nothing is lost any more
            if feed.book(symbol).view() is not None:
                break
            for text in texts:
                await asyncio.sleep(1e-4)
                yield said_of(text, feed.symbols)  # type: ignore[misc]
        require_whole()

    def see(event: Event, number: int) -> None:
        nonlocal before, compared
        if isinstance(event, Trade):
            trades.append(event)
            return
        assert event.at > before
        if event.at != before + STEP_MS or number % 97 == 0:  # it had been lost
            assert event == top(venue.book(event.at))
            compared += 1
        before = event.at

    def require_whole() -> None:
        nonlocal ended
        book = feed.book(symbol)
        assert not book.lost
        (bids, asks), own = book.sides(), venue.book(book.update * STEP_MS)
        assert set(bids) == {level for level in own.bids if level[0] >= bids[-1][0]}
        assert set(asks) == {level for level in own.asks if level[0] <= asks[-1][0]}
        assert min(len(bids), len(asks)) > 200
        ended = True

    async def run() -> None:
        number = 0
        async for name, event in feed.follow(line()):
            assert name == symbol
            number += 1
            see(event, number)

    asyncio.run(run())
    assert ended
    assert garbage > 0
    assert compared > feed.health.resyncs
    ats = [trade.at for trade in trades]
    assert ats == sorted(set(ats))
    return feed


def require_troubled(feed: LiveBooks, n: int) -> None:
    health = feed.health
    print(f"{n} diffs: {health}")
    assert health.gaps > 0.004 * n
    assert health.resyncs > 0.004 * n
    assert health.refused > 0
    assert health.repeated > 0.005 * n
    assert health.crossed == 0


@pytest.mark.long
@pytest.mark.parametrize("market", ["spot", "perp"])
def test_a_book_with_gaps_doubles_and_swaps_is_the_venue_s_after_ten_thousand_messages(
    market: Market,
) -> None:
    require_troubled(kept(market, 5_000, seed=5), 5_000)


@pytest.mark.slow
@pytest.mark.parametrize("market", ["spot", "perp"])
def test_a_book_with_gaps_doubles_and_swaps_is_the_venue_s_after_100_000_diffs(
    market: Market,
) -> None:
    require_troubled(kept(market, 100_000, seed=6), 100_000)
