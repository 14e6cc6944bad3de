"""Paper is the backtest: the same bars through ``up`` and through ``backtest``, to the satoshi."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from domain.trading import ClosedTrade
from sim.backtest import trades_sha256
from storage.engine import open_database, sqlite_url
from storage.ledger import SqlLedger
from storage.queries import Reader
from tests.acceptance.running import conclave, start

pytestmark = pytest.mark.long

BARS = "BTCUSDT-binance-perp-5m-20241231-20251231.parquet"
QUICK = {"CONCLAVE_MODELS__AGENTS": "climatology", "TRIALS_LOG": "none"}


@pytest.fixture
def bars() -> Path:
    samples = os.environ.get("CONCLAVE_SAMPLES")
    if not samples:
        pytest.skip("CONCLAVE_SAMPLES is not set: no folder of sample bars")
    return Path(samples, BARS)


def paper(var_dir: Path, bars: Path, timerange: str, seconds: float) -> dict[str, Any]:
    """What a replay of real bars left in its ledger."""
    flags = ["--local", "--source", "replay", "--speed", "max", "--profile", "exercise"]
    flags += ["--data", str(bars), "--timerange", timerange]
    run = start(var_dir, flags, QUICK)
    assert run.process.wait(seconds) == 0, run.output.read_text()[-2000:]
    engine = open_database(sqlite_url(var_dir / "ledger.db"))
    try:
        world = str(run.plan["world"])
        trades = [trade for _, trade in SqlLedger(engine, world).records(ClosedTrade)]
        mark = Reader(engine, world).latest_equity("paper")
        assert mark is not None
        return {
            "trades": len(trades), "sha256": trades_sha256(trades), "equity": mark[1].equity,
            "sides": [sum(t.side == side for t in trades) for side in ("LONG", "SHORT")],
        }  # fmt: skip
    finally:
        engine.dispose()


def told(var_dir: Path, *words: str) -> dict[str, Any]:
    done = conclave(var_dir, *words, "--json", "--set", "TRIALS_LOG=none", seconds=1_200)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def same_as_backtest(var_dir: Path, bars: Path, timerange: str, seconds: float) -> list[int]:
    traded = paper(var_dir, bars, timerange, seconds)
    flags = ["--data", str(bars), "--profile", "exercise", "--timerange", timerange]
    tested = told(var_dir, "backtest", *flags)
    assert (traded["sha256"], traded["trades"]) == (tested["trades_sha256"], tested["trades"])
    assert traded["equity"] == Decimal(tested["final_equity"])
    parity = told(var_dir, "parity")
    assert parity["same"]
    assert parity["equity"]["largest_apart_satoshi"] == 0
    assert parity["trades_sha256"]["replayed"] == tested["trades_sha256"]
    assert parity["compared"]["funding"]["session"] > 0
    return list(traded["sides"])


@pytest.mark.timeout(280)
def test_paper_when_two_days_are_replayed_then_it_is_the_backtest(
    tmp_path: Path, bars: Path
) -> None:
    longs, shorts = same_as_backtest(tmp_path, bars, "20250203-20250205", 200)
    assert min(longs, shorts) > 5


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_paper_when_two_months_are_replayed_then_it_is_the_backtest_to_the_last_satoshi(
    tmp_path: Path, bars: Path
) -> None:
    longs, shorts = same_as_backtest(tmp_path, bars, "20250101-20250301", 2_400)
    assert longs + shorts >= 500
    assert min(longs, shorts) >= 200
