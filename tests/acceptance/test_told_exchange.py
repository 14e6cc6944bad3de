"""``conclave up --source live`` at a ``conclave venue``: its market, its time, its speed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from domain.times import iso
from sim.worlds import DEMO_START_MS, DemoMarket
from tests.acceptance.running import ROOT, Running, start
from tests.relay import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

MEMBERS = {"CONCLAVE_MODELS__AGENTS": "climatology,microstructure,risk,technical"}
STEP, DAY = 300_000, 86_400_000


@dataclass
class Venue:
    """A venue of its own process, at a port that it comes back to."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def open(self, *flags: str) -> Iterator[None]:
        command = [sys.executable, "-m", "serving.cli", "venue", "--port", str(self.port), *flags]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == self.url
            yield
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130


def begun(var_dir: Path, url: str) -> Running:
    flags = ["--local", "--profile", "exercise", "--set", "WARM_UP_DAYS=2"]
    return start(var_dir, flags, {**MEMBERS, "SOURCE": "live", "EXCHANGE_URL": url})


def rows(var_dir: Path, query: str) -> list[Any]:
    file = f"file:{var_dir / 'ledger.db'}?mode=ro"
    with closing(sqlite3.connect(file, uri=True, timeout=5.0)) as database:
        return database.execute(query).fetchall()


def test_up_when_another_venue_runs_then_its_market_is_traded_at_its_own_time(
    tmp_path: Path,
) -> None:
    venue, var_dir = Venue(free_port()), tmp_path / "var"
    account, begins = tmp_path / "account.json", DEMO_START_MS + 4 * DAY
    flags = ("--speed", "300", "--state", str(account))
    with venue.open(*flags, "--start", iso(begins)):
        running = begun(var_dir, venue.url).ready()
        running.until(90, lambda: rows(var_dir, "SELECT 1 FROM fills"), "a fill")
        with running.client() as client:
            health = client.get("/v1/system/health").json()
        assert running.stop(signal.SIGINT) == 130
    world = running.plan["world"]
    assert (health["source"], health["simulated"], health["speed"]) == ("live", True, 300.0)
    assert "SIMULATED MARKET" in running.output.read_text()
    bars = rows(
        var_dir, "SELECT open_ms, open, high, low, close, volume FROM bars "
        "WHERE symbol = 'BTC/USDT' ORDER BY open_ms",
    )  # fmt: skip
    first, last = bars[0][0], bars[-1][0]
    assert begins - 2 * DAY <= first < begins
    assert last > begins
    assert [bar[0] for bar in bars] == list(range(first, last + STEP, STEP))
    true = DemoMarket(7, "BTC/USDT").bars(first, len(bars))
    columns = (true.ts, true.open, true.high, true.low, true.close, true.volume)
    assert bars == [tuple(row) for row in zip(*(c.tolist() for c in columns), strict=True)]

    with venue.open("--speed", "300", "--start", iso(begins)):  # the same market, from its start
        again = begun(var_dir, venue.url)
        assert again.process.wait(180) == 4
    assert "must have come as far as the ledger" in again.output.read_text()

    with venue.open(*flags):  # as its account was left
        again = begun(var_dir, venue.url).ready()
        again.until(
            60, lambda: rows(var_dir, "SELECT max(open_ms) FROM bars")[0][0] > last, "a bar"
        )
        assert again.stop(signal.SIGINT) == 130
    assert again.plan["world"] == world
    opens = [row[0] for row in rows(
        var_dir, "SELECT open_ms FROM bars WHERE symbol = 'BTC/USDT' ORDER BY open_ms"
    )]  # fmt: skip
    assert opens == list(range(first, opens[-1] + STEP, STEP))

    with venue.open("--speed", "300", "--seed", "8", "--start", iso(begins)):
        other = begun(var_dir, venue.url)
        other.until(60, lambda: other.plan["world"] != world, "a plan")
        assert other.stop(signal.SIGINT) == 130
    assert world.rpartition("-")[0] == other.plan["world"].rpartition("-")[0]
