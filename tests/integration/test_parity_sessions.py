"""``conclave parity`` on sessions of a real desk and a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.files import read_bars
from data.sources.replay import ReplaySource
from domain.market import Bar, BarFrame
from domain.ports import MarketSource
from domain.trading import EquityMark, Posting
from execution.funding import rates_of
from execution.loop import TradingLoop
from serving.asserting_setup import session_backtest
from serving.bootstrap.desk import build_desk_on
from serving.bootstrap.storage import open_storage
from serving.cli import run as conclave
from serving.commands.common import settings_from
from serving.deciders import build_strategy
from serving.feeds import Feed, feed_of
from serving.plan import RunPlan
from serving.rerunning import Session
from serving.sessions import KIND
from sim.worlds import DEMO_START_MS, PlantedEdge
from storage.events import EventLog
from storage.ledger import SqlLedger
from storage.verify import verify_chain
from tests.command_line import STEP
from tests.crash_scenes import exercised_bars
from tests.data_fixtures import write_parquet

PERP = "BTC/USDT:USDT"
LIVE, BARS = 80, 300
EAGER = (
    "models.agents=climatology,technical,risk", "serving.monitor=false", "WARM_UP_DAYS=2",
    "PROB_MIN=0.5", "decision.delta=0", "MIN_FORECASTERS=1", "RISK_MAX=1", "FEES_BPS=0",
    "execution.spread_bps=0", "execution.slippage_bps=0", "execution.funding=false",
)  # fmt: skip
"""A council that trades nearly every bar: nothing costs, and one forecaster is enough."""


@dataclass
class Feeding:
    """Some bars of a source, and what people do before some of them."""

    source: MarketSource
    bars: int
    loop: TradingLoop | None = None

    @property
    def label(self) -> str:
        return self.source.label

    def stream(self, after_ms: Mapping[str, int]) -> Iterator[Bar]:
        for place, bar in enumerate(islice(self.source.stream(after_ms), self.bars)):
            assert self.loop is not None
            if place == 40:
                self.loop.kill("cli", "drill", bar.open_ms)
            if place == 45:
                self.loop.arm("cli", "drill over", bar.open_ms)
            yield bar


def run(plan: RunPlan, feed: Feed, sets: list[str], bars: int) -> None:
    settings = settings_from(plan.profile, None, sets)
    feeding = Feeding(feed.source, bars)
    desk = build_desk_on(plan, settings, replace(feed, source=feeding))
    feeding.loop = desk.loop
    asyncio.run(desk.run())


def asked(var_dir: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    capsys.readouterr()
    code = conclave(["parity", *words, "--json", "--set", f"VAR_DIR={var_dir}"])
    told = capsys.readouterr()
    return code, json.loads(told.out) if told.out else None, told.err


def exercised(var_dir: Path, *, bars: int = BARS, more: tuple[str, ...] = ()) -> Path:
    """A session of the exercise profile on bars with rates of their own; its bars as a file."""
    frame = BarFrame.of(exercised_bars(bars))
    stamps = [int(ts) for ts in frame.ts if ts % (8 * 3_600_000) == 0]
    rates = rates_of(stamps, [0.0003 + 0.0001 * i for i in range(len(stamps))])
    span = (int(frame.ts[0]), int(frame.ts[-1]) + STEP)
    price = {PERP: float(frame.close[-1])}
    feed = Feed(ReplaySource([frame]), [PERP], [], price, rates, keep_market=True, span=span)
    plan = RunPlan("replay", "replay-made", "exercise", None, local=True)
    sets = [f"VAR_DIR={var_dir}", "models.agents=climatology", "serving.monitor=false", *more]
    run(plan, feed, sets, bars)
    return write_parquet(var_dir.parent / "BTCUSDT-binance-perp-5m-made.parquet", frame)


@pytest.mark.long
def test_parity_when_a_council_traded_the_demo_market_then_it_is_equal(tmp_path, capsys):
    plan = RunPlan("demo", "demo-7", "demo", None, warm_up_days=2, local=True)
    sets = [f"VAR_DIR={tmp_path}", *EAGER]
    settings = settings_from("demo", None, sets)
    run(plan, feed_of(plan, settings), sets, LIVE)
    code, body, err = asked(tmp_path, capsys)
    assert code == 0, err
    assert (body["same"], body["exact"], body["strategy"]) == (True, True, "council")
    assert body["compared"]["decisions"]["session"] == 2 * 288 + LIVE
    assert body["inputs"]["bars"] == 2 * 288 + LIVE
    assert body["inputs"]["mode_changes"] == 2
    assert body["compared"]["trades"]["session"] > 5
    assert body["equity"]["apart_satoshi"] == 0

    session = Session(open_storage(settings), "demo-7")
    marks = [mark for _, mark in session.records(EquityMark)]
    start, end = marks[LIVE // 4].at, marks[-2].at
    again = session_backtest(open_storage(settings), "demo-7", build_strategy)
    assert again(start, end) == [mark for mark in marks if start < mark.at <= end]
    assert len({mark.equity for mark in marks}) > LIVE // 2


@pytest.mark.long
def test_parity_when_rates_differ_by_stamp_then_funding_is_equal_too(tmp_path, capsys):
    exercised(tmp_path / "var")
    code, body, err = asked(tmp_path / "var", capsys, "replay-made")
    assert code == 0, err
    assert body["compared"]["funding"]["session"] > 1
    assert body["compared"]["trades"]["session"] > 5
    assert body["trades_sha256"]["session"] == body["trades_sha256"]["replayed"]
    assert body["slippage"]["apart_bps"] == 0.0


@pytest.mark.long
def test_parity_when_a_file_has_rates_of_four_hours_then_each_is_paid_and_paid_again(
    tmp_path, capsys
):
    frame, four = BarFrame.of(exercised_bars(BARS)), 4 * 3_600_000
    bars = write_parquet(tmp_path / "BTCUSDT-binance-perp-5m-made.parquet", frame)
    stamps = frame.ts[frame.ts % four == 0]
    rates = tmp_path / "BTCUSDT-binance-perp-funding-4h-made.parquet"
    pq.write_table(pa.table({"ts": stamps, "rate": 1e-4 * (1 + np.arange(len(stamps)))}), rates)
    var_dir = tmp_path / "var"
    plan = RunPlan(
        "replay", "replay-made", "exercise", None, local=True, data=(str(bars),), funding=str(rates)
    )
    sets = [f"VAR_DIR={var_dir}", "models.agents=climatology", "serving.monitor=false"]
    settings = settings_from(plan.profile, None, sets)
    run(plan, feed_of(plan, settings), sets, BARS)
    session = Session(open_storage(settings), "replay-made")
    paid = {line.at for _, line in session.records(Posting) if line.book == "funding"}
    assert {at % (2 * four) for at in paid} == {0, four}
    code, body, err = asked(var_dir, capsys, "replay-made")
    assert code == 0, err
    assert body["compared"]["funding"]["session"] == len(paid)


@pytest.mark.long
def test_parity_when_settings_changed_between_two_runs_then_each_holds_for_its_rows(
    tmp_path, capsys
):
    exercised(tmp_path / "var", bars=150)
    exercised(tmp_path / "var", more=("execution.fixed_notional=900", "FEES_BPS=7"))
    code, _, err = asked(tmp_path / "var", capsys)
    assert code == 0, err
    engine = open_storage(settings_from(None, None, [f"VAR_DIR={tmp_path / 'var'}"]))
    assert len(EventLog(engine, "replay-made").of_kind(KIND)) == 2
    assert verify_chain(engine).ok


def test_parity_when_the_same_terms_run_again_then_they_are_noted_once(tmp_path):
    exercised(tmp_path / "var", bars=30)
    exercised(tmp_path / "var", bars=30)
    engine = open_storage(settings_from(None, None, [f"VAR_DIR={tmp_path / 'var'}"]))
    (event,) = EventLog(engine, "replay-made").of_kind(KIND)
    assert event.body["after"] == 0
    assert "api_token" not in json.dumps(event.body)


@pytest.mark.long
def test_parity_when_a_file_has_another_bar_then_1_and_the_bar_is_named(tmp_path, capsys):
    path = exercised(tmp_path / "var")
    assert asked(tmp_path / "var", capsys, "--data", str(path))[0] == 0
    frame = read_bars(path)
    frame.close[200] += 5.0
    frame.high[200] += 5.0
    other = write_parquet(tmp_path / "BTCUSDT-binance-perp-5m-other.parquet", frame)
    code, body, err = asked(tmp_path / "var", capsys, "--data", str(other))
    assert code == 1
    assert body["first"].startswith("bars at 2025-01-01T23:35:00Z: ")
    assert "paper and backtest differ; the first: bars at" in err
    first = body["compared"]["bars"]["first"]
    assert first["fields"] == ["high", "close"]
    assert first["session"]["close"] + 5.0 == first["replayed"]["close"]
    assert conclave(["parity", "--data", str(other), "--set", f"VAR_DIR={tmp_path / 'var'}"]) == 1
    told = capsys.readouterr().out
    assert "different: bars at" in told
    assert "first of bars" in told


@pytest.mark.long
def test_parity_when_the_session_lies_elsewhere_then_its_path_names_it(tmp_path, capsys):
    exercised(tmp_path / "var", bars=60)
    here = tmp_path / "here"
    for name in ("var", "var/ledger.db", "var@replay-made", "var/ledger.db@replay-made"):
        code, body, err = asked(here, capsys, str(tmp_path / name))
        assert (code, body["session"]) == (0, "replay-made"), err


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nobody",), "It holds old, replay-made."),
        ((), "It holds old, replay-made."),
        (("old",), "must say what it was run with"),
        (("empty",), "must lie in a folder with a ledger"),
        (("torn.db",), "cannot be read"),
        (("replay-made", "--data", "spot"), "must hold 5m bars that the session traded"),
    ],
)
def test_parity_when_a_session_cannot_be_read_then_3_and_what_is_there(
    tmp_path, capsys, monkeypatch, words, told
):
    exercised(tmp_path / "var", bars=30)
    settings = settings_from(None, None, [f"VAR_DIR={tmp_path / 'var'}"])
    SqlLedger(open_storage(settings), "old").append(exercised_bars(3))
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.db").write_bytes(b"this is no database, and never was one" * 300)
    spot = PlantedEdge(5, start_ms=DEMO_START_MS).bars(DEMO_START_MS, 400)
    path = write_parquet(tmp_path / "BTCUSDT-binance-spot-5m-made.parquet", spot)
    monkeypatch.chdir(tmp_path)
    code, body, err = asked(
        tmp_path / "var", capsys, *(str(path) if word == "spot" else word for word in words)
    )
    assert (code, body) == (3, None)
    assert told in err
