"""The event stream: in order, without a gap, bounded, and gone when its reader is."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from domain.trading import Event
from serving.bootstrap.storage import open_storage
from serving.http_server import http_server
from serving.processes import choose_port
from serving.streaming import PAGE, Streams, TooManyStreams
from storage.engine import open_database, sqlite_url
from storage.events import EventLog
from storage.migrate import upgrade
from tests.api_world import PLAN, api_of, settings_in


@pytest.fixture
def events(tmp_path: Path) -> EventLog:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    return EventLog(engine, "demo-7")


def told(events: EventLog, count: int, kind: str = "fill") -> list[int]:
    first = events.last_id()
    return events.extend(
        [Event(kind, 1000 + first + i, {"n": i, "text": "a\nb"}) for i in range(count)]
    )


async def blocks(
    streams: Streams, since: int | None, kinds: tuple[str, ...] = ()
) -> AsyncIterator[str]:
    stream = await streams.stream(since, kinds)
    try:
        async for text in stream.body_iterator:
            for block in str(text).split("\n\n"):
                if block:
                    yield block
    finally:
        streams.closed()


def parsed(block: str) -> tuple[int, str, dict[str, Any]]:
    lines = dict(line.split(": ", 1) for line in block.splitlines())
    body = json.loads(lines["data"])
    assert body["id"] == int(lines["id"])
    assert body["kind"] == lines["event"]
    return int(lines["id"]), lines["event"], body


def test_stream_when_resumed_by_id_then_every_later_event_comes_once_and_in_order(
    events: EventLog,
) -> None:
    async def scene() -> None:
        known = told(events, 3 * PAGE)
        streams, got = Streams(events), []
        reader = blocks(streams, known[9])
        head = await anext(reader)
        assert head.splitlines() == ["retry: 2000", f"id: {known[9]}"]
        while len(got) < len(known) - 10:
            got.append(parsed(await anext(reader))[0])
        later = told(events, 2)
        got += [parsed(await anext(reader))[0] for _ in later]
        assert got == [*known[10:], *later]
        await reader.aclose()
        assert streams.open == 0

    asyncio.run(scene())


def test_stream_when_it_begins_without_an_id_then_only_what_is_new_comes(events: EventLog) -> None:
    async def scene() -> None:
        old = told(events, 5)
        reader = blocks(Streams(events), None)
        assert (await anext(reader)).endswith(f"id: {old[-1]}")
        fresh = told(events, 1)
        number, kind, body = parsed(await anext(reader))
        assert (number, kind, body["body"]["text"]) == (fresh[0], "fill", "a\nb")
        await reader.aclose()

    asyncio.run(scene())


def test_stream_when_kinds_are_named_then_others_are_passed_over(events: EventLog) -> None:
    async def scene() -> None:
        told(events, PAGE + 5)
        risk = told(events, 1, "risk")
        reader = blocks(Streams(events), 0, ("risk",))
        await anext(reader)
        assert parsed(await anext(reader))[0] == risk[0]
        await reader.aclose()

    asyncio.run(scene())


def test_stream_when_nothing_happens_then_it_gives_signs_of_life(events: EventLog) -> None:
    async def scene() -> None:
        reader = blocks(Streams(events, heartbeat=0.05), None)
        await anext(reader)
        assert [await anext(reader) for _ in range(3)] == [": still here"] * 3
        await reader.aclose()

    asyncio.run(scene())


def test_streams_when_every_place_is_taken_then_the_next_is_told_to_come_again(
    events: EventLog,
) -> None:
    async def scene() -> None:
        streams = Streams(events, most=3)
        for _ in range(3):
            await streams.stream(None, ())
        with pytest.raises(TooManyStreams, match="3 readers"):
            await streams.stream(None, ())
        streams.closed()
        await streams.stream(None, ())

    asyncio.run(scene())


@pytest.mark.long
def test_stream_when_its_reader_hangs_up_then_its_place_is_free_and_a_stop_does_not_wait(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path, overrides={"serving.max_streams": "2"})

    async def scene() -> None:
        app = api_of(PLAN, settings)
        streams = app.state.service.surface.streams
        port = choose_port("127.0.0.1", 0, "API_PORT")
        server = http_server(app, "127.0.0.1", port)
        serving = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)

        async def opened() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            return (reader, writer) if b" 200 " in head else (await refused(reader, head), writer)

        async def refused(reader: asyncio.StreamReader, head: bytes) -> asyncio.StreamReader:
            assert b" 503 " in head
            assert b"retry-after: 5" in head.lower()
            assert b"overloaded" in await reader.read(1000)
            return reader

        first, second = await opened(), await opened()
        assert streams.open == 2
        await opened()
        assert streams.open == 2
        first[1].close()
        for _ in range(1_500):
            if streams.open == 1:
                break
            await asyncio.sleep(0.02)
        assert streams.open == 1
        event = EventLog(open_storage(settings), PLAN.world).append(Event("risk", 1, {"why": "x"}))
        assert f"id: {event}".encode() in await second[0].readuntil(b"data: ")
        server.should_exit = True
        async with asyncio.timeout(30):
            await serving
        second[1].close()

    asyncio.run(scene())


@pytest.mark.long
def test_stream_when_its_reader_takes_nothing_then_memory_stays_bounded_and_it_is_let_go(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path)

    async def scene() -> None:
        app = api_of(PLAN, settings)
        streams = app.state.service.surface.streams
        streams.stalled = 1.0
        log = EventLog(open_storage(settings), PLAN.world)
        body = {"text": "x" * 2000}
        for part in range(60):
            log.extend([Event("fill", 1000 * part + i, {**body, "n": i}) for i in range(500)])
        port = choose_port("127.0.0.1", 0, "API_PORT")
        server = http_server(app, "127.0.0.1", port)
        serving = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)
        with socket.create_connection(("127.0.0.1", port)) as lazy:
            lazy.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0\r\n\r\n")
            most, seen = 0, 0
            until = asyncio.get_running_loop().time() + 60
            while asyncio.get_running_loop().time() < until:
                for protocol in list(server.server_state.connections):
                    most = max(most, protocol.transport.get_write_buffer_size())
                seen = max(seen, streams.open)
                if seen and not streams.open:
                    break
                await asyncio.sleep(0.01)
            assert (seen, streams.open) == (1, 0)  # of 60 MB of events
            assert 0 < most < 1_000_000
        server.should_exit = True
        await serving

    asyncio.run(scene())
