"""Changes of a book that wait for its snapshot: as many as it may need, however long that takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from data.sources.line import Patience
from data.sources.live_books import LiveBooks, Print
from data.sources.order_book import Diff, Snapshot
from domain.market import BookSnapshot

BTC = "BTC/USDT"
WAIT = Patience(first_wait=0.05, longest_wait=0.05)


def diff(number: int) -> Diff:
    return Diff(BTC, number, number, number, None, ((100.0, float(number)),), ())


def snapshot(number: int) -> Snapshot:
    return Snapshot(BTC, number, ((100.0, float(number)),), ((101.0, 1.0),), 1_000)


@pytest.mark.parametrize("older", [0, 30])
def test_changes_while_nothing_is_asked_are_let_go_and_the_answer_is_followed(older: int) -> None:
    told = 0
    waiting: list[int] = []
    asking = asyncio.Event()

    async def ask(symbol: str) -> Snapshot:
        waiting.append(len(feed._kept[symbol].waiting))
        if len(waiting) < 3:
            raise ConnectionResetError("cut")
        asking.set()
        at = told - older
        await asyncio.sleep(0.02)  # meanwhile the market goes on
        return snapshot(at)

    async def said() -> AsyncGenerator[Diff | Print, None]:
        nonlocal told
        while not asking.is_set() or told % 500:
            for _ in range(50):
                told += 1
                yield diff(told)
            await asyncio.sleep(0.001)
        for _ in range(100):
            told += 1
            yield diff(told)
            await asyncio.sleep(0.001)

    seen: list[BookSnapshot] = []

    async def run() -> None:
        async for _, event in feed.follow(said()):
            assert isinstance(event, BookSnapshot)
            seen.append(event)

    feed = LiveBooks(["ws://nobody"], {"BTCUSDT": BTC}, ask, lambda *_: None, WAIT)
    asyncio.run(run())
    assert told > 1_000
    assert len(waiting) == 3  # the last one was answered, and the answer joined what followed
    assert max(waiting) <= 64
    assert [event.bids[0][1] for event in seen[1:]] == [
        float(number) for number in range(int(seen[0].bids[0][1]) + 1, told + 1)
    ]
    assert feed.health.gaps == 0
