"""What a desk keeps beside its trading: a real desk on the demo market, on real files."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from domain.errors import DatabaseDamaged, ServiceUnreachable
from domain.operations import RiskEvent
from domain.trading import ClosedTrade, RiskMode
from serving.backups import Backups
from serving.bootstrap.desk import build_desk_on
from serving.bootstrap.storage import open_storage
from serving.desk import Desk
from serving.feeds import feed_of
from serving.plan import RunPlan
from serving.recovering import sound_storage
from serving.settings import Settings, load_settings
from serving.state_file import State, read_state
from serving.system import SystemClock
from sim.worlds import DEMO_START_MS, DemoMarket
from storage.checks import examples
from storage.events import EventLog
from storage.health import health, patterns
from storage.ledger import SqlLedger
from storage.queries import Reader
from storage.rotation import backups, file_name, make_backup
from storage.schema import INSERT_ONLY
from tests.data_fixtures import write_parquet

WORLD = "replay-upkeep"
BARS = 400


def settings_in(var_dir: Path, **more: str) -> Settings:
    overrides = {
        "VAR_DIR": str(var_dir), "models.agents": "climatology,technical",
        "SERVING.MONITOR": "false", "execution.strategy": "ema_cross", **more,
    }  # fmt: skip
    return load_settings(env={}, profile="exercise", overrides=overrides)


@pytest.fixture(scope="module")
def bars_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = DemoMarket(seed=11).bars(DEMO_START_MS, BARS)
    folder = tmp_path_factory.mktemp("bars")
    return write_parquet(folder / "BTCUSDT-binance-perp-5m-made.parquet", frame)


@pytest.fixture
def desk_in(bars_file: Path) -> Callable[[Settings], Desk]:
    plan = RunPlan("replay", WORLD, "exercise", None, data=(str(bars_file),), local=True)

    def make(settings: Settings) -> Desk:
        return build_desk_on(plan, settings, feed_of(plan, settings))

    return make


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, bars_file: Path) -> Path:
    """The VAR_DIR of a desk that has traded to the end of its bars."""
    var_dir = tmp_path_factory.mktemp("var")
    plan = RunPlan("replay", WORLD, "exercise", None, data=(str(bars_file),), local=True)
    settings = settings_in(var_dir)
    asyncio.run(build_desk_on(plan, settings, feed_of(plan, settings)).run())
    return var_dir


@pytest.fixture
def copied(lived: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lived, tmp_path / "var"))


def told(settings: Settings, kind: str) -> list[str]:
    events = EventLog(open_storage(settings), WORLD).after(0, 10_000)
    return [event.body.get("why", "") for _, event in events if event.kind == kind]


@pytest.mark.long
def test_state_when_a_desk_has_ended_then_it_is_the_ledger_to_the_last_row(lived: Path) -> None:
    ledger = SqlLedger(open_storage(settings_in(lived)), WORLD)
    state = read_state(lived / "state.json")
    trades = [trade for _, trade in ledger.records(ClosedTrade)]
    assert len(trades) > 5
    assert (state.head_seq, state.head_hash) == ledger.head()
    assert [trade.pnl for trade in state.trades] == [float(t.pnl) for t in trades][-100:]
    assert state.risk_metrics.closed_trades == len(trades)
    assert state.risk_metrics.win_rate == sum(t.pnl > 0 for t in trades) / len(trades)
    mark = Reader(ledger.engine, WORLD).latest_equity("paper")[1]
    assert state.equity == pytest.approx(float(mark.equity))
    assert state.total_pnl == pytest.approx(float(mark.equity) - 10_000)
    assert list((lived / "backups").glob("state_backup_*.json"))


@pytest.mark.long
def test_health_when_a_desk_has_lived_then_it_has_said_how_it_was(lived: Path) -> None:
    rows = health(open_storage(settings_in(lived)), "desk")
    assert rows
    assert rows[0].world == WORLD
    assert rows[0].rss_bytes > 10_000_000
    assert rows[0].cpu_seconds > 0


@pytest.mark.long
def test_state_when_a_trade_closes_then_it_is_written_within_a_second_or_so(
    desk_in: Callable[[Settings], Desk], tmp_path: Path
) -> None:
    settings = settings_in(tmp_path)
    desk = desk_in(settings)
    seen: list[State] = []

    async def run() -> None:
        running = asyncio.create_task(desk.run())
        while not running.done():
            desk.upkeep._state_at = min(desk.upkeep._state_at, time.monotonic() - 2)
            await asyncio.sleep(0.01)
            if (tmp_path / "state.json").exists():
                seen.append(read_state(tmp_path / "state.json"))
        await running

    asyncio.run(run())
    counts = sorted({state.risk_metrics.closed_trades for state in seen})
    assert len(counts) > 3  # not only at the start and at the end
    for state in seen:
        assert len(state.trades) == min(state.risk_metrics.closed_trades, 100)


def test_start_when_the_state_file_is_broken_then_it_is_told_and_made_anew(
    desk_in: Callable[[Settings], Desk], copied: Path
) -> None:
    (copied / "state.json").write_text('{"timestamp": ')
    settings = settings_in(copied)
    asyncio.run(desk_in(settings).run())
    (why,) = told(settings, "state")
    assert why.startswith("state.json: is not a state: Invalid JSON")
    assert read_state(copied / "state.json").world == WORLD


def test_start_when_the_ledger_has_lost_rows_then_the_state_file_knows(
    desk_in: Callable[[Settings], Desk], copied: Path
) -> None:
    """A clean cut at the end leaves a chain that verifies; a head noted elsewhere tells."""
    settings = settings_in(copied)
    state = read_state(copied / "state.json")
    cut_off(copied / "ledger.db", state.head_seq)
    asyncio.run(desk_in(settings).run())
    (why,) = told(settings, "state")
    assert f"it knows row {state.head_seq}, where the ledger ends at" in why


def raw(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as database:
        for table in INSERT_ONLY:
            for name in ("no_update", "no_delete"):
                database.execute(f"DROP TRIGGER IF EXISTS {table.name}_{name}")
        for statement in statements:
            database.execute(statement)
    database.close()


def cut_off(path: Path, seq: int) -> None:
    tables = [table.name for table in INSERT_ONLY if table.name != "events"]
    raw(path, *[f"DELETE FROM {t} WHERE seq = {seq}" for t in tables[::-1]],
        f"DELETE FROM snapshots WHERE seq >= {seq}")  # fmt: skip


# Damage at the start


@pytest.mark.long
def test_start_when_the_ledger_is_damaged_then_it_recovers_halts_and_says_so(
    desk_in: Callable[[Settings], Desk], copied: Path
) -> None:
    settings = settings_in(copied)
    rows = read_state(copied / "state.json").head_seq
    raw(copied / "ledger.db", f"UPDATE chain SET hash = 'x' WHERE seq = {rows - 40}")
    desk = desk_in(settings)
    ledger = SqlLedger(open_storage(settings), WORLD)
    assert ledger.verify().ok
    ((_, event),) = ledger.records(RiskEvent)
    assert (event.kind, event.level) == ("recovery", "error")
    assert 40 <= event.body["lost"] < 60
    assert list(copied.glob("ledger.db.damaged-*"))
    asyncio.run(desk.run())
    assert desk.loop.mode is RiskMode.HALTED
    assert any(why.startswith("ledger recovered up to row") for why in told(settings, "risk"))
    assert ledger.verify().ok
    again = desk_in(settings)  # a second start has nothing to recover
    assert len(list(ledger.records(RiskEvent))) == 1
    asyncio.run(again.run())


@pytest.mark.long
def test_start_when_the_backup_and_the_rest_of_the_file_are_whole_then_nothing_is_halted(
    desk_in: Callable[[Settings], Desk], copied: Path
) -> None:
    settings = settings_in(copied)
    make_backup(open_storage(settings), copied / "backups", SystemClock().now())
    (copied / "ledger.db").write_bytes(damaged((copied / "ledger.db").read_bytes()))
    before = read_state(copied / "state.json")
    desk = desk_in(settings)
    asyncio.run(desk.run())
    assert desk.loop.mode is RiskMode.ACTIVE
    ledger = SqlLedger(open_storage(settings), WORLD)
    ((number, event),) = ledger.records(RiskEvent)
    assert number == before.head_seq + 1
    assert (event.level, event.body["lost"]) == ("warning", 0)


def damaged(content: bytes) -> bytes:
    spoilt = bytearray(content)
    page = spoilt.index(b"ema_cross", len(spoilt) // 3) // 4096
    spoilt[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    return bytes(spoilt)


def test_start_when_recovery_is_off_then_the_error_names_the_row_and_the_command(
    copied: Path,
) -> None:
    settings = settings_in(copied, **{"data.recover": "false"})
    raw(copied / "ledger.db", "UPDATE chain SET hash = 'x' WHERE seq = "
        "(SELECT max(seq) - 3 FROM chain)")  # fmt: skip
    before = (copied / "ledger.db").read_bytes()
    with pytest.raises(DatabaseDamaged, match=r"row \d+ does not match.*ledger restore"):
        sound_storage(settings, SystemClock())
    assert (copied / "ledger.db").read_bytes() == before


def test_recovery_when_another_run_is_alive_on_the_files_then_it_is_refused(
    copied: Path,
) -> None:
    settings = settings_in(copied)
    raw(copied / "ledger.db", "UPDATE chain SET hash = 'x' WHERE seq = "
        "(SELECT max(seq) - 3 FROM chain)")  # fmt: skip
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        RunPlan("replay", WORLD, "exercise", None, pid=other.pid).save(copied)
        with pytest.raises(ServiceUnreachable, match="is running on this VAR_DIR"):
            sound_storage(settings, SystemClock())
    finally:
        other.kill()
        other.wait()
    assert not list(copied.glob("*.damaged-*"))


# Backups beside the desk


@dataclass
class Later:
    """A clock ahead of the wall's."""

    by: int = 0

    def now(self) -> int:
        return SystemClock().now() + self.by


