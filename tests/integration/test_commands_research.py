"""evaluate, backtest, lookahead, train and models through the real command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from agents.artifacts import SHIPPED, FolderStore, versions
from data.files import file_sha256
from data.instruments import instrument_for
from data.memory import MarketMemory
from domain.errors import CheckFailed
from domain.market import MarketState
from domain.opinion import Opinion
from execution.strategies import EmaCross
from serving.backtesting import BatchedOpinions, MoneyLedger, Request, run, set_up
from serving.cli import run as conclave
from serving.commands.common import settings_from
from serving.commands.research import require_same
from serving.commands.research_tables import plain_words
from serving.evaluating import trained_until
from serving.market_files import load_bars
from serving.system import SystemClock
from serving.trials import read
from sim.backtest import exercise_rules, plain_states, run_backtest
from sim.opinions import widest
from sim.worlds import DEMO_START_MS, DemoMarket, PlantedEdge
from storage.memory import MemoryLedger
from tests.data_fixtures import write_parquet

STEP = 300_000
YEAR_2024 = 1_704_067_200_000
S_KEYS = {
    "n", "brier", "brier_skill_1e4", "log_loss", "auc", "accuracy", "pinball_bps", "coverage_80",
    "interval_score_bps", "risk_brier", "risk_auc", "weight_mean",
}  # fmt: skip
LIGHT = "climatology,technical"
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command on a VAR_DIR of its own; returns exit code, stdout and stderr."""

    def call(*words: str | Path, trials: Path | None = None) -> tuple[int, str, str]:
        sets = [f"VAR_DIR={tmp_path / 'var'}", f"TRIALS_LOG={trials or 'none'}"]
        flags = [flag for text in sets for flag in ("--set", text)]
        code = conclave([*map(str, words), *flags])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def spot(folder: Path, n: int = 1_100, start: int = DEMO_START_MS) -> Path:
    frame = PlantedEdge(5, start_ms=start).bars(start, n)
    return write_parquet(folder / "BTCUSDT-binance-spot-5m-made.parquet", frame)


def perp(folder: Path, n: int = 1_100) -> Path:
    frame = PlantedEdge(5, symbol="BTC/USDT:USDT").bars(DEMO_START_MS, n)
    return write_parquet(folder / "BTCUSDT-binance-perp-5m-made.parquet", frame)


def walk(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)
    else:
        yield value


# evaluate


def test_evaluate_when_asked_for_json_then_it_is_the_documented_shape(
    cli: Cli, tmp_path: Path
) -> None:
    path = spot(tmp_path)
    code, out, _ = cli("evaluate", "--data", path, "--timerange", "20250102-", "--json")
    board = json.loads(out)
    assert code == 0
    assert set(board) == {
        "data", "horizon_bars", "agents", "consensus", "baselines", "common", "models", "commit",
    }  # fmt: skip
    assert board["data"] == {
        "symbol": "BTC/USDT", "timeframe": "5m", "start": "2025-01-02T00:00:00Z",
        "end": "2025-01-04T19:40:00Z", "bars": 812, "sha256": file_sha256(path),
    }  # fmt: skip
    assert set(board["agents"]) == {"climatology", "technical", "baseline", "risk"}
    everybody = [*board["agents"].values(), board["consensus"], *board["baselines"].values()]
    assert all(set(row) >= S_KEYS for row in everybody)
    assert board["agents"]["baseline"]["n"] == 812 - 5
    assert board["baselines"]["har_ranges"]["n"] == 812 - 5
    weights = [board["agents"][name]["weight_mean"] for name in ("baseline", "climatology")]
    assert all(0 < weight < 1 for weight in weights)
    assert "nan" not in out.lower()


def test_evaluate_when_done_then_the_report_lies_in_var_dir_twice(cli: Cli, tmp_path: Path) -> None:
    _, out, err = cli("evaluate", "--data", spot(tmp_path), "--agents", LIGHT, "--json")
    folder = tmp_path / "var" / "reports" / "evaluate"
    latest = json.loads((folder / "latest.json").read_text(encoding="utf-8"))
    [kept] = (folder / "history").iterdir()
    assert json.loads(kept.read_text(encoding="utf-8")) == latest
    assert latest.pop("trial") == "not logged (TRIALS_LOG is unset)"
    assert latest == json.loads(out)
    assert "not logged" in err


