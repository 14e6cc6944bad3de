"""``conclave up`` where no exchange answers: the simulated market, traded at a local exchange."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.running import NO_EXCHANGE, Running, conclave, start

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

FLAGS = ["--local", "--profile", "exercise", "--speed", "300", "--set", "WARM_UP_DAYS=2"]
MEMBERS = {"CONCLAVE_MODELS__AGENTS": "climatology,microstructure,risk,technical"}
STEP = 300_000


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = begun(tmp_path / "var")
    try:
        yield made.ready()
    finally:
        made.stop(signal.SIGINT)


def begun(var_dir: Path) -> Running:
    return start(var_dir, FLAGS, {**NO_EXCHANGE, **MEMBERS})


def rows(running: Running, query: str) -> list[Any]:
    file = f"file:{running.var_dir / 'ledger.db'}?mode=ro"
    with sqlite3.connect(file, uri=True, timeout=5.0) as database:
        return database.execute(query).fetchall()


def opens(running: Running, symbol: str) -> list[int]:
    query = f"SELECT open_ms FROM bars WHERE symbol = '{symbol}' ORDER BY seq"
    return [row[0] for row in rows(running, query)]


def venue_of(running: Running) -> psutil.Process:
    [found] = [p for p in running.processes() if "serving.venue_process" in " ".join(p.cmdline())]
    return found


def test_up_when_no_exchange_answers_then_the_market_is_traded_at_one_of_this_machine(
    running: Running,
) -> None:
    seen = "SELECT 1 FROM seen_books WHERE symbol = 'BTC/USDT'"
    heard = "SELECT 1 FROM opinions WHERE agent = 'microstructure' AND p_up IS NOT NULL"
    for query, what in (("SELECT 1 FROM fills", "a fill"), (seen, "a book"), (heard, "a word")):
        running.until(60, lambda query=query: rows(running, f"{query} LIMIT 1"), what)
    with running.client() as client:
        health = client.get("/v1/system/health").json()
        page = client.get("/").text
        signals = client.get("/v1/signals?limit=20").json()["items"]
    assert health["simulated"]
    assert health["source"] == "demo"
    assert {use["name"] for use in health["resources"]} == {
        "cpu", "memory", "network", "reconnects",
    }  # fmt: skip
    assert "SIMULATED" in page.upper()
    assert "SIMULATED MARKET" in running.output.read_text()
    assert {one["source"] for one in signals} == {"demo"}
    telling = conclave(running.var_dir, "status").stdout
    assert "simulated" in telling.lower()


def test_up_when_the_local_exchange_is_killed_then_it_comes_back_and_no_bar_is_missing(
    running: Running,
) -> None:
    venue = venue_of(running)
    venue.kill()
    at = opens(running, "BTC/USDT")[-1]
    running.until(60, lambda: opens(running, "BTC/USDT")[-1] >= at + 8 * STEP, "bars after it")
    assert venue_of(running).pid != venue.pid
    for symbol in ("BTC/USDT", "BTC/USDT:USDT"):
        known = opens(running, symbol)
        assert [b - a for a, b in pairwise(known) if b - a != STEP] == [], symbol


def test_up_when_started_again_then_market_time_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = begun(tmp_path / "var").ready()
    first.until(60, lambda: len(opens(first, "BTC/USDT:USDT")) >= 3, "live bars")
    family = first.processes()
    assert first.stop(signal.SIGINT) == 130
    assert not any(process.is_running() for process in family)
    last, plan = opens(first, "BTC/USDT")[-1], first.plan
    second = begun(tmp_path / "var").ready()
    try:
        assert second.plan["venue"]["start_ms"] == last + STEP
        assert second.plan["world"] == plan["world"]
        second.until(60, lambda: opens(second, "BTC/USDT")[-1] > last + STEP, "bars after it")
        known = opens(second, "BTC/USDT")
        assert [b - a for a, b in pairwise(known) if b - a != STEP] == []
        warm = "SELECT count(*) FROM decisions WHERE origin = 'warm_up' AND as_of > "
        assert rows(second, f"{warm}{last + STEP}")[0][0] == 0
    finally:
        second.stop(signal.SIGINT)


def test_up_when_live_is_asked_for_and_nobody_answers_then_it_does_not_start(
    tmp_path: Path,
) -> None:
    refused = start(tmp_path / "var", ["--local", "--source", "live"], NO_EXCHANGE)
    assert refused.process.wait(60) == 4
    said = refused.output.read_text()
    assert "binance: does not answer" in said
    assert "never falls back" in said
