"""The client against a real server: typed answers, pages, repetitions, errors, streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from domain.errors import DuplicateRecord, NotFound, ServiceUnreachable, UsageError
from domain.trading import Event
from serving import client as api
from serving.auth import Forbidden, Unauthorized
from serving.bootstrap.storage import open_storage
from serving.processes import choose_port
from serving.replies import HealthView, JournalRow, Signal
from serving.requests import JournalRequest, TradeRequest
from serving.tokens import TokenFile
from storage.events import EventLog
from tests.api_world import (
    EXERCISE,
    PLAN,
    api_of,
    at_work,
    run,
    served,
    settings_in,
    stand_still,
)

TOLD = TradeRequest(
    id="sheet-1", symbol="BTC/USDT", side="LONG", qty=Decimal("0.5"), entry=Decimal(100),
    exit=Decimal(110), opened_at="2025-01-01", closed_at="2025-01-02", fee=Decimal("0.25"),
)  # fmt: skip


@pytest.mark.long
def test_client_when_a_desk_works_then_every_call_gets_its_typed_answer(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "exercise")

    def everything(address: str, token: str) -> None:
        with api.Client(address, token) as ask:
            made = ask(api.signal("BTC-USDT"))
            assert isinstance(made, Signal)
            assert ask(api.signal_by(made.id)) == made
            assert ask(api.why(made.id)).signal == made
            for call in (
                api.agents(), api.weights(history=2), api.scores(), api.calibration(),
                api.positions(), api.orders(), api.risk_events(), api.proposals(), api.symbols(),
                api.jobs(),
            ):  # fmt: skip
                assert ask(call).next is None or call.path in ("/v1/orders", "/v1/risk/events")
            for single in (api.equity(), api.risk(), api.assertions()):
                assert ask(single)
            assert isinstance(ask(api.health()), HealthView)

            pages = [row.id for row in ask.each(api.signals(limit=7))]
            assert len(pages) == len(set(pages)) > 20
            trade = next(ask.each(api.trades(account="paper")))
            assert ask(api.trade(trade.id)) == trade
            said = JournalRequest(trade_id=trade.id, text="As the exercise has it, no more.")
            assert ask(api.write_journal(said)).new
            row = next(row for row in ask.each(api.journal()) if row.id == trade.id)
            assert isinstance(row, JournalRow)
            assert ask(api.journal_entry(trade.id)).reflections[-1].text == said.text

            told = ask(api.tell_trade(TOLD))
            assert (told.new, told.trade.pnl) == (True, "4.75")
            assert not ask(api.tell_trade(TOLD)).new
            with pytest.raises(DuplicateRecord, match="taken by another one"):
                ask(api.tell_trade(TOLD.model_copy(update={"qty": Decimal(1)})))

            assert ask(api.report_operator(55)).paused is False
            assert ask(api.kill("drill")).mode == "KILLED"
            code = ask(api.arm()).confirm
            assert ask(api.arm(code)).mode == "ACTIVE"

            seen = []
            for event in ask.stream(since=0, kinds=["trade", "external_trade"]):
                seen.append(event)
                if event.kind == "external_trade":
                    break
            assert [event.id for event in seen] == sorted({event.id for event in seen})
            assert seen[-1].body["ref"] == "sheet-1"

    async def scene() -> None:
        async with at_work(EXERCISE, settings) as world:
            for _ in range(400):
                if (await world.ask("GET", "/v1/trades")).json()["items"]:
                    break
                await asyncio.sleep(0.05)
            async with served(world.app) as port:
                address = f"http://127.0.0.1:{port}"
                await asyncio.to_thread(everything, address, world.token)
                async with api.AsyncClient(address, world.token) as ask:
                    assert (await ask(api.health())).world == "demo-7"
                    some = [row async for row in ask.each(api.orders(limit=2))]
                    assert len({row.id for row in some}) == len(some) > 2
                    async for event in ask.stream(since=0):
                        assert event.id == 1
                        break

    run(scene)


def refusing(tmp_path: Path, overrides: dict[str, str], asked: Callable[[str, str], None]) -> None:
    settings = settings_in(tmp_path, overrides=overrides)

    async def scene() -> None:
        app = api_of(PLAN, settings)
        async with served(app) as port:
            token = TokenFile(settings.tokens_file()).create("reader", ["read"], 0)
            await asyncio.to_thread(asked, f"http://127.0.0.1:{port}", token)

    run(scene)


def test_client_when_the_api_refuses_then_it_is_the_projects_own_error_in_the_apis_words(
    tmp_path: Path,
) -> None:
    def asked(address: str, token: str) -> None:
        with api.Client(address, token, repeating=api.Repeating(times=0)) as ask:
            for call, kind, says in (
                (api.trade("unknown"), NotFound, "is not in the ledger"),
                (api.equity(points=1), UsageError, "points"),
                (api.queue_job("dance"), Forbidden, "scope admin"),
                (api.signal("BTC/USDT"), ServiceUnreachable, "desk: is not running"),
            ):  # fmt: skip
                with pytest.raises(kind, match=says):
                    ask(call)
        with (
            api.Client(address, "cv_wrong") as ask,
            pytest.raises(Unauthorized, match="needs the API token"),
        ):
            ask(api.kill())

    refusing(tmp_path, {}, asked)
    with pytest.raises(UsageError, match="must be letters"):
        api.trade("a/../b")
    port = choose_port("127.0.0.1", 0, "API_PORT")
    waited: list[float] = []
    with (
        api.Client(f"http://127.0.0.1:{port}", sleep=waited.append) as ask,
        pytest.raises(ServiceUnreachable, match="does not answer"),
    ):
        ask(api.health())
    assert waited == [0.5, 1.0, 2.0]


def test_client_when_told_to_come_again_then_repeatable_calls_do_after_so_long_and_others_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still(monkeypatch)

    def asked(address: str, _: str) -> None:
        waited: list[float] = []
        with api.Client(address, sleep=waited.append) as ask:
            ask(api.symbols())
            ask(api.symbols())
            with pytest.raises(ServiceUnreachable, match="limited to 1 a second"):
                ask(api.symbols())
            assert waited == [1.0] * 3
            waited.clear()
            with pytest.raises(ServiceUnreachable, match="desk: is not running"):
                ask(api.signal("BTC/USDT"))
            assert waited == [2.0] * 3
            waited.clear()
            with pytest.raises(ServiceUnreachable, match="limited"):  # guessing takes of it, too
                ask(api.arm())
            assert waited == []

    refusing(tmp_path, {"serving.rate_reads": "1"}, asked)


@pytest.mark.slow
def test_stream_when_the_server_is_stopped_and_started_then_the_reader_misses_no_event(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path)
    port = choose_port("127.0.0.1", 0, "API_PORT")

    async def scene() -> None:
        log = EventLog(open_storage(settings), PLAN.world)
        got: list[int] = []

        async def read() -> None:
            async with api.AsyncClient(
                f"http://127.0.0.1:{port}", repeating=api.Repeating(times=20, pause=0.1)
            ) as ask:
                async for event in ask.stream(since=0):
                    got.append(event.body["n"])

        reading: asyncio.Task[Any] = asyncio.create_task(read())
        for part in range(3):
            async with served(api_of(PLAN, settings), port=port):
                first = 10 * part
                log.extend([Event("fill", first + n, {"n": first + n}) for n in range(5)])
                while len(got) < first + 5:
                    await asyncio.sleep(0.02)
            log.extend([Event("fill", first + n, {"n": first + n}) for n in range(5, 10)])
        async with served(api_of(PLAN, settings), port=port):
            while len(got) < 30:
                await asyncio.sleep(0.02)
        assert got == list(range(30))
        reading.cancel()

    run(scene)