def waiting(making: Backups, seconds: float = 60.0) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done = making.look()
        if done is not None:
            return dict(done)
        time.sleep(0.02)
    raise TimeoutError


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_storage(settings_in(tmp_path))
    SqlLedger(engine, "w").append(examples(0))
    return engine


def making_in(tmp_path: Path, clock: Later, **changes: Any) -> Backups:
    ours = Backups(tmp_path / "ledger.db", tmp_path / "backups", 60, 2, 0, clock)
    return replace(ours, **changes)


@pytest.mark.long
def test_backups_when_an_hour_has_passed_then_a_process_makes_one_and_drops_the_oldest(
    engine: Engine, tmp_path: Path
) -> None:
    for hours in (4, 3, 2):
        make_backup(engine, tmp_path / "backups", SystemClock().now() - hours * 3_600_000)
    making = making_in(tmp_path, Later())
    done = waiting(making)
    assert done["rows"] == len(examples(0))
    assert (done["path"], done["deleted"]) == (str(backups(tmp_path / "backups")[0].path), 2)
    assert len(backups(tmp_path / "backups")) == 2
    assert making.look() is None  # the next one is due in an hour
    assert making._process is None


def test_backups_when_the_last_one_is_young_then_none_is_made_yet(
    engine: Engine, tmp_path: Path
) -> None:
    make_backup(engine, tmp_path / "backups", SystemClock().now() - 59 * 60_000)
    making = making_in(tmp_path, Later())
    making.look()
    assert making._process is None
    off = making_in(tmp_path, Later(by=10**9), minutes=0)
    assert off.look() is None
    assert off._process is None


