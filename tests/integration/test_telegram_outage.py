"""Events through Telegram's outages: each once, in order; what is unsure says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine

from domain.times import iso
from domain.trading import Event
from notifications.matrix import TOPICS, Matrix
from notifications.pacing import Pace, Rates
from notifications.progress import Cursor, Patience
from notifications.relay import Relay
from notifications.telegram import Line, make_line
from serving.system import SystemClock, set_defaults
from storage.engine import open_database, sqlite_url
from storage.events import EventLog
from storage.migrate import upgrade
from storage.outbox import SqlOutbox
from storage.snapshots import SqlSnapshots
from tests.bot_api import TOKEN, BotApi, Fault, serve

START = 1_735_689_600_000  # 2025-01-01T00:00:00Z
WORLD = "demo"
APART_MS = 4_000  # market time between two events: 460 of them take more than 30 minutes
FAST = Rates(person=2_000.0, group=2_000.0, overall=2_000.0)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    return engine


@pytest.fixture
def api() -> Iterator[BotApi]:
    with serve(BotApi()) as running:
        yield running


def event(number: int) -> Event:
    """A risk event; its text carries its number, so that order and repeats can be seen."""
    at = START + number * APART_MS
    return Event("risk", at, {"kind": "external", "why": f"number {number:04d}", "by": "test"})


def line_to(url: str, timeout_s: float = 20.0, rates: Rates = FAST) -> Line:
    set_defaults(PTB_TIMEDELTA="true")
    pace = Pace(rates, time.monotonic, asyncio.sleep)
    return make_line(TOKEN, url, pace, timeout_s=timeout_s, environment_proxies=False)


def relay_on(engine: Engine, line: Line, *, patience_s: float = 0.1, chat: str = "42") -> Relay:
    relay = Relay(
        EventLog(engine, WORLD), SqlOutbox(engine, WORLD), Cursor(SqlSnapshots(engine, WORLD)),
        line, chat, Matrix(dict.fromkeys(TOPICS, "on")), SystemClock(), asyncio.sleep,
        Patience(patience_s), poll_s=0.01,
    )  # fmt: skip
    relay.begin()
    return relay


def numbers(api: BotApi) -> list[int]:
    return [int(text.split("number ")[1][:4]) for text in api.texts()]


async def until_empty(relay: Relay, seconds: float = 60.0) -> None:
    """Run the relay until every event was taken in and nothing waits."""
    leave = asyncio.Event()
    running = asyncio.create_task(relay.run(leave))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(0.02)
        if relay.cursor.get() == relay.events.last_id() and not relay.outbox.pending(1):
            break
    leave.set()
    await running
    await relay.line.close()


@pytest.mark.slow
def test_relay_when_500_events_meet_an_outage_then_each_arrives_once_in_order(
    engine: Engine,
) -> None:
    """The outage lasts the 30 minutes of market time in which they happen, at ×100 speed."""
    api, log = BotApi(), EventLog(engine, WORLD)

    async def play() -> None:
        with ExitStack() as up:
            up.enter_context(serve(api))
            url, port = api.url, api.port
            relay = relay_on(engine, line_to(url))
            for number in range(20):  # all is well
                log.append(event(number))
            leave = asyncio.Event()
            running = asyncio.create_task(relay.run(leave))
            await _until(lambda: len(api.messages) == 20)
            up.close()  # nobody listens any more
            assert event(480).at - event(19).at >= 30 * 60_000  # while nobody listens
            began = time.monotonic()
            for number in range(20, 480):
                log.append(event(number))
                await asyncio.sleep(
                    max(0.0, began + (number - 20) * APART_MS / 100_000 - time.monotonic())
                )
            assert time.monotonic() - began >= 18.0
            assert len(api.messages) == 20
            assert relay.outbox.counts()["pending"] + relay.outbox.counts().get("sending", 0) > 400
            up.enter_context(serve(api, port))  # it is back
            for number in range(480, 500):
                log.append(event(number))
            await _until(lambda: len(api.messages) >= 500)
            await asyncio.sleep(0.2)
            leave.set()
            await running
            await relay.line.close()

    asyncio.run(play())
    assert numbers(api) == list(range(500))
    assert iso(event(20).at)[11:16] in api.texts()[20]  # the event's own time
    assert iso(event(479).at)[11:16] == "00:31"
    assert "00:31" in api.texts()[479]


async def _until(seen: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not seen():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come"
        await asyncio.sleep(0.02)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["429", "500", "502"])
def test_relay_when_the_server_refuses_for_a_while_then_nothing_is_lost_or_doubled(
    engine: Engine, api: BotApi, kind: str
) -> None:
    log = EventLog(engine, WORLD)
    relay = relay_on(engine, line_to(api.url))
    api.faults.append(Fault(kind, times=3))
    for number in range(30):
        log.append(event(number))
    asyncio.run(until_empty(relay))
    assert numbers(api) == list(range(30))
    assert not any("Sent again" in text for text in api.texts())


def test_relay_when_told_to_wait_then_it_waits_that_long(engine: Engine, api: BotApi) -> None:
    log = EventLog(engine, WORLD)
    relay = relay_on(engine, line_to(api.url))
    api.faults.append(Fault("429", times=1, retry_after=2))
    log.append(event(0))
    asyncio.run(until_empty(relay))
    sends = [at for method, _, at in api.calls if method == "sendMessage"]
    assert len(sends) == 2
    assert sends[1] - sends[0] >= 2.0


@pytest.mark.parametrize("kind", ["hang", "cut"])
def test_relay_when_the_answer_is_lost_then_the_repeat_says_so(
    engine: Engine, api: BotApi, kind: str
) -> None:
    log = EventLog(engine, WORLD)
    relay = relay_on(engine, line_to(api.url, 2.0 if kind == "hang" else 20.0))
    api.faults.append(Fault(kind, times=1, taken=True))
    for number in range(3):
        log.append(event(number))
    asyncio.run(until_empty(relay))
    assert numbers(api) == [0, 0, 1, 2]
    assert [("Sent again" in text) for text in api.texts()] == [False, True, False, False]


def test_relay_when_the_chat_has_blocked_the_bot_then_it_gives_up_with_the_reason(
    engine: Engine, api: BotApi
) -> None:
    api.blocked.add(42)
    relay = relay_on(engine, line_to(api.url))
    EventLog(engine, WORLD).append(event(0))
    asyncio.run(until_empty(relay))
    (item,) = relay.outbox.given_up()
    assert "blocked by the user" in item.error
    assert len([1 for method, _, _ in api.calls if method == "sendMessage"]) == 1


def test_relay_when_it_starts_again_then_the_past_is_not_told_again(
    engine: Engine, api: BotApi
) -> None:
    log = EventLog(engine, WORLD)
    log.append(event(0))  # before there was a bot
    asyncio.run(until_empty(relay_on(engine, line_to(api.url))))
    log.append(event(1))
    asyncio.run(until_empty(relay_on(engine, line_to(api.url))))
    asyncio.run(until_empty(relay_on(engine, line_to(api.url))))
    assert numbers(api) == [1]
