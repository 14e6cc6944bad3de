"""The live feed against the venue, while lines are cut, fall silent and talk nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from data.sources.exchange import Caller, connect
from data.sources.history import History
from data.sources.live import Backfill, Health, LiveBars, Patience
from data.sources.overdue import Overdue
from domain.errors import ServiceUnreachable, UsageError
from domain.market import Bar
from serving.live_feed import Place
from sim.venue.market import Markets
from tests.relay import Relay, between, free_port
from tests.venue_server import BTC, ETH, markets, venue

SPEED = 600.0  # a minute each tenth of a second
STREAMS = "/stream?streams=btcusdt@kline_1m/ethusdt@kline_1m"
NAMES = {"BTCUSDT": BTC, "ETHUSDT": ETH}
CALM = Patience(silence=30.0, first_wait=0.05, longest_wait=0.2)
QUICK = replace(CALM, silence=1.5)  # so long a busy machine may be silent as well


def rest(url: str) -> Backfill:
    exchange = connect("binance", "spot", url)
    exchange.enableRateLimit = False
    history = History(Caller(exchange, lambda _: None))

    def ask(symbol: str, timeframe: str, first: int) -> list[Bar]:
        pages = history.pages(symbol, timeframe, first, history.now())
        return [bar for page in pages for bar in page.bars()]

    async def backfill(symbol: str, timeframe: str, first: int) -> Sequence[Bar]:
        return await asyncio.to_thread(ask, symbol, timeframe, first)

    return backfill


def heard(
    made: Markets, n: int, relay: Relay | None = None, before: int = 5, broken_first: bool = False,
    patience: Patience = CALM, until: Callable[[Health], bool] = lambda _: True,
) -> tuple[list[Bar], LiveBars]:  # fmt: skip
    """Return the first n bars, or more until something happened, and the feed that brought them."""
    start = made.clock.now() // 60_000 * 60_000 - (before + 1) * 60_000

    async def run(url: str) -> tuple[list[Bar], LiveBars]:
        port = free_port()
        own = url.replace("http", "ws") + STREAMS
        urls = [own if relay is None else f"ws://127.0.0.1:{port}"]
        if broken_first:
            urls.insert(0, f"ws://127.0.0.1:{free_port()}")
        feed = LiveBars(
            urls, NAMES, ["1m"], rest(url), {(BTC, "1m"): start, (ETH, "1m"): start}, patience
        )
        spoiler = None if relay is None else asyncio.create_task(between(own, relay, port))
        bars: list[Bar] = []
        try:
            async with asyncio.timeout(120):
                async for bar in feed.bars():
                    bars.append(bar)
                    if len(bars) >= n and until(feed.health):
                        break
        finally:
            if spoiler is not None:
                spoiler.cancel()
        return bars, feed

    with venue(made=made) as url:
        bars, feed = asyncio.run(run(url))
    for symbol in (BTC, ETH):
        mine = [bar for bar in bars if bar.symbol == symbol]
        opens = [bar.open_ms for bar in mine]
        assert opens == list(range(start + 60_000, start + 60_000 * (len(opens) + 1), 60_000))
        tape = made.tape(made.listing("spot", symbol.replace("/", "")))
        own = tape.bars("1m", opens[0], len(opens), opens[-1] + 10 * 60_000)
        for name in ("open", "high", "low", "close", "volume"):
            np.testing.assert_array_equal([getattr(bar, name) for bar in mine], getattr(own, name))
    return bars, feed


@pytest.fixture
def made() -> Markets:
    return markets(speed=SPEED)


def test_bars_begin_with_what_was_missed_and_go_on_live(made: Markets) -> None:
    _, feed = heard(made, 60, until=lambda health: health.messages > 60)
    assert feed.health.filled >= 10
    assert feed.health.connects == 1
    assert feed.health.problem == ""
    assert feed.health.messages > 60


@pytest.mark.long
def test_lines_that_are_cut_lose_nothing_and_repeat_nothing(made: Markets) -> None:
    async def relay(number: int, listener: ServerConnection, message: str) -> bool:
        await listener.send(message)
        left[number] = left.get(number, 0) + 1
        return left[number] < 80

    left: dict[int, int] = {}
    _, feed = heard(made, 80, relay, until=lambda health: health.reconnects >= 2)
    assert feed.health.reconnects >= 2


def test_a_line_that_says_nothing_is_given_up_and_what_it_kept_back_is_asked_for(
    made: Markets,
) -> None:
    async def relay(number: int, listener: ServerConnection, message: str) -> bool:
        passed[number] = passed.get(number, 0) + 1
        if number > 1 or passed[number] <= 50:
            await listener.send(message)
        return True

    passed: dict[int, int] = {}
    _, feed = heard(
        made, 60, relay, patience=QUICK,
        until=lambda health: health.silences >= 1 and health.filled > 10,
    )  # fmt: skip
    assert feed.health.silences >= 1
    assert feed.health.filled > 10


@pytest.mark.long
def test_messages_that_are_dropped_doubled_or_nonsense_change_no_bar(made: Markets) -> None:
    async def relay(number: int, listener: ServerConnection, message: str) -> bool:
        del number
        if '"x":true' in message:
            seen.append(message)
            if len(seen) % 5 == 0:
                return True  # lost on the way
        for text in (message, "{garbage", message):
            await listener.send(text)
        return True

    seen: list[str] = []
    _, feed = heard(
        made, 60, relay, until=lambda health: health.garbage > 50 and health.repeated > 10
    )
    assert feed.health.garbage > 50
    assert feed.health.repeated > 10


@pytest.mark.parametrize("cut", [False, True], ids=["lost", "cut"])
def test_a_close_that_nobody_told_of_comes_before_the_next_one(cut: bool) -> None:
    """Its message is lost on a line that stands, or while the line was away at that moment."""
    # A bar each three seconds. It can be asked for 50 ms after its close; the line is back before.
    made, soon = markets(speed=20.0), Patience(silence=1.5, first_wait=0.005, longest_wait=0.2)

    async def relay(number: int, listener: ServerConnection, message: str) -> bool:
        if '"x":true' not in message:
            await listener.send(message)
            return True
        return not cut

    async def run(url: str) -> tuple[list[int], LiveBars]:
        port, start = free_port(), made.clock.now() // 60_000 * 60_000 - 60_000
        own = f"{url.replace('http', 'ws')}/stream?streams=btcusdt@kline_1m"
        place = Place("binance", "spot", url, made.clock)
        await asyncio.to_thread(place.history.open)
        feed = LiveBars(
            [f"ws://127.0.0.1:{port}"], {"BTCUSDT": BTC}, ["1m"], place.missing,
            {(BTC, "1m"): start}, soon, now=made.clock.now,
            overdue=Overdue(made.clock.now, 20.0, 20_000, soon),
        )  # fmt: skip
        spoiler = asyncio.create_task(between(own, relay, port))
        ages: list[int] = []
        try:
            async with asyncio.timeout(30), contextlib.aclosing(feed.bars()) as bars:
                async for bar in bars:
                    ages.append(made.clock.now() - bar.close_ms)
                    if len(ages) == 3:
                        break
        finally:
            spoiler.cancel()
            place.let_go()
        return ages, feed

    with venue(made=made) as url:
        ages, feed = asyncio.run(run(url))
    assert all(age < 60_000 for age in ages), ages
    assert feed.health.holes == 0
    assert feed.health.filled == 3
    assert (feed.health.reconnects > 0) is cut


def test_a_close_that_rest_does_not_tell_either_costs_no_line_and_few_questions() -> None:
    """Trading is halted, or REST fails: the line goes on, and so do the others on it."""
    made, asked = markets(speed=30.0), list[float]()

    async def backfill(symbol: str, timeframe: str, first: int) -> Sequence[Bar]:
        asked.append(time.monotonic())
        if len(asked) > 1:
            raise ServiceUnreachable("binance", "did not answer")
        return []

    async def run(url: str) -> LiveBars:
        last = made.clock.now() // 60_000 * 60_000 - 60_000
        patience = Patience(silence=5.0, first_wait=0.1, longest_wait=60.0)
        feed = LiveBars(
            [f"{url.replace('http', 'ws')}/stream?streams=btcusdt@trade"], {"BTCUSDT": BTC}, ["1m"],
            backfill, {(BTC, "1m"): last - 60_000}, patience,
            overdue=Overdue(made.clock.now, 30.0, 1_000, patience),
        )  # fmt: skip

        async def listen() -> None:
            async for _ in feed.bars():
                raise AssertionError

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3.0):
                await listen()
        return feed

    with venue(made=made) as url:
        feed = asyncio.run(run(url))
    assert (feed.health.connects, feed.health.lost, feed.health.problem) == (1, 0, "")
    assert 3 <= len(asked) <= 6  # at once, and after .1, .2, .4, .8 and 1.6 s
    for n, (before, later) in enumerate(pairwise(asked)):
        assert later - before >= 0.1 * 2.0**n


def test_a_close_that_rest_is_slow_to_tell_holds_up_no_other_symbol() -> None:
    """Its answer comes when the other's close was told long ago, and is handed on all the same."""
    made, patience = markets(speed=60.0), Patience(first_wait=0.1)
    told = asyncio.Event()  # of the other

    async def run(url: str) -> tuple[list[tuple[str, int]], int]:
        last = made.clock.now() // 60_000 * 60_000 - 60_000
        rested = rest(url)

        async def backfill(symbol: str, timeframe: str, first: int) -> Sequence[Bar]:
            if symbol == ETH and first > last:  # what is overdue, not what is asked for at once
                await told.wait()
            return await rested(symbol, timeframe, first)

        feed = LiveBars(
            [f"{url.replace('http', 'ws')}/stream?streams=btcusdt@kline_1m"], NAMES, ["1m"],
            backfill, dict.fromkeys(((BTC, "1m"), (ETH, "1m")), last - 60_000), patience,
            overdue=Overdue(made.clock.now, 60.0, 6_000, patience),
        )  # fmt: skip
        found: list[tuple[str, int]] = []
        async with asyncio.timeout(30), contextlib.aclosing(feed.bars()) as bars:
            async for bar in bars:
                found.append((bar.symbol, (bar.open_ms - last) // 60_000))
                if bar.symbol == BTC and bar.open_ms >= last + 120_000:
                    told.set()
                if bar.symbol == ETH and bar.open_ms > last:
                    break
        return found, feed.health.lost

    with venue(made=made) as url:
        found, lost = asyncio.run(run(url))
    for symbol in (BTC, ETH):
        mine = [n for name, n in found if name == symbol]
        assert mine == list(range(len(mine)))
    assert found.index((BTC, 2)) < found.index((ETH, 1))
    assert lost == 0


def test_the_backup_is_tried_where_the_main_address_is_gone(made: Markets) -> None:
    _, feed = heard(made, 16, broken_first=True)
    assert feed.health.connects == 1


@pytest.mark.long
def test_bars_that_rest_tells_late_are_waited_for_and_those_it_never_tells_are_counted(
    made: Markets,
) -> None:
    opened = made.clock.now() // 60_000 * 60_000
    tape = made.tape(made.listing("spot", "BTCUSDT"))

    def bar(n: int) -> Bar:
        return tape.bars("1m", opened + n * 60_000, 1, opened + 99 * 60_000).bar(0)

    def told(n: int) -> str:
        one = bar(n)
        values = dict(
            zip("ohlcv", (one.open, one.high, one.low, one.close, one.volume), strict=True)
        )
        body = {"t": one.open_ms, "s": "BTCUSDT", "i": "1m", "x": True, **values}
        return json.dumps({"e": "kline", "k": body})

    async def say(listener: ServerConnection) -> None:
        for n in (1, 3, 6):
            await listener.send(told(n))
        await listener.wait_closed()

    async def run() -> tuple[list[int], LiveBars]:
        asked: list[int] = []

        async def backfill(symbol: str, timeframe: str, first: int) -> Sequence[Bar]:
            del symbol, timeframe
            asked.append(first)
            late = [bar(2)] if asked.count(opened + 120_000) >= 2 else []  # 4 and 5 never
            return [one for one in late if one.open_ms >= first]

        port = free_port()
        async with serve(say, "127.0.0.1", port):
            feed = LiveBars([f"ws://127.0.0.1:{port}"], {"BTCUSDT": BTC}, ["1m"],
                            backfill, {(BTC, "1m"): opened}, CALM)  # fmt: skip
            found: list[int] = []
            async with asyncio.timeout(30):
                async for one in feed.bars():
                    found.append((one.open_ms - opened) // 60_000)
                    if len(found) == 4:
                        return found, feed
        raise AssertionError

    found, feed = asyncio.run(run())
    assert found == [1, 2, 3, 6]
    assert feed.health.holes == 2


def test_a_feed_without_an_address_or_a_beginning_is_refused() -> None:
    async def nothing(symbol: str, timeframe: str, first: int) -> Sequence[Bar]:
        del symbol, timeframe, first
        return []

    every = {(BTC, "1m"): 0, (ETH, "1m"): 0}
    for urls, last in ((["ws://127.0.0.1:1"], {(BTC, "1m"): 0}), ([], every)):
        with pytest.raises(UsageError, match="feed"):
            LiveBars(urls, NAMES, ["1m"], nothing, last)
