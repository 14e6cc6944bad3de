"""A line that cannot stand: what is told of it, and what never is."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncGenerator

import pytest

from data.sources.line import Line, LineHealth, Patience, place_of
from domain.errors import UsageError

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
