"""Faults of streams, as a plain WebSocket client meets them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.fault_scenes import Scene, scene

TRADES = "/ws/btcusdt@trade"
Client = Callable[[ClientConnection], Awaitable[Any]]


@pytest.fixture(scope="module")
def served() -> Iterator[Scene]:
    with scene(speed=240.0) as found:  # a print each 10 ms
        yield found


@pytest.fixture
def venue(served: Scene) -> Iterator[Scene]:
    yield served
    served.end()


def listen(venue: Scene, path: str, act: Client, **options: Any) -> Any:
    async def run() -> Any:
        address = venue.url.replace("http", "ws") + path
        async with connect(address, max_queue=None, **options) as socket:
            return await asyncio.wait_for(act(socket), 15)

    return asyncio.run(run())


async def heard(socket: ClientConnection, n: int) -> list[Any]:
    return [json.loads(await asyncio.wait_for(socket.recv(), 10)) for _ in range(n)]


async def asked(venue: Scene, kind: str, **values: Any) -> dict[str, Any]:
    return await asyncio.to_thread(venue.fault, kind, **values)


def did(venue: Scene, kind: str) -> dict[str, Any]:
    told = venue.faults()
    return next(each for each in told["active"] + told["done"][::-1] if each["fault"] == kind)


@pytest.mark.parametrize(("code", "seen"), [(1012, 1012), (4001, 4001), (0, 1006)])
def test_connections_are_cut_with_a_code_or_without(venue: Scene, code: int, seen: int) -> None:
    async def act(socket: ClientConnection) -> int:
        await heard(socket, 2)
        await asked(venue, "disconnect", code=code)
        with pytest.raises(ConnectionClosed) as told:
            await heard(socket, 10_000)
        return 1006 if told.value.rcvd is None else told.value.rcvd.code

    assert listen(venue, TRADES, act) == seen
    assert did(venue, "disconnect")["strikes"] == 1
    assert listen(venue, TRADES, lambda socket: heard(socket, 1))  # and take the next one


def test_only_connections_of_a_pattern_are_cut(venue: Scene) -> None:
    async def act(socket: ClientConnection) -> None:
        await asked(venue, "disconnect", streams="*@kline_*")
        await heard(socket, 5)

    listen(venue, TRADES, act)
    assert did(venue, "disconnect")["strikes"] == 0


@pytest.mark.parametrize(("status", "error"), [(503, InvalidStatus), (0, InvalidMessage)])
def test_new_connections_are_refused_and_standing_ones_stay(
    venue: Scene, status: int, error: type[Exception]
) -> None:
    async def act(socket: ClientConnection) -> None:
        await asked(venue, "refuse", status=status, for_s=60)
        with pytest.raises(error):
            await asyncio.to_thread(listen, venue, TRADES, lambda other: heard(other, 1))
        await heard(socket, 3)

    listen(venue, TRADES, act)
    venue.end()
    assert listen(venue, TRADES, lambda socket: heard(socket, 1))


@pytest.mark.parametrize("pings", [True, False])
def test_a_silent_line_stands_and_answers_pings_or_not(venue: Scene, pings: bool) -> None:
    async def act(socket: ClientConnection) -> tuple[bool, int]:
        before = (await heard(socket, 1))[0]["t"]
        await asked(venue, "silence", pings=pings, for_s=0.6)
        with suppress(TimeoutError):
            while True:  # what was on its way
                await asyncio.wait_for(socket.recv(), 0.15)
        try:
            await asyncio.wait_for(await socket.ping(), 0.15)
            answered = True
        except TimeoutError:
            answered = False
        return answered, (await heard(socket, 1))[0]["t"] - before

    answered, missed = listen(venue, TRADES, act, ping_interval=None)
    assert answered == pings
    assert missed > 20  # what was not said is lost


def test_messages_come_late_in_their_order(venue: Scene) -> None:
    async def act(socket: ClientConnection) -> list[int]:
        await heard(socket, 1)
        await asked(venue, "delay", least_ms=200, most_ms=300, for_s=1)
        late = []
        for _ in range(150):
            [body] = await heard(socket, 1)
            late.append((venue.made.clock.now() - body["T"], body["t"]))
        assert [number for _, number in late] == sorted(number for _, number in late)
        return [age for age, _ in late]

    ages = listen(venue, TRADES, act)
    assert max(ages) >= 200 * 240  # 200 ms of the wall, in market time


@pytest.mark.long
def test_messages_are_lost_doubled_and_change_places_in_their_share(venue: Scene) -> None:
    def numbers(kind: str, **values: Any) -> Any:
        async def act(socket: ClientConnection) -> list[int]:
            await asked(venue, kind, share=0.3, **values)
            return [body["t"] for body in await heard(socket, 100)]

        found = np.array(listen(venue, TRADES, act))
        venue.end()
        return found

    lost = numbers("drop")
    assert 0.1 < 1.0 - 99 / (lost[-1] - lost[0]) < 0.5
    assert np.all(np.diff(lost) > 0)
    again = numbers("duplicate", copies=2)
    assert 10 < np.sum(np.diff(again) == 0) < 80
    assert len(set(again)) == again[-1] - again[0] + 1
    moved = numbers("reorder", span=2)
    assert np.any(np.diff(moved) < 0)
    assert len(set(moved)) == 100  # none is lost, none comes twice


@pytest.mark.parametrize("prefix", ["", "/fstream"])
def test_the_numbers_of_a_book_skip(venue: Scene, prefix: str) -> None:
    async def act(socket: ClientConnection) -> list[Any]:
        before = await heard(socket, 4)
        await asked(venue, "gap", count=4, times=1)
        return before + await heard(socket, 40)

    said = listen(venue, f"{prefix}/stream?streams=btcusdt@depth@100ms/btcusdt@trade", act)
    books = [body["data"] for body in said if body["data"]["e"] == "depthUpdate"]
    trades = [body["data"]["t"] for body in said if body["data"]["e"] == "trade"]
    steps = [later["U"] - before["u"] for before, later in pairwise(books)]
    assert sorted(steps)[-2:] == [1, 5]
    assert set(np.diff(trades)) == {1}  # of the books only
    assert did(venue, "gap")["strikes"] == 1


@pytest.mark.parametrize("what", ["no_json", "wrong_types", "truncated", "huge"])
def test_messages_arrive_broken(venue: Scene, what: str) -> None:
    async def act(socket: ClientConnection) -> list[str]:
        await asked(venue, "garbage", what=what, kilobytes=2_048)
        return [str(await socket.recv()) for _ in range(10)]

    texts = listen(venue, TRADES, act, max_size=1 << 23)[-5:]
    for text in texts:
        if what == "huge":
            assert len(text) > 2 << 20
        elif what == "wrong_types":
            assert isinstance(json.loads(text)["t"], list)
            assert isinstance(json.loads(text)["p"], dict)
        else:
            with pytest.raises(json.JSONDecodeError):
                json.loads(text)
    assert did(venue, "garbage")["did"][what] >= 5


def test_a_huge_message_ends_a_usual_client(venue: Scene) -> None:
    async def act(socket: ClientConnection) -> int:
        await asked(venue, "garbage", what="huge", times=1)
        with pytest.raises(ConnectionClosed) as told:
            await heard(socket, 1_000)
        assert told.value.sent is not None
        return told.value.sent.code

    assert listen(venue, TRADES, act) == 1009


def test_stamps_of_a_wrong_clock_are_wrong_and_bars_are_not(venue: Scene) -> None:
    async def act(socket: ClientConnection) -> list[Any]:
        await asked(venue, "skew", ms=3_600_000)
        return (await heard(socket, 20))[-4:]

    said = listen(venue, "/stream?streams=btcusdt@trade/btcusdt@kline_1m", act)
    for body in (each["data"] for each in said):
        assert body["E"] - venue.made.clock.now() > 3_000_000
        if body["e"] == "kline":
            assert body["k"]["t"] <= venue.made.clock.now()


@pytest.mark.long
def test_a_halt_stops_prints_and_bars_and_the_book_goes_on_without_a_gap(venue: Scene) -> None:
    minute = 60_000

    async def act(socket: ClientConnection) -> list[Any]:
        await heard(socket, 1)
        await asked(venue, "halt", symbol="BTCUSDT", market="spot", clock="market",
                    from_s=60, for_s=400)  # fmt: skip
        return await heard(socket, 900)

    names = "btcusdt@trade/btcusdt@kline_1m/btcusdt@depth@100ms/ethusdt@trade"
    said = [body["data"] for body in listen(venue, f"/stream?streams={names}", act)]
    told = did(venue, "halt")
    [(start, end)] = venue.made.halts._of["spot", "BTCUSDT"][-1:]
    assert (end - start, told["strikes"]) == (400_000, 1)
    prints = [body["T"] for body in said if body["e"] == "trade" and body["s"] == "BTCUSDT"]
    assert not [at for at in prints if start <= at < end]
    assert min(prints) < start
    assert max(prints) > end
    assert [body for body in said if body["s"] == "ETHUSDT" and start <= body["E"] < end]
    books = [body for body in said if body["e"] == "depthUpdate"]
    assert all(later["U"] == before["u"] + 1
               for before, later in pairwise(books))  # fmt: skip
    closed = [body["k"]["t"] for body in said if body["e"] == "kline" and body["k"]["x"]]
    whole = [at for at in closed if at >= start and at + minute <= end]
    assert not whole  # no bar of a minute without a print
    last = max(at for at in prints if at < start) // minute * minute
    first = min(at for at in prints if at > start) // minute * minute
    assert last in closed  # but that in which it began
    rows = _klines(venue, last - minute, 9)
    opened = [row[0] for row in rows]
    assert opened[:3] == [last - minute, last, first]
    parts = [body["k"] for body in said if body["e"] == "kline" and body["k"]["t"] == last]
    assert rows[1][1:6] == [parts[-1][name] for name in "ohlcv"]


def _klines(venue: Scene, start: int, n: int) -> Any:
    import urllib.request

    asked = f"{venue.url}/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime={start}&limit={n}"
    with urllib.request.urlopen(asked, timeout=10) as reply:
        return json.loads(reply.read())
