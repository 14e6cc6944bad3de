"""What the bot tells by itself: the day with the ledger's root hash, jobs, trouble."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine

from domain.errors import DataRefused
from domain.trading import ClosedTrade, EquityMark, Event
from notifications.matrix import TOPICS, Matrix
from notifications.progress import SNAPSHOT
from serving.bootstrap.service import reading_service
from serving.bot.facts import Facts
from serving.bot.watching import Watching
from serving.cli import run as conclave
from serving.earnings import by_period, by_symbol, total
from serving.job_notes import noted
from serving.notifier import job_watch, relay_of
from serving.plan import RunPlan
from serving.settings import Settings, load_settings
from serving.system import SystemClock
from storage.engine import open_database
from storage.jobs import Jobs
from storage.leases import Lease
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.queries import Reader
from storage.verify import verify_chain
from tests.bot_api import TOKEN, BotApi, Fault, serve
from tests.execution_scenes import PERP, START, STEP, Script, loop_over, states_of, walk

DAY = 86_400_000
WORLD = "demo-7"
BARS = 3 * 288 + 20


@pytest.fixture
def api() -> Iterator[BotApi]:
    with serve(BotApi()) as running:
        yield running


@dataclass
class Scene:
    settings: Settings
    engine: Engine
    ledger: SqlLedger
    watching: Watching

    @property
    def queued(self) -> list[tuple[str, Event]]:
        return [(item.key, item.event) for item in self.watching.relay.outbox.pending(1000)]


def settings_for(folder: Path, api: BotApi, **more: str) -> Settings:
    env = {
        "VAR_DIR": str(folder), "TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_CHAT_ID": "42",
        "CONCLAVE_NOTIFY__TELEGRAM_API": api.url, "CONCLAVE_NOTIFY__TELEGRAM_PER_SECOND": "30",
        "CONCLAVE_NOTIFY__TELEGRAM_TIMEOUT_S": "2", **more,
    }  # fmt: skip
    return load_settings(env=env, profile=None)


@pytest.fixture
def scene(tmp_path: Path, api: BotApi) -> Scene:
    """Three days of a perpetual, traded by a script, and nobody who runs the desk."""
    settings = settings_for(tmp_path, api)
    engine = open_database(settings.database_url())
    upgrade(engine)
    ledger = SqlLedger(engine, WORLD)
    says = {5: "LONG", 200: "SHORT", 300: "LONG", 500: "SHORT", 700: "LONG"}
    loop = loop_over(ledger, Script(says, horizon_bars=60))
    for state in states_of(list(walk(BARS).bars())):
        loop.step(state, [], {}, state.as_of)
    plan = RunPlan("demo", WORLD, "demo", 60.0, local=True, pid=1)
    relay = relay_of(engine, settings, WORLD, asyncio.sleep)
    relay.matrix = Matrix(dict.fromkeys(TOPICS, "on"))
    facts = Facts(reading_service(plan, settings), settings, "USDT")
    watching = Watching(
        facts, relay, ledger, job_watch(engine, relay), SystemClock(), 0, time.monotonic,
        asyncio.sleep,
    )  # fmt: skip
    return Scene(settings, engine, ledger, watching)


def begun_on(scene: Scene, day: int) -> None:
    """As if the bot had first looked on that day (days since 1970)."""
    scene.watching.relay.cursor.snapshots.save(SNAPSHOT, "day", 0, {"day": day})


@pytest.mark.long
def test_days_when_over_then_each_is_told_once_in_order(scene: Scene) -> None:
    begun_on(scene, START // DAY - 1)
    for _ in range(3):
        scene.watching.look_at_days()
    told = [key for key, _ in scene.queued]
    assert [key for key in told if key.startswith("daily")] == [
        "daily 2025-01-01 0", "daily 2025-01-02 0", "daily 2025-01-03 0",
    ]  # fmt: skip
    assert len([key for key in told if key.startswith("metrics")]) == 3


@pytest.mark.long
def test_days_when_the_bot_is_new_then_the_past_is_not_told(scene: Scene) -> None:
    scene.watching.look_at_days()
    assert scene.queued == []


@pytest.mark.long
def test_day_when_told_then_its_figures_are_those_of_the_ledger_and_the_root_is_its_head(
    scene: Scene,
) -> None:
    day = START // DAY + 1
    body = scene.watching.day(day)
    assert body is not None
    marks = [mark for _, mark in scene.ledger.records(EquityMark)]
    close = {edge: [m for m in marks if m.at <= edge * DAY][-1] for edge in (day, day + 1)}
    assert body["pnl"] == pytest.approx(float(close[day + 1].equity - close[day].equity))
    assert body["equity"] == float(close[day + 1].equity)
    trades = [
        t
        for _, t in scene.ledger.records(ClosedTrade)
        if day * DAY <= t.closed_at < (day + 1) * DAY
    ]
    assert body["trades"] == len(trades) > 0
    assert Decimal(body["closed_pnl"]) == sum(t.pnl for t in trades)
    assert body["wins"] == sum(t.pnl > 0 for t in trades)
    assert sum(body["decisions"].values()) == 288
    assert (body["root"]["seq"], body["root"]["hash"]) == scene.ledger.head()
    assert verify_chain(scene.engine).ok


@pytest.mark.long
def test_day_when_it_was_before_the_account_then_there_is_nothing_to_tell(scene: Scene) -> None:
    assert scene.watching.day(START // DAY - 5) is None


@pytest.mark.long
def test_earnings_when_summed_then_periods_and_symbols_agree_with_the_trades(scene: Scene) -> None:
    reader = Reader(scene.engine, WORLD)
    trades = [trade for _, trade in scene.ledger.records(ClosedTrade)]
    now = START + BARS * STEP
    days = by_period(reader, "paper", "day", now, 5)
    assert [one.name for one in days] == [
        "2025-01-04", "2025-01-03", "2025-01-02", "2025-01-01", "2024-12-31",
    ]  # fmt: skip
    (month,) = by_period(reader, "paper", "month", now, 1)
    (week, before) = by_period(reader, "paper", "week", now, 2)
    (symbol,) = by_symbol(reader, "paper")
    assert (symbol.name, week.name, before.name) == (PERP.symbol, "2024-12-30", "2024-12-23")
    whole = total(days)
    for one in (whole, month, week, symbol):
        assert (one.trades, one.pnl) == (len(trades), sum(t.pnl for t in trades))
        assert one.costs == sum(t.fee + t.spread + t.slippage + t.funding for t in trades)


@pytest.mark.long
def test_trouble_when_it_lasts_then_it_is_told_once_and_its_end_too(scene: Scene) -> None:
    watching = scene.watching
    for _ in range(6):  # nobody runs the desk
        watching.look_at_health()
    (told,) = scene.queued
    assert (told[1].kind, told[1].level) == ("error", "error")
    assert "The desk is not running" in told[1].body["html"]
    lease = Lease(scene.engine, "desk", "a desk", 60_000, SystemClock())
    lease.acquire({"via": "in_process"})
    watching.look_at_health()
    assert "Over" in scene.queued[-1][1].body["html"]
    for _ in range(3):
        watching.look_at_health()
    assert len(scene.queued) == 2


@pytest.mark.long
def test_trouble_when_it_passes_at_once_then_nobody_is_told(scene: Scene) -> None:
    lease = Lease(scene.engine, "desk", "a desk", 60_000, SystemClock())
    for _ in range(5):
        scene.watching.look_at_health()
        lease.acquire({"via": "in_process"})
        scene.watching.look_at_health()
        lease.release()
    assert scene.queued == []


@pytest.mark.long
def test_jobs_when_they_begin_and_end_then_each_is_told_once(scene: Scene) -> None:
    jobs = Jobs(scene.engine)
    jobs.begin("old", {}, 1)  # before the bot
    watch = scene.watching.jobs
    watch.begin()
    first = jobs.begin("train trend", {"data": "x.parquet"}, 1000)
    waiting = jobs.put("evaluate", {}, 1000)
    watch.look()
    watch.look()
    assert [key for key, _ in scene.queued] == [f"job {first.id} running 0"]
    jobs.set_state(first.id, "done", 61_000, {"brier": 0.2498})
    jobs.claim(62_000)
    jobs.set_state(waiting.id, "failed", 63_000, {"error": "no bars"})
    watch.look()
    watch.look()
    keys = [key for key, _ in scene.queued]
    assert keys == [
        f"job {first.id} running 0", f"job {first.id} done 0", f"job {waiting.id} running 0",
        f"job {waiting.id} failed 0",
    ]  # fmt: skip
    done, failed = scene.queued[1][1].body["html"], scene.queued[3][1].body["html"]
    assert "0.2498" in done
    assert "60" in done  # seconds
    assert "no bars" in failed


def test_noted_when_no_notifier_runs_then_begin_and_end_are_told_all_the_same(
    tmp_path: Path, api: BotApi
) -> None:
    settings = settings_for(tmp_path, api)
    with noted(settings, "train trend", {"data": "x.parquet"}) as figures:
        assert any("started" in text for text in api.texts())
        figures["brier"] = 0.2498
    assert "finished" in api.texts()[-1]
    assert "0.2498" in api.texts()[-1]
    assert len(api.texts()) == 2


def test_noted_when_the_work_fails_then_the_reason_is_told_and_the_error_goes_on(
    tmp_path: Path, api: BotApi
) -> None:
    settings = settings_for(tmp_path, api)
    with pytest.raises(DataRefused), noted(settings, "run-inference", {}):
        raise DataRefused("bars", "are too few")
    assert "failed" in api.texts()[-1]
    assert "bars: are too few" in api.texts()[-1]
    assert not api.messages[-1]["silent"]  # failures are loud, jobs are silent
    assert api.messages[0]["silent"]


@pytest.mark.long
def test_noted_when_telegram_is_away_then_the_work_is_done_and_told_at_the_next_chance(
    tmp_path: Path, api: BotApi
) -> None:
    settings = settings_for(tmp_path, api)
    api.faults.append(Fault("500"))
    with noted(settings, "first", {}):
        pass
    assert api.texts() == []
    api.faults.clear()
    with noted(settings, "second", {}):
        pass
    names = [text.split()[2] for text in api.texts()]
    assert names == ["first", "first", "second", "second"]


def test_noted_when_there_is_no_bot_then_nothing_is_written(tmp_path: Path) -> None:
    settings = load_settings(env={"VAR_DIR": str(tmp_path)}, profile=None)
    with noted(settings, "train trend", {}):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_run_inference_when_there_is_a_bot_then_its_end_is_told_and_the_exit_code_stays(
    tmp_path: Path, api: BotApi, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = {
        "VAR_DIR": str(tmp_path), "TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_CHAT_ID": "42",
        "notify.telegram_api": api.url, "notify.telegram_per_second": "30",
        "models.agents": "climatology,technical",
    }  # fmt: skip
    flags = [flag for name, value in sets.items() for flag in ("--set", f"{name}={value}")]
    assert conclave(["run-inference", *flags]) == 3  # there are no bars
    assert ["started" in api.texts()[0], "failed" in api.texts()[1]] == [True, True]
    assert "BTC/USDT" in api.texts()[1]
    assert TOKEN not in capsys.readouterr().err