def test_evaluate_when_shown_then_tables_and_plain_words_are_there(
    cli: Cli, tmp_path: Path
) -> None:
    code, out, _ = cli("evaluate", "--data", spot(tmp_path), "--agents", LIGHT, "--controls")
    assert code == 0
    for words in ("direction", "range and risk", "consensus", "har_ranges", "NO_TRADE", "Control:"):
        assert words in out
    table = out.partition("direction")[2].partition("gain =")[0]
    assert "…" not in table
    assert max(len(line) for line in table.splitlines()) <= 80


def test_evaluate_when_the_rows_were_trained_on_then_they_are_left_out(
    cli: Cli, tmp_path: Path
) -> None:
    path = spot(tmp_path, 900, YEAR_2024)
    _, out, _ = cli("evaluate", "--data", path, "--json")
    board = json.loads(out)
    for name in ("baseline", "risk"):
        row = board["agents"][name]
        assert (row["n"], row["brier"], row["in_sample"]) == (0, None, 900)
    assert board["agents"]["climatology"]["n"] > 500
    assert "left out" in " ".join(plain_words(board))


def test_evaluate_when_it_looks_at_the_test_year_then_the_trial_log_counts_it(
    cli: Cli, tmp_path: Path
) -> None:
    log = tmp_path / "trials.csv"
    path = spot(tmp_path, 800)
    code, _, err = cli("evaluate", "--data", path, "--agents", LIGHT, "--json", trials=log)
    assert code == 0
    [row] = read(log)
    assert "look 1 at the test year, logged" in err
    assert row["kind"] == "evaluate"
    assert row["span"] == "20250101-20250103T184000"
    assert row["what"].startswith("BTC/USDT 5m: climatology + technical + council #")
    assert "technical gain" in row["result"]


def test_evaluate_when_the_year_is_another_then_nothing_is_logged(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "trials.csv"
    path = spot(tmp_path, 800, YEAR_2024)
    assert cli("evaluate", "--data", path, "--agents", LIGHT, "--json", trials=log)[0] == 0
    assert not log.exists()


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--agents", "climatolgy"], 2, "climatolgy"),
        (["--agents", "chronos"], 2, "chronos"),
        (["--timerange", "20260101-"], 3, "has no bar in the range"),
        (["--timerange", "2025"], 2, "must be A-B"),
        (["--symbol", "ETH/USDT"], 3, "its name says BTC/USDT"),
        (["--refit"], 2, "--refit"),
    ],
)
def test_evaluate_when_the_question_makes_no_sense_then_it_says_why(
    cli: Cli, tmp_path: Path, flags: list[str], code: int, words: str
) -> None:
    found, out, err = cli("evaluate", "--data", spot(tmp_path, 400), *flags, "--json")
    assert (found, out) == (code, "")
    assert words in err
    assert "Traceback" not in err


def test_evaluate_when_nothing_names_the_symbol_then_the_flags_do(cli: Cli, tmp_path: Path) -> None:
    path = spot(tmp_path, 500).rename(tmp_path / "bars.parquet")
    assert cli("evaluate", "--data", path, "--json")[0] == 3
    flags = ("--symbol", "BTCUSDT", "--timeframe", "5m", "--agents", LIGHT, "--json")
    code, out, _ = cli("evaluate", "--data", path, *flags)
    assert (code, json.loads(out)["data"]["symbol"]) == (0, "BTC/USDT")


def test_plain_words_when_forecasts_are_too_good_then_they_warn_of_a_leak() -> None:
    row = dict.fromkeys([*S_KEYS, "dm_t"]) | {"n": 1_000, "in_sample": 0}
    board = {"agents": {}, "baselines": {}, "common": {"consensus": row}}

    def words(**scores: float) -> str:
        return plain_words({**board, "consensus": row | scores})[0]

    assert "sees the future" in words(auc=0.70, dm_t=30.0, brier_skill_1e4=300.0)
    assert "hardly by luck" in words(auc=0.535, dm_t=4.0, brier_skill_1e4=8.8)
    assert "not to be told from a coin" in words(auc=0.501, dm_t=0.3, brier_skill_1e4=0.1)
    assert "worse than a coin" in words(auc=0.499, dm_t=-2.5, brier_skill_1e4=-3.0)


