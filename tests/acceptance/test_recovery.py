"""kill −9 at any moment, carry on: the ledger ends up the same, to the last hash."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim.worlds import DEMO_START_MS, DemoMarket
from storage.engine import open_database, sqlite_url
from storage.queries import Reader
from storage.verify import verify_chain
from tests.acceptance.running import Running, start

pytestmark = pytest.mark.long

BARS = 1_200


@pytest.fixture(scope="module")
def bars_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars of the demo market as a user's file."""
    frame = DemoMarket(seed=11).bars(DEMO_START_MS, BARS)
    path = tmp_path_factory.mktemp("bars") / "BTCUSDT-binance-perp-5m-20250101-20250105.parquet"
    names = ("ts", "open", "high", "low", "close", "volume")
    pq.write_table(pa.table({name: getattr(frame, name) for name in names}), path)
    return path


def replay(var_dir: Path, bars: Path, *more: str) -> Running:
    flags = ["--local", "--source", "replay", "--data", str(bars), "--profile", "demo"]
    return start(var_dir, [*flags, *more])


def records(var_dir: Path) -> tuple[str, dict[str, int]]:
    """The chain's head and the rows by table."""
    engine = open_database(sqlite_url(var_dir / "ledger.db"))
    try:
        report = verify_chain(engine)
        assert report.ok, report.problem
        world = _world(var_dir)
        reader = Reader(engine, world)
        for balance in _sums(reader).values():
            assert balance == 0
        return report.head_hash, reader.counts()
    finally:
        engine.dispose()


def _world(var_dir: Path) -> str:
    return str(Running(None, var_dir, var_dir).plan["world"])  # type: ignore[arg-type]


def _sums(reader: Reader) -> dict[str, object]:
    sums: dict[str, object] = {}
    for row in reader.trial_balance():
        sums[row.asset] = sums.get(row.asset, 0) + row.amount  # type: ignore[operator]
    return sums


@pytest.mark.slow  # two minutes; test_crashes.py kills the same loop with make test-long
@pytest.mark.timeout(280)
def test_replay_when_killed_again_and_again_then_the_ledger_equals_the_uninterrupted_one(
    tmp_path: Path, bars_file: Path
) -> None:
    whole = replay(tmp_path / "whole", bars_file)
    assert whole.process.wait(120) == 0
    expected, counts = records(tmp_path / "whole")
    assert counts["decisions"] == BARS
    assert counts["outcomes"] >= BARS - 5 - 288 - 1
    assert counts["trades"] > 5

    chance = random.Random(5)
    broken = tmp_path / "broken"
    kills = 0
    while True:
        run = replay(broken, bars_file)
        deadline = time.monotonic() + 5.0 + 3.0 * chance.random()
        while run.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if run.process.poll() is not None or kills >= 4:
            break
        run.process.kill()
        run.process.wait(10)
        kills += 1
    assert run.process.wait(120) == 0, run.output.read_text()[-2000:]
    assert kills >= 1, "it was never interrupted"

    assert records(broken) == (expected, counts)


@pytest.mark.timeout(120)
def test_replay_when_run_again_after_its_end_then_nothing_is_added(
    tmp_path: Path, bars_file: Path
) -> None:
    first = replay(tmp_path, bars_file, "--timerange", "20250101-20250102")
    assert first.process.wait(60) == 0
    before = records(tmp_path)
    again = replay(tmp_path, bars_file, "--timerange", "20250101-20250102")
    assert again.process.wait(60) == 0
    assert records(tmp_path) == before


@pytest.mark.timeout(180)
def test_up_when_the_ledger_was_damaged_meanwhile_then_it_starts_from_what_still_verifies(
    tmp_path: Path, bars_file: Path
) -> None:
    first = replay(tmp_path, bars_file, "--timerange", "20250101-20250102")
    assert first.process.wait(60) == 0
    rows = verified(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("DROP TRIGGER chain_no_update")
        database.execute("UPDATE chain SET hash = 'x' WHERE seq = ?", (rows - 100,))
    database.close()
    again = replay(tmp_path, bars_file, "--timerange", "20250101-20250102")
    assert again.process.wait(120) == 0
    told = again.output.read_text()
    assert f"row {rows - 100} does not match its hash" in told
    assert "HALTED until armed" in told
    assert verified(tmp_path) > rows - 100
    assert list(tmp_path.glob("ledger.db.damaged-*"))


def verified(var_dir: Path) -> int:
    engine = open_database(sqlite_url(var_dir / "ledger.db"))
    try:
        report = verify_chain(engine)
    finally:
        engine.dispose()
    assert report.ok, report.problem
    return report.rows


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_system_when_the_main_process_is_killed_then_ready_again_within_a_minute(
    tmp_path: Path,
) -> None:
    flags = ["--speed", "150", "--set", "WARM_UP_DAYS=3"]
    first = start(tmp_path / "var", flags).ready()
    with first.client() as client:
        before = client.get("/v1/signals?limit=1").json()["items"][0]
    first.process.kill()
    first.process.wait(10)

    began = time.monotonic()
    second = start(tmp_path / "var", flags).ready(90)
    seconds = time.monotonic() - began
    try:
        with second.client() as client:
            kept = client.get(f"/v1/signals/{before['id']}")
        assert kept.json() == before
        assert seconds < 60
    finally:
        second.stop(signal.SIGINT)
    assert second.processes() == []
    records(tmp_path / "var")
