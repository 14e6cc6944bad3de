"""How live books are begun anew: in the background while they are sure, after a loss where not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from data.sources.book_messages import Print
from data.sources.line import Patience
from data.sources.live_books import Event, LiveBooks, book_streams, trade_streams
from data.sources.order_book import Diff, Level, Snapshot
from domain.market import BookSnapshot, Trade

SPOT, T0 = "BTC/USDT", 1_735_689_600_000
AT_ONCE = Patience(first_wait=0.0, longest_wait=0.0)
ASKS = ((101.0, 1.0), (102.0, 1.0))


def bids(first: int, n: int) -> tuple[Level, ...]:
    return tuple((float(first - k), 1.0) for k in range(n))


def diff(number: int, *changes: Level) -> Diff:
    return Diff(SPOT, T0 + number, number, number, None, changes, ())


def followed(
    said: Sequence[Diff | Print], answers: Sequence[Snapshot]
) -> tuple[list[Event], LiveBooks]:
    """Return what is made of a line, where one snapshot after the other is answered."""
    left = list(answers)

    async def ask(symbol: str) -> Snapshot:
        assert symbol == SPOT
        return left.pop(0)

    feed = LiveBooks(["ws://none"], {"BTCUSDT": SPOT}, ask, print, AT_ONCE, levels=2)

    async def line() -> AsyncGenerator[Diff | Print, None]:
        for one in said:
            yield one
            for _ in range(5):  # an answer is there with the next message
                await asyncio.sleep(0)

    async def run() -> list[Event]:
        return [event async for _, event in feed.follow(line())]

    events = asyncio.run(run())
    assert not left
    return events, feed


def bests(events: Sequence[Event]) -> list[tuple[int, float]]:
    return [
        (event.at - T0, event.bids[0][0]) for event in events if isinstance(event, BookSnapshot)
    ]


def begun(update: int, first: int) -> Snapshot:
    return Snapshot(SPOT, update, bids(first, 10), ASKS, 10)


def test_a_book_that_becomes_narrow_is_begun_anew_without_a_pause() -> None:
    said = [diff(number, (101.0 - number, 0.0)) for number in range(1, 11)]  # the bids fall
    events, feed = followed(said, [begun(0, 100), begun(4, 96), begun(8, 92)])
    assert bests(events) == [(number, 100.0 - number) for number in range(2, 11)]
    assert (feed.health.asked, feed.health.resyncs, feed.health.thin) == (3, 0, 0)


def test_a_snapshot_that_does_not_fit_leaves_a_sure_book_as_it_is() -> None:
    said = [diff(number, (101.0 - number, 0.0)) for number in range(1, 7)]
    stale = begun(1, 99)  # older than all that waited for it
    events, feed = followed(said, [begun(0, 100), stale, begun(5, 95)])
    assert bests(events) == [(number, 100.0 - number) for number in range(2, 7)]
    assert (feed.health.gaps, feed.health.resyncs) == (0, 0)


def test_diffs_that_waited_for_a_snapshot_are_told_once_as_they_are_by_then() -> None:
    said = [diff(1), diff(2), diff(4, (100.0, 0.0)), diff(5), diff(6, (99.0, 7.0))]
    events, feed = followed(said, [begun(0, 100), begun(3, 100)])
    assert bests(events) == [(2, 100.0), (5, 99.0), (6, 99.0)]
    assert (feed.health.gaps, feed.health.resyncs) == (1, 1)


def test_trades_are_told_once_and_those_that_nobody_told_of_are_counted() -> None:
    def trade(number: int) -> Print:
        return Print(SPOT, number, Trade(T0 + number, 100.0, 1.0, False))

    numbers = [50_000, 50_001, 50_001, 50_000, 50_005, 7, 8]  # and the exchange began anew
    events, feed = followed([trade(number) for number in numbers], [])
    assert [event.at - T0 for event in events] == [50_000, 50_001, 50_005, 7, 8]
    assert (feed.health.repeated, feed.health.missed) == (2, 3)


def test_streams_are_those_that_the_markets_document() -> None:
    assert book_streams(["BTCUSDT"], "spot") == "btcusdt@depth@100ms/btcusdt@trade"
    both = ["BTCUSDT", "ETHUSDT"]
    assert book_streams(both, "perp") == "btcusdt@depth@100ms/ethusdt@depth@100ms"
    assert trade_streams(both) == "btcusdt@aggTrade/ethusdt@aggTrade"