# backtest


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


def test_backtest_when_shown_then_conventions_stand_beside_the_numbers(
    cli: Cli, tmp_path: Path
) -> None:
    code, out, _ = cli("backtest", "--data", perp(tmp_path), "--profile", "exercise")
    assert code == 0
    for words in ("taker 5 bp a side", "0.01% per 8 h", "is ignored", "promises nothing"):
        assert words in " ".join(out.split())
    assert json.loads((tmp_path / "var/reports/backtest/latest.json").read_text())["conventions"]


def demo(folder: Path, n: int = 3_400) -> Path:
    return write_parquet(
        folder / "BTCUSDT-binance-perp-5m-demo.parquet",
        DemoMarket(symbol="BTC/USDT:USDT").bars(DEMO_START_MS, n),
    )


def test_backtest_when_the_council_trades_then_batches_change_nothing(tmp_path: Path) -> None:
    settings = settings_from(
        "demo", None, [f"models.agents={LIGHT}", "consensus.min_forecasters=1"]
    )
    path = demo(tmp_path)
    span = DEMO_START_MS + 2_300 * STEP, DEMO_START_MS + 3_300 * STEP
    setup = set_up(settings, Request(path, None, None, span, "demo", ""), SystemClock())
    batched = run(setup, lambda done, total: None)
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


def test_batched_opinions_when_a_bar_was_trained_on_then_the_agent_is_absent() -> None:
    agents = settings_agents("baseline,risk,climatology")
    end = trained_until(agents)["risk"]
    frame = PlantedEdge(5, start_ms=end - 400 * STEP).bars(end - 400 * STEP, 600)
    memory = MarketMemory(frame.symbol, frame.timeframe, keep=None)
    memory.append(frame)
    asked = BatchedOpinions(agents, memory.states(int(frame.ts[300]), None, 600, 1))
    absent = {state.as_of: asked.opinions(state)[1] for state in asked}
    in_sample = {"baseline": "in_sample", "risk": "in_sample"}
    assert absent[end] == in_sample
    assert absent[end + STEP] == {}
    assert len(absent) == 300


def settings_agents(names: str) -> Any:
    from serving.bootstrap import configured_agents

    return configured_agents(settings_from(None, None, [f"models.agents={names}"]))


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


def test_money_ledger_when_rows_pass_then_numbers_go_on_and_opinions_are_let_go() -> None:
    ledger = MoneyLedger()
    frame = PlantedEdge(5).bars(DEMO_START_MS, 3)
    said = Opinion("a", "1", "BTC/USDT", "5m", 0, 5, 0.5, None)
    assert ledger.append([frame.bar(0), said, frame.bar(1)]) == [1, 2, 3]
    assert ledger.append([said]) == [4]
    assert ledger.head()[0] == 4
    kept = [record for _, record in ledger.records(type(frame.bar(0)))]
    assert kept == [frame.bar(0), frame.bar(1)]
    assert list(ledger.records(Opinion)) == []


# lookahead


def test_lookahead_when_nothing_sees_the_future_then_it_is_clean(cli: Cli, tmp_path: Path) -> None:
    path = spot(tmp_path, 900)
    code, out, _ = cli("lookahead", "--data", path, "--rows", "4", "--json")
    body = json.loads(out)
    assert code == 0
    assert (body["ok"], body["rows"], body["differences"]) == (True, 4, [])
    assert body["agents"] == ["climatology", "technical", "baseline", "risk"]
    code, out, _ = cli("lookahead", "--data", path, "--rows", "2", "--agents", "climatology")
    assert (code, out.startswith("clean: 2 decisions of climatology")) == (0, True)


