"""kill −9 at every step boundary and at any instant: real processes, one real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from domain.trading import ClosedTrade, Fill, ModeChange
from serving.sessions import KIND
from storage.engine import open_database, sqlite_url
from storage.events import EventLog
from storage.ledger import SqlLedger
from storage.queries import Reader
from storage.verify import verify_chain
from tests.crash_driver import WORLD

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]


def drive(var_dir: Path, bars: int, mode: str, number: int, seed: int = 11) -> dict[str, Any]:
    words = [str(var_dir), str(bars), mode, str(number), str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash_driver", *words],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    log = var_dir / "lives.log"
    lives = log.read_text()[-3000:] if log.exists() else ""
    assert done.returncode == 0, done.stderr + lives
    return dict(json.loads(done.stdout.splitlines()[-1]))


def left_behind(var_dir: Path) -> dict[str, Any]:
    """All rows, by the hash of the last one; position and equity; nothing in it is wall time."""
    engine = open_database(sqlite_url(var_dir / "ledger.db"))
    try:
        report = verify_chain(engine)
        assert report.ok, report.problem
        reader, ledger = Reader(engine, WORLD), SqlLedger(engine, WORLD)
        fills = [fill for _, fill in ledger.records(Fill)]
        mark = reader.latest_equity("paper")
        assert mark is not None
        counts = reader.counts()
        counts["events"] -= len(EventLog(engine, WORLD).of_kind(KIND))  # they name the commit
        return {
            "head": report.head_hash,
            "counts": counts,
            "position": sum((f.qty * f.side.sign for f in fills), Decimal(0)),
            "equity": mark[1].equity,
            "modes": [change.mode for _, change in ledger.records(ModeChange)],
            "trades": len(list(ledger.records(ClosedTrade))),
            "orders": len({fill.order_id for fill in fills}),
        }
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Any]]:
    """What so many bars leave behind when nobody dies."""

    @cache
    def left(bars: int) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("calm")
        drive(folder, bars, "calm", 0)
        found = left_behind(folder)
        assert found["trades"] > 1
        assert found["modes"] == ["KILLED", "ACTIVE"]
        return found

    return left


@pytest.mark.timeout(280)
@pytest.mark.parametrize(("mode", "bars", "number"), [("boundaries", 64, 30), ("random", 240, 24)])
def test_desk_when_killed_some_dozen_times_then_nothing_is_lost_or_doubled(
    tmp_path: Path, calm: Callable[[int], dict[str, Any]], mode: str, bars: int, number: int
) -> None:
    told = drive(tmp_path, bars, mode, number)
    assert told["kills"] >= 12
    assert left_behind(tmp_path) == calm(bars)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_desk_when_killed_at_every_boundary_then_nothing_is_lost_or_doubled(
    tmp_path: Path, calm: Callable[[int], dict[str, Any]]
) -> None:
    told = drive(tmp_path, 64, "boundaries", 1)
    assert told["kills"] > 400
    assert left_behind(tmp_path) == calm(64)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_desk_when_killed_hundreds_of_times_at_random_then_nothing_is_lost_or_doubled(
    tmp_path: Path, calm: Callable[[int], dict[str, Any]]
) -> None:
    kills = lap = 0
    while kills < 300:
        lap += 1
        kills += drive(tmp_path / str(lap), 240, "random", 100, seed=lap)["kills"]
        assert left_behind(tmp_path / str(lap)) == calm(240)
