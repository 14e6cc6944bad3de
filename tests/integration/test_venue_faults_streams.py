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

from sim.venue.tape import STEP_MS
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
            return await asyncio.wait_for(act(socket), 60)

    return asyncio.run(run())


async def heard(socket: ClientConnection, n: int) -> list[Any]:
    return [json.loads(await asyncio.wait_for(socket.recv(), 10)) for _ in range(n)]


async def heard_until(socket: ClientConnection, enough: Callable[[list[Any]], object]) -> list[Any]:
    """Hear what was on its way when a fault was asked for, however much, and what followed."""
    said: list[Any] = []
    while not enough(said):
        said += await heard(socket, 1)
    return said


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
    async def act(socket: ClientConnection) -> tuple[bool, list[int]]:
        before = await heard(socket, 1)
        await asked(venue, "silence", pings=pings, for_s=600)
        try:
            await asyncio.wait_for(await socket.ping(), 10.0 if pings else 0.5)
            answered = True
        except TimeoutError:
            answered = False
        while (await asyncio.to_thread(did, venue, "silence"))["strikes"] <= 20:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(venue.end)
        said = await heard_until(socket, lambda said: any(missing(before + said)))
        return answered, missing(before + said)

    def missing(said: list[Any]) -> list[int]:
        return [later["t"] - before["t"] - 1 for before, later in pairwise(said)]

    answered, missed = listen(venue, TRADES, act, ping_interval=None)
    assert answered == pings
    lost = did(venue, "silence")["strikes"]
    assert lost > 20
    assert sum(missed) == missed[-1] == lost  # what was not said is lost


def test_messages_come_late_in_their_order(venue: Scene) -> None:
    async def act(socket: ClientConnection) -> list[int]:
        await heard(socket, 1)
        await asked(venue, "delay", least_ms=200, most_ms=300, for_s=600)
        late: list[tuple[int, int]] = []
        while len(late) < 150 or max(late)[0] < least:
            [body] = await heard(socket, 1)
            late.append((venue.made.clock.now() - body["T"], body["t"]))
        assert [number for _, number in late] == sorted(number for _, number in late)
        return [age for age, _ in late]

    least = 200 * 240  # 200 ms of the wall, in market time
    assert max(listen(venue, TRADES, act)) >= least
    assert did(venue, "delay")["strikes"] > 0


@pytest.mark.long
def test_messages_are_lost_doubled_and_change_places_in_their_share(venue: Scene) -> None:
    def numbers(kind: str, **values: Any) -> Any:
        async def act(socket: ClientConnection) -> list[int]:
            await asked(venue, kind, share=0.3, **values)
            last = venue.made.clock.now() // STEP_MS  # up to this some were sent before the fault
            said = await heard_until(socket, lambda said: said and said[-1]["t"] > last)
            return [body["t"] for body in [*said[-1:], *await heard(socket, 99)]]

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
        after = await heard_until(socket, lambda said: any(n > 1 for n in steps_of(before + said)))
        return before + after + await heard(socket, 20)

    def steps_of(said: list[Any]) -> list[int]:
        books = [body["data"] for body in said if body["data"]["e"] == "depthUpdate"]
        return [later["U"] - before["u"] for before, later in pairwise(books)]

    said = listen(venue, f"{prefix}/stream?streams=btcusdt@depth@100ms/btcusdt@trade", act)
    trades = [body["data"]["t"] for body in said if body["data"]["e"] == "trade"]
    assert sorted(steps_of(said))[-2:] == [1, 5]
    assert set(np.diff(trades)) == {1}  # of the books only
    assert did(venue, "gap")["strikes"] == 1


@pytest.mark.parametrize("what", ["no_json", "wrong_types", "truncated", "huge"])
def test_messages_arrive_broken(venue: Scene, what: str) -> None:
    async def act(socket: ClientConnection) -> list[str]:
        await asked(venue, "garbage", what=what, kilobytes=2_048)
        while whole(text := str(await socket.recv())):  # sent before
            pass
        return [text, *[str(await socket.recv()) for _ in range(4)]]

    def whole(text: str) -> bool:
        with suppress(json.JSONDecodeError):
            return isinstance(json.loads(text).get("t"), int)
        return False

    texts = listen(venue, TRADES, act, max_size=1 << 23)
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
        now = venue.made.clock.now()
        await asked(venue, "skew", ms=hour)
        said = await heard_until(socket, lambda said: said and said[-1]["data"]["E"] > now + hour)
        return said[-1:] + await heard(socket, 5)

    hour = 3_600_000
    said = listen(venue, "/stream?streams=btcusdt@trade/btcusdt@kline_1m", act)
    bodies = [each["data"] for each in said]
    assert {body["e"] for body in bodies} == {"trade", "kline"}
    for body in bodies:
        at = body["E"] - hour  # of the print
        if body["e"] == "trade":
            assert (at, body["T"] - hour) == (body["t"] * STEP_MS, body["t"] * STEP_MS)
        else:
            assert body["k"]["t"] in (at // 60_000 * 60_000, at - 60_000)  # or that which is over


@pytest.mark.long
def test_a_halt_stops_prints_and_bars_and_the_book_goes_on_without_a_gap(venue: Scene) -> None:
    minute = 60_000

    async def act(socket: ClientConnection) -> list[Any]:
        await heard(socket, 1)
        await asked(venue, "halt", symbol="BTCUSDT", market="spot", clock="market",
                    from_s=60, for_s=400)  # fmt: skip
        return await heard_until(socket, lambda said: len(said) >= 900 and over(said[-1]["data"]))

    def over(body: Any) -> bool:
        return body["e"] == "trade" and body["s"] == "BTCUSDT" and body["T"] > halt()[1]

    def halt() -> tuple[int, int]:
        return venue.made.halts._of["spot", "BTCUSDT"][-1]

    names = "btcusdt@trade/btcusdt@kline_1m/btcusdt@depth@100ms/ethusdt@trade"
    said = [body["data"] for body in listen(venue, f"/stream?streams={names}", act)]
    told = did(venue, "halt")
    start, end = halt()
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