def test_lookahead_when_there_are_too_few_bars_then_it_says_how_many_would_do(
    cli: Cli, tmp_path: Path
) -> None:
    code, _, err = cli("lookahead", "--data", spot(tmp_path, 400), "--rows", "200")
    assert code == 2
    assert "lookahead rows" in err


def test_require_same_when_a_decision_knew_its_future_then_the_first_field_is_named() -> None:
    require_same([])
    with pytest.raises(CheckFailed, match=r"2 decisions .* prob_up is 0\.5") as caught:
        require_same(["decision at …: prob_up is 0.5 with …", "another"])
    assert caught.value.exit_code == 1


# train and models


@pytest.fixture(scope="module")
def training_bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spot(tmp_path_factory.mktemp("bars"), 6_000, YEAR_2024)


def test_models_when_one_is_trained_promoted_and_rolled_back_then_agents_use_what_is_said(
    cli: Cli, tmp_path: Path, training_bars: Path
) -> None:
    code, out, _ = cli(
        "train", "volatility", "--data", training_bars, "--end", "2024-02-01", "--json"
    )
    told = json.loads(out)
    assert code == 0
    assert (told["name"], told["promoted"]) == ("risk", False)
    card = told["card"]
    assert card["data_sha256"] == file_sha256(training_bars)
    assert card["command"].startswith("conclave train volatility --data BTCUSDT-binance-spot-5m-")
    assert (card["seed"], card["end_ms"]) == (7, 1_706_745_600_000)
    root = tmp_path / "var" / "models"
    [version] = versions(root, "risk")
    shipped = FolderStore(root).current("risk")
    assert cli("models", "promote", "risk", "--json")[0] == 0
    assert FolderStore(root).current("risk") == str(root / "risk" / version)
    rows = json.loads(cli("models", "list", "--json")[1])["items"]
    in_use = {row["name"]: row["place"] for row in rows if row["in_use"]}
    assert in_use == {
        "risk": "models_dir", "baseline/trend": "shipped", "baseline/return": "shipped",
        "baseline/risk": "shipped",
    }  # fmt: skip
    code, out, _ = cli("models", "rollback", "risk")
    assert code == 0
    assert "what ships is in use" in out
    assert FolderStore(root).current("risk") == shipped
    assert cli("models", "rollback", "risk")[0] == 1


def test_models_list_when_shown_then_what_ships_is_in_use(cli: Cli) -> None:
    code, out, _ = cli("models", "list")
    assert code == 0
    for name in ("baseline/return", "baseline/risk", "baseline/trend", "risk"):
        assert any(line.strip().startswith(name) and "in use" in line for line in out.splitlines())


def test_models_list_when_a_file_was_changed_then_it_says_which(cli: Cli, tmp_path: Path) -> None:
    [version] = versions(SHIPPED, "risk")
    folder = tmp_path / "var" / "models" / "risk" / version
    folder.mkdir(parents=True)
    (folder / "card.json").write_bytes((SHIPPED / "risk" / version / "card.json").read_bytes())
    (folder / "params.json").write_text("{}", encoding="utf-8")
    rows = json.loads(cli("models", "list", "--json")[1])["items"]
    [broken] = [row for row in rows if row["place"] == "models_dir"]
    assert "sha256" in broken["problem"]
    assert cli("models", "promote", "risk")[0] == 1


def test_train_when_auto_promote_is_on_then_only_a_comparable_better_model_is_taken(
    cli: Cli, tmp_path: Path, training_bars: Path
) -> None:
    words = ("train", "volatility", "--data", training_bars, "--set", "AUTO_PROMOTE=true", "--json")
    first = json.loads(cli(*words, "--end", "2024-01-21")[1])
    assert not first["promoted"]
    assert "other rows" in first["why"]  # what ships saw other bars
    assert cli("models", "promote", "risk")[0] == 0
    again = json.loads(cli(*words, "--end", "2024-01-21", "--seed", "8")[1])
    assert not again["promoted"]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["trend", "return", "risk"])
