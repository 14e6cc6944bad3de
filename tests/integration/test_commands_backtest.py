"""``backtest`` through the real command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from data.files import file_sha256
from data.instruments import instrument_for
from data.memory import MarketMemory
from domain.market import MarketState
from domain.opinion import Opinion
from domain.trading import EquityMark
from execution.strategies import EmaCross
from serving import backtesting
from serving.backtesting import MoneyLedger, Request, run, set_up, taped
from serving.commands.common import settings_from
from serving.deciders import agents_named, trained_until
from serving.market_files import load_bars
from serving.system import SystemClock
from sim.backtest import exercise_rules, plain_states, run_backtest
from sim.opinions import widest
from sim.reports.backtest import render
from sim.worlds import DEMO_START_MS, DemoMarket, PlantedEdge
from storage.memory import MemoryLedger
from tests.command_line import LIGHT, STEP, YEAR_2024, Cli, perp, spot
from tests.data_fixtures import write_parquet

# backtest


@pytest.mark.long
def test_backtest_when_exercised_then_it_is_the_loops_own_run(cli: Cli, tmp_path: Path) -> None:
    path = perp(tmp_path)
    code, out, err = cli(
        "backtest", "--data", path, "--profile", "exercise", "--breakdown", "day", "--json"
    )
    board = json.loads(out)
    frame = load_bars(path, SystemClock()).frame
    same = run_backtest(frame, EmaCross(), instrument_for(frame.symbol), rules=exercise_rules())
    assert code == 0
    assert board["trades"] == len(same.closed) > 20
    assert board["trades_sha256"] == same.trades_sha256
    assert board["final_equity"] == same.as_json()["final_equity"]
    assert set(board) == {*same.as_json(), "breakdown"}
    assert [row["period"] for row in board["breakdown"]] == [
        f"2025-01-0{day}" for day in range(1, 5)
    ]
    assert board["data"]["sha256"] == file_sha256(path)
    assert "EXECUTION_MARKET=perp is ignored" in err


@pytest.mark.long
def test_backtest_when_shown_then_conventions_stand_beside_the_numbers(
    cli: Cli, tmp_path: Path
) -> None:
    code, out, _ = cli("backtest", "--data", perp(tmp_path), "--profile", "exercise")
    assert code == 0
    for words in (
        "taker 5 bp a side", "0.01% per 8 h", "is ignored", "promises nothing", "√n × mean / std",
        "traders who trade as often", "Sharpe ratio above 1.0",
    ):  # fmt: skip
        assert words in " ".join(out.split())
    assert json.loads((tmp_path / "var/reports/backtest/latest.json").read_text())["conventions"]


@pytest.mark.long
def test_backtest_when_done_then_a_tear_sheet_lies_beside_its_json_and_where_asked(
    cli: Cli, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.html"
    words = ("backtest", "--data", perp(tmp_path), "--profile", "exercise", "--json")
    code, out, err = cli(*words, "--breakdown", "week", "--html", sheet)
    folder = tmp_path / "var/reports/backtest"
    report = json.loads((folder / "latest.json").read_text())
    page = (folder / "latest.html").read_text()
    (kept,) = (folder / "history").glob("*.html")
    assert code == 0
    assert page == kept.read_text() == sheet.read_text() == render(report)
    assert f"report: {kept}" in err
    assert all(f">{row['period']}<" in page for row in report["breakdown"])
    body = json.loads(out)
    assert {"curves", "conventions", "trial"} == set(report) - set(body)
    assert {row["met"] for row in body["success"]} == {True, False, None}
    assert body["n"]["win_rate"] == body["trades"]
    assert 0.0 <= body["benchmarks"]["random_turnover"]["percentile"] <= 1.0


@pytest.mark.long
def test_backtest_when_the_council_trades_then_its_probabilities_are_held_against_outcomes(
    cli: Cli, tmp_path: Path
) -> None:
    cli(
        "backtest", "--data", demo(tmp_path, 900), "--profile", "demo", "--set",
        f"models.agents={LIGHT}", "--set", "consensus.min_forecasters=1",
    )  # fmt: skip
    report = json.loads((tmp_path / "var/reports/backtest/latest.json").read_text())
    found = report["curves"]["calibration"]
    assert found["n"] > 400
    assert found["why"] is None
    assert sum(row["n"] for row in found["reliability"]) == found["n"]


def demo(folder: Path, n: int = 3_400) -> Path:
    return write_parquet(
        folder / "BTCUSDT-binance-perp-5m-demo.parquet",
        DemoMarket(symbol="BTC/USDT:USDT").bars(DEMO_START_MS, n),
    )


@pytest.mark.long
def test_backtest_when_the_council_trades_then_batches_change_nothing(tmp_path: Path) -> None:
    settings = settings_from(
        "demo", None, [f"models.agents={LIGHT}", "consensus.min_forecasters=1"]
    )
    path = demo(tmp_path)
    span = DEMO_START_MS + 2_300 * STEP, DEMO_START_MS + 3_300 * STEP
    setup = set_up(settings, Request(path, None, None, span, "demo", ""), SystemClock())
    batched = run(setup)
    frame, needs = setup.bars.frame, widest(setup.agents)
    memory = MarketMemory(frame.symbol, frame.timeframe, keep=None)
    memory.append(frame)
    again = set_up(settings, Request(path, None, None, span, "demo", ""), SystemClock())
    singly = run_backtest(
        frame, again.strategy, again.instrument, rules=again.rules,
        states=memory.states(*span, needs.bars, needs.feature_rows),
        opinions=OneByOne(setup.agents), ledger=MemoryLedger(),
    )  # fmt: skip
    assert batched.trades_sha256 == singly.trades_sha256
    assert batched.final_equity == singly.final_equity
    assert batched.decisions == singly.decisions
    assert batched.metrics == singly.metrics
    assert len(batched.closed) > 3
    assert {trade.side for trade in batched.closed} == {"LONG", "SHORT"}


class OneByOne:
    """Asks every agent about one state at a time."""

    def __init__(self, agents: Any) -> None:
        self.agents = agents

    def opinions(self, state: MarketState) -> tuple[list[Opinion], dict[str, str]]:
        return [agent.opine([state])[0] for agent in self.agents.values()], {}


def test_taped_when_a_bar_was_trained_on_then_the_agent_is_absent(tmp_path: Path) -> None:
    settings = settings_from(
        None, None, ["models.agents=baseline,risk,climatology", f"VAR_DIR={tmp_path / 'var'}"]
    )
    end = trained_until(agents_named(settings.models.agents, settings))["risk"]
    path = spot(tmp_path, 600, end - 400 * STEP)
    span = end - 100 * STEP, end + 200 * STEP
    states, tape = taped(
        set_up(settings, Request(path, None, None, span, "strict", ""), SystemClock()),
        lambda done, total: None,
    )
    absent = {state.as_of: tape.opinions(state)[1] for state in states}
    assert absent[end] == {"baseline": "in_sample", "risk": "in_sample"}
    assert absent[end + STEP] == {}
    assert len(absent) == 300


@pytest.mark.long
def test_backtest_when_models_were_trained_on_the_bars_then_it_says_so_and_claims_nothing(
    cli: Cli, tmp_path: Path
) -> None:
    path = spot(tmp_path, 500, YEAR_2024)
    code, out, _ = cli("backtest", "--data", path, "--set", "models.agents=climatology,risk")
    words = " ".join(out.split())
    assert code == 0
    assert "risk throughout: trained on these bars" in words
    assert "and no wonder" in words
    assert "the honest answer" not in words


@pytest.mark.long
def test_backtest_when_two_files_are_given_then_one_is_forecast_and_the_other_traded(
    cli: Cli, tmp_path: Path
) -> None:
    files = ("--data", spot(tmp_path), "--exec-data", perp(tmp_path))
    code, out, err = cli("backtest", *files, "--strategy", "ema_cross", "--json")
    board = json.loads(out)
    assert code == 0
    assert (board["data"]["symbol"], board["strategy"]) == ("BTC/USDT", "ema_cross")
    assert board["trades"] > 20
    assert board["costs"]["funding"] != 0
    assert "ignored" not in err
    alone = json.loads(cli("backtest", *files[:2], "--strategy", "ema_cross", "--json")[1])
    assert "short_not_possible" in alone["decisions"]["reasons"]
    assert "short_not_possible" not in board["decisions"]["reasons"]


@pytest.mark.parametrize("strategy", ["ema_cross", "mean_reversion"])
def test_backtest_when_the_profile_has_stops_then_strategies_that_ask_nobody_leave_by_them(
    tmp_path: Path, strategy: str
) -> None:
    overrides = [f"execution.strategy={strategy}", "risk.daily_breaker=false"]
    settings = settings_from("strict", None, overrides)
    request = backtesting.Request(perp(tmp_path), None, None, (None, None), "strict", "")
    result = backtesting.run(backtesting.set_up(settings, request, SystemClock()))
    first = min(trade.opened_at for trade in result.closed if trade.reason == "stop")
    assert {"stop", "target"} <= {trade.reason for trade in result.closed}
    if strategy == "ema_cross":  # no ATR before a day of bars
        assert first >= DEMO_START_MS + 288 * STEP
    assert len(result.closed) > 20


@pytest.mark.long
def test_backtest_when_a_funding_file_lies_beside_the_bars_then_it_is_paid(
    cli: Cli, tmp_path: Path
) -> None:
    path = perp(tmp_path)
    words = ("backtest", "--data", path, "--profile", "exercise", "--json")
    usual = json.loads(cli(*words)[1])["costs"]["funding"]
    stamps = DEMO_START_MS + 8 * 3_600_000 * np.arange(20)
    table = pa.table({"ts": stamps, "rate": np.full(20, 0.01)})
    other = tmp_path / "elsewhere" / "BTCUSDT-binance-perp-funding-8h-made.parquet"
    other.parent.mkdir()
    pyarrow.parquet.write_table(table, other)
    given = json.loads(cli(*words, "--funding", other)[1])["costs"]["funding"]
    other.rename(tmp_path / other.name)
    beside = json.loads(cli(*words)[1])["costs"]["funding"]
    assert usual != 0
    assert given == beside == pytest.approx(100 * usual, rel=1e-6)
    off = json.loads(cli(*words, "--set", "execution.funding=false")[1])["costs"]["funding"]
    assert off == 0


@pytest.mark.long
def test_backtest_when_fees_are_set_then_they_are_paid(cli: Cli, tmp_path: Path) -> None:
    words = ("backtest", "--data", perp(tmp_path), "--profile", "exercise", "--json")
    usual, dear = (
        json.loads(cli(*words, "--set", f"FEES_BPS={fee}")[1])["costs"]["fees"] for fee in (5, 15)
    )
    assert dear == pytest.approx(3 * usual)


def test_backtest_when_the_oracle_profile_is_used_then_it_is_the_textbook_loop(
    cli: Cli, tmp_path: Path
) -> None:
    path = perp(tmp_path)
    board = json.loads(cli("backtest", "--data", path, "--profile", "oracle", "--json")[1])
    frame = load_bars(path, SystemClock()).frame
    cash, held, entry, trades, fees = 1_000_000.0, 0.0, 0.0, 0, 0.0
    gaps = [EmaCross().prepare_state(state, [], {}).gap for state in plain_states(frame)]
    for opened, gap in zip(frame.open[1:], gaps[:-1], strict=True):
        side = 0.0 if gap is None else float(np.sign(gap))
        if side == 0.0 or side == held:
            continue
        fees += 5e-4 * opened * (1 + abs(held))
        cash += held * (opened - entry)
        trades += held != 0.0
        held, entry = side, opened
    equity = cash - fees + held * (frame.close[-1] - entry)
    assert board["trades"] == trades > 20
    assert board["metrics"]["equity_final"] == pytest.approx(equity, abs=0.01)
    assert board["costs"]["fees"] == pytest.approx(fees)
    assert {board["costs"][name] for name in ("spread", "slippage", "funding")} == {0.0}


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--exec-data", "{spot}"], 2, "the other market"),
        (["--funding", "{perp}"], 2, "spot pays none"),
        (["--strategy", "hope"], 2, "hope"),
        (["--profile", "exercize"], 2, 'Did you mean "exercise"?'),
        (["--breakdown", "decade"], 2, "decade"),
        (["--html", "{spot}/none/sheet.html"], 2, "a folder that exists"),
        (["--timerange", "20240101-20240201"], 3, "has no bar in the range"),
    ],
)
def test_backtest_when_the_question_makes_no_sense_then_it_says_why(
    cli: Cli, tmp_path: Path, flags: Sequence[str], code: int, words: str
) -> None:
    names = {"spot": spot(tmp_path, 400), "perp": perp(tmp_path, 400)}
    asked = [flag.format(**names) for flag in flags]
    found, out, err = cli("backtest", "--data", names["spot"], *asked, "--json")
    assert (found, out) == (code, "")
    assert words in err


def test_backtest_when_a_file_is_broken_then_it_is_refused(cli: Cli, tmp_path: Path) -> None:
    frame = PlantedEdge(5).bars(DEMO_START_MS, 50)
    frame.low[20] = -1.0
    path = write_parquet(tmp_path / "BTCUSDT-binance-spot-5m-bad.parquet", frame)
    code, _, err = cli("backtest", "--data", path)
    assert code == 3
    assert "non_positive_price" in err


def test_money_ledger_when_rows_pass_then_numbers_go_on_and_only_money_is_kept() -> None:
    ledger = MoneyLedger()
    frame = PlantedEdge(5).bars(DEMO_START_MS, 3)
    said = Opinion("a", "1", "BTC/USDT", "5m", 0, 5, 0.5, None)
    mark = EquityMark("paper", 0, Decimal(1), Decimal(1), Decimal(1))
    assert ledger.append([frame.bar(0), said, mark]) == [1, 2, 3]
    assert ledger.append([said]) == [4]
    assert ledger.head()[0] == 4
    assert [record for _, record in ledger.records(EquityMark)] == [mark]
    assert list(ledger.records(Opinion)) == list(ledger.records(type(frame.bar(0)))) == []