@pytest.mark.long
def test_backups_when_one_fails_then_why_is_told_and_the_next_is_tried_in_its_time(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "backups").write_text("in the way")
    making = making_in(tmp_path, Later())
    making._due = time.monotonic()
    done = waiting(making)
    assert "must lie in a folder that can be written (File exists)" in done["error"]
    assert making.look() is None


def test_backups_when_the_database_is_postgresql_then_pg_dump_is_named_once(
    tmp_path: Path,
) -> None:
    making = making_in(tmp_path, Later(), database=None)
    making._due = time.monotonic()
    assert "pg_dump" in waiting(making)["hint"]
    making._due = time.monotonic()
    assert making.look() is None


def test_backups_when_the_desk_leaves_then_a_half_made_one_is_not_left_behind(
    engine: Engine, tmp_path: Path
) -> None:
    making = making_in(tmp_path, Later())
    making._due = time.monotonic()
    making.look()
    assert making._process is not None
    partial = tmp_path / "backups" / f"{file_name(making._started)}.partial"
    (tmp_path / "backups").mkdir(exist_ok=True)
    partial.touch()
    making.close()
    assert not partial.exists()
    assert making._process is None


@pytest.mark.long
def test_patterns_when_the_council_has_learned_then_each_hour_says_of_whom(
    tmp_path: Path, bars_file: Path
) -> None:
    settings = settings_in(tmp_path, **{"execution.strategy": "council"})
    plan = RunPlan("replay", WORLD, "exercise", None, data=(str(bars_file),), local=True)
    desk = build_desk_on(plan, settings, feed_of(plan, settings))
    asyncio.run(desk.run())
    rows = patterns(open_storage(settings), WORLD, "BTC/USDT:USDT", "technical")
    assert rows
    assert all(row.at % 3_600_000 == 0 for row in rows)
    assert {row.seat for row in rows} <= {"member", "grace", "probation"}
    assert json.loads((tmp_path / "state.json").read_text())["weights"]["BTC/USDT:USDT"]