def test_train_when_a_baseline_target_is_trained_then_its_artifact_verifies(
    cli: Cli, tmp_path: Path, training_bars: Path, target: str
) -> None:
    words = ("train", target, "--model", "baseline", "--data", training_bars)
    code, out, err = cli(*words, "--end", "2024-02-01", "--seed", "3")
    assert code == 0, err
    assert f"baseline/{target}" in out
    assert "fit on all rows" in err
    name = f"baseline/{target}"
    assert cli("models", "promote", name)[0] == 0
    card = FolderStore(tmp_path / "var" / "models").open(name).card
    assert (card.seed, card.target, card.horizon_bars) == (3, target, 5)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["train", "trend", "--model", "tft", "--data", "{file}"], 2, "baseline"),
        (["train", "trend", "--data", "{file}", "--end", "soon"], 2, "ISO-8601"),
        (["train", "trend", "--data", "{file}", "--end", "2024-01-05"], 3, "valid rows"),
        (["train", "trend", "--data", "nowhere.parquet"], 3, "nowhere.parquet"),
        (["models", "promote", "bseline"], 2, "baseline/trend"),
        (["models", "promote", "risk"], 2, "no version trained here"),
    ],
)
def test_train_and_models_when_the_question_makes_no_sense_then_they_say_why(
    cli: Cli, training_bars: Path, words: list[str], code: int, told: str
) -> None:
    found, _, err = cli(*(word.format(file=training_bars) for word in words))
    assert found == code
    assert told in err


# doctor


def test_doctor_when_asked_then_database_and_models_are_tried_and_nothing_is_made(
    cli: Cli, tmp_path: Path
) -> None:
    _, out, _ = cli("doctor", "--json", "--set", "API_PORT=0", "--set", "RAY_DASHBOARD_PORT=0")
    found = {row["name"]: row for row in json.loads(out)["findings"]}
    assert found["models"]["ok"] is True
    assert "baseline " in found["models"]["detail"]
    assert found["database"]["ok"] is True
    assert "none yet" in found["database"]["detail"]
    assert not (tmp_path / "var").exists()


# on real bars


def sample(name: str) -> Path:
    folder = os.environ.get("CONCLAVE_SAMPLES")
    if not folder or not (Path(folder) / name).is_file():
        pytest.skip(f"CONCLAVE_SAMPLES does not name a folder with {name}")
    return Path(folder) / name


@pytest.mark.slow
def test_backtest_when_2025_is_exercised_then_money_is_the_golden_one(cli: Cli) -> None:
    path = sample("BTCUSDT-binance-perp-5m-20241231-20251231.parquet")
    words = ("backtest", "--data", path, "--profile", "exercise")
    code, out, _ = cli(*words, "--timerange", "20250101-20260101", "--json")
    board = json.loads(out)
    assert code == 0
    assert board["trades"] == 4_773
    assert round(board["metrics"]["equity_final"], 2) == 7_132.92
    assert board["trades_sha256"].startswith("e72694d1")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_evaluate_when_2025_is_scored_then_the_models_reach_the_reference(cli: Cli) -> None:
    path = sample("BTCUSDT-binance-spot-5m-20220801-20251231.parquet")
    code, out, _ = cli("evaluate", "--data", path, "--timerange", "20250101-20260101", "--json")
    board = json.loads(out)
    assert code == 0
    agents, base = board["agents"], board["baselines"]
    assert {agents["baseline"]["n"], agents["risk"]["n"]} == {105_115}
    for row in (agents["baseline"], board["consensus"]):
        assert 7.5 <= row["brier_skill_1e4"] <= 38
        assert row["dm_t"] >= 2.3
        assert 0.533 <= row["auc"] <= 0.565
        assert 0.75 <= row["calibration_slope"] <= 1.3
        assert 0.96 <= row["pinball_bps"] / base["ewma"]["pinball_bps"] <= 0.986
        assert row["coverage_80"] == pytest.approx(0.80, abs=0.01)
        assert 0.838 <= row["risk_auc"] <= 0.90
    assert agents["risk"]["pinball_bps"] == pytest.approx(6.421, abs=0.01)
    assert agents["risk"]["risk_brier"] == pytest.approx(0.06223, abs=1e-4)
