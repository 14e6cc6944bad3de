"""A line that cannot stand: what is told of it and what never is, and where it is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import pairwise

import pytest
from websockets.asyncio.server import ServerConnection, serve

from data.sources.line import Line, LineHealth, Patience, place_of
from domain.errors import UsageError
from tests.relay import free_port

SECRET = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"


async def through(said: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    async for one in said:
        yield one


def listened(url: str, health: LineHealth) -> None:
    """Listen until something is wrong."""

    async def listen() -> None:
        line: Line[str] = Line([url], str, Patience(), 7, health)
        async for _ in line.through(through):
            pass

    async def run() -> None:
        listening = asyncio.create_task(listen())
        async with asyncio.timeout(20.0):
            while not (health.problem or listening.done()):
                await asyncio.sleep(0.01)
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening

    asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1/private/ws?listenKey={SECRET}",
        f"127.0.0.1:8089/fstream/private/ws?listenKey={SECRET}",
        f"ws:///ws/{SECRET}",
        f"ws://127.0.0.1:port/ws/{SECRET}",
        f"ws://127.0.0.1:99999/ws/{SECRET}",
        f"ws://{SECRET}@127.0.0.1/ws",
        f"ws://a..b/ws/ä{SECRET}",
        f"ws://[::1/ws/{SECRET}",
        f"ws://127.0.0.1/ws#{SECRET}",
        f" http://127.0.0.1/ws/{SECRET}",
        f"\t127.0.0.1/ws/{SECRET}",
        f"ws://127.0. 0.1/ws/{SECRET}",
        f"ws://127.0.0.1 /ws/{SECRET}",
        f"ws://me {SECRET}@127.0.0.1/ws",
        f"ws://127.0.0.1/ws/ {SECRET}",
    ],
)
def test_address_when_it_is_none_then_it_is_refused_without_the_key_in_it(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="address of a WebSocket") as caught:
        listened(url, LineHealth())
    told = "".join(traceback.format_exception(caught.value))
    assert SECRET not in told + capsys.readouterr().out


def test_place_when_an_address_is_one_then_it_is_its_scheme_and_host() -> None:
    assert place_of(f"wss://me:{SECRET}@host.example:9443/ws/{SECRET}") == (
        "wss://host.example:9443"
    )
    assert place_of("ws://[::1]:80/stream?streams=a/b") == "ws://[::1]:80"
    assert place_of(f"\n wss://host.example/ws/{SECRET} ") == "wss://host.example"
    assert place_of(f"wss://host.example\\{SECRET}") == "wss://host.example"


@pytest.mark.parametrize("path", [f"/ws/{SECRET}", f"/private/ws?listenKey={SECRET}"])
def test_line_when_nobody_is_there_then_only_the_host_is_told(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    health = LineHealth()
    listened(f"ws://127.0.0.1:1{path}", health)
    assert health.problem.startswith("ws://127.0.0.1:1: ")
    assert SECRET not in health.problem + capsys.readouterr().out


# Coming back

Server = Callable[[ServerConnection], Awaitable[None]]
CALM = Patience(silence=0.6, first_wait=0.05, longest_wait=30.0)


async def hang_up(listener: ServerConnection) -> None:
    """Say one thing that makes sense, and no more."""
    await listener.send("good day")


def talk_for(seconds: float) -> Server:
    async def talk(listener: ServerConnection) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await listener.send("news")
            await asyncio.sleep(0.02)

    return talk


def opened(servers: list[Server], n: int, patience: Patience = CALM) -> list[tuple[int, float]]:
    """Return of n lines, in order, which server they were opened to and when, monotonic s."""

    async def run() -> list[tuple[int, float]]:
        lines, ports = list[tuple[int, float]](), [free_port() for _ in servers]
        enough = asyncio.Event()

        def noted(number: int) -> Server:
            async def answer(listener: ServerConnection) -> None:
                lines.append((number, time.monotonic()))
                if len(lines) == n:
                    enough.set()
                await servers[number](listener)

            return answer

        async def listen() -> None:
            urls = [f"ws://127.0.0.1:{port}" for port in ports]
            line: Line[str] = Line(urls, str, patience, 7, LineHealth())
            async for _ in line.through(through):
                pass

        async with contextlib.AsyncExitStack() as stack:
            for number, port in enumerate(ports):
                await stack.enter_async_context(serve(noted(number), "127.0.0.1", port))
            listening = asyncio.create_task(listen())
            async with asyncio.timeout(30.0):
                await enough.wait()
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
        return lines

    return asyncio.run(run())


def test_line_when_its_server_hangs_up_after_one_message_then_waits_grow() -> None:
    lines = opened([hang_up], 6)
    waits = [later - before for (_, before), (_, later) in pairwise(lines)]
    for n, wait in enumerate(waits):  # .05, .1, .2, .4 and .8 s, and at most a quarter more
        assert wait >= 0.05 * 2.0**n


def test_line_when_its_server_hangs_up_after_one_message_then_the_next_address_is_tried() -> None:
    lines = opened([hang_up, talk_for(0.1)], 4)
    assert [number for number, _ in lines] == [0, 1, 0, 1]


def test_line_when_it_made_sense_for_a_while_then_the_main_address_is_tried_at_once() -> None:
    lines = opened([hang_up, talk_for(1.0), hang_up], 3)
    assert [number for number, _ in lines] == [0, 1, 0]
    assert lines[2][1] - lines[1][1] < 5.0  # soon: the waits have begun anew


def test_patience_when_silence_is_borne_for_hours_then_a_minute_of_sense_will_do() -> None:
    assert Patience().proof == 30.0
    assert Patience(silence=7_200.0).proof == 60.0
