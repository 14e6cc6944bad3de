"""``evaluate`` and ``lookahead`` through the real command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from agents.contract import speak
from data.files import file_sha256
from domain.errors import CheckFailed
from domain.market import BarFrame, MarketState
from domain.opinion import Opinion
from domain.ports import Needs
from domain.quantiles import Quantiles
from serving.commands.judging import require_same
from serving.trials import read
from sim.worlds import PlantedEdge
from tests.command_line import LIGHT, STEP, YEAR_2024, Cli, spot
from tests.data_fixtures import write_parquet

S_KEYS = {
    "n", "brier", "brier_skill_1e4", "log_loss", "auc", "accuracy", "pinball_bps", "coverage_80",
    "interval_score_bps", "risk_brier", "risk_auc", "weight_mean",
}  # fmt: skip


# evaluate


@pytest.mark.long
def test_evaluate_when_asked_for_json_then_it_is_the_documented_shape(
    cli: Cli, tmp_path: Path
) -> None:
    path = spot(tmp_path)
    code, out, _ = cli("evaluate", "--data", path, "--timerange", "20250102-", "--json")
    board = json.loads(out)
    assert code == 0
    assert set(board) == {
        "data", "horizon_bars", "agents", "consensus", "baselines", "common", "models", "commit",
        "comparisons", "overfitting", "abstention", "drift", "weights", "notes", "refit", "cpcv",
        "trial",
    }  # fmt: skip
    assert board["data"].pop("mean_move_bps") > 1
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


@pytest.mark.long
def test_evaluate_when_done_then_the_report_lies_in_var_dir_twice(cli: Cli, tmp_path: Path) -> None:
    _, out, err = cli("evaluate", "--data", spot(tmp_path), "--agents", LIGHT, "--json")
    folder = tmp_path / "var" / "reports" / "evaluate"
    latest = json.loads((folder / "latest.json").read_text(encoding="utf-8"))
    [page, kept] = sorted((folder / "history").iterdir())
    assert json.loads(kept.read_text(encoding="utf-8")) == latest == json.loads(out)
    assert latest["trial"] == "not logged (TRIALS_LOG is unset)"
    assert latest["overfitting"]["trials"]["logged"] == "not logged"
    assert "not logged" in err
    assert str(page) in err
    text = page.read_text(encoding="utf-8")
    assert text == (folder / "latest.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")


@pytest.mark.long
def test_evaluate_when_shown_then_tables_and_plain_words_are_there(
    cli: Cli, tmp_path: Path
) -> None:
    code, out, _ = cli("evaluate", "--data", spot(tmp_path), "--agents", LIGHT)
    assert code == 0
    for words in ("direction", "range", "beyond 0.5 %", "consensus", "har_ranges", "NO_TRADE"):
        assert words in out
    table = out.partition("direction")[2].partition("gain =")[0]
    assert "…" not in table
    assert max(len(line) for line in table.splitlines()) <= 80


@pytest.mark.long
def test_evaluate_when_asked_twice_then_nobody_is_asked_again_and_the_board_is_the_same(
    cli: Cli, tmp_path: Path
) -> None:
    words = ("evaluate", "--data", spot(tmp_path), "--agents", LIGHT, "--json")
    first = json.loads(cli(*words)[1])
    tapes = tmp_path / "var" / "data" / "04_processed" / "opinions"
    written = {path: path.stat().st_mtime_ns for path in tapes.rglob("*.parquet")}
    assert len(written) >= 2
    assert json.loads(cli(*words)[1]) == first
    assert {path: path.stat().st_mtime_ns for path in tapes.rglob("*.parquet")} == written


@pytest.mark.long
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
    assert any(note.startswith("baseline: its model was trained on") for note in board["notes"])
    assert "every one of these bars" in " ".join(board["notes"])


@pytest.mark.long
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


@pytest.mark.long
def test_evaluate_when_the_year_is_another_then_nothing_is_logged(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "trials.csv"
    path = spot(tmp_path, 800, YEAR_2024)
    assert cli("evaluate", "--data", path, "--agents", LIGHT, "--json", trials=log)[0] == 0
    assert not log.exists()


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--agents", "climatolgy"], 2, "climatolgy"),
        (["--agents", "prophet"], 2, "prophet"),
        (["--timerange", "20260101-"], 3, "has no bar in the range"),
        (["--timerange", "2025"], 2, "must be A-B"),
        (["--symbol", "ETH/USDT"], 3, "its name says BTC/USDT"),
        (["--refit"], 3, "valid rows before a quarter"),
        (["--agents", "nowhere.at_all:Agent"], 2, "nowhere.at_all:Agent"),
        (["--agents", "json:loads"], 2, "could not be built"),
        (["--agents", "tests.integration.test_commands_judging:Half"], 2, "a name of its own"),
        (["--agents", "collections:Counter"], 2, "must have name, version, needs and opine"),
    ],
)
def test_evaluate_when_the_question_makes_no_sense_then_it_says_why(
    cli: Cli, tmp_path: Path, flags: list[str], code: int, words: str
) -> None:
    found, out, err = cli("evaluate", "--data", spot(tmp_path, 400), *flags, "--json")
    assert (found, out) == (code, "")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.long
def test_evaluate_when_nothing_names_the_symbol_then_the_flags_do(cli: Cli, tmp_path: Path) -> None:
    path = spot(tmp_path, 500).rename(tmp_path / "bars.parquet")
    assert cli("evaluate", "--data", path, "--json")[0] == 3
    flags = ("--symbol", "BTCUSDT", "--timeframe", "5m", "--agents", LIGHT, "--json")
    code, out, _ = cli("evaluate", "--data", path, *flags)
    assert (code, json.loads(out)["data"]["symbol"]) == (0, "BTC/USDT")


GUEST = """
from agents.contract import speak
from domain.ports import Needs

class Guest:
    name, version, needs = "guest", "1", Needs(bars=1)
    def opine(self, states):
        return [speak("guest", "1", state, 5, p_up={p}) for state in states]
"""


@pytest.mark.long
def test_evaluate_when_the_code_of_an_agent_changes_then_its_tape_is_not_played_again(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    path, gains = spot(tmp_path, 400), []
    for k, p in enumerate(("0.9", "0.6")):  # the same name and version, in other words
        (tmp_path / f"guest_{k}.py").write_text(GUEST.format(p=p), encoding="utf-8")
        words = ("evaluate", "--data", path, "--agents", f"climatology,guest_{k}:Guest", "--json")
        gains.append(json.loads(cli(*words)[1])["agents"]["guest"]["brier"])
    assert abs(gains[0] - gains[1]) > 0.1


@pytest.mark.parametrize(
    ("p", "words"),
    [
        ("1.5", "p_up is in [0, 1]"),
        ("1 / 0", "guest: failed: ZeroDivisionError"),
        ('float("nan")', "must give finite numbers"),
    ],
)
def test_evaluate_when_an_agent_of_yours_misbehaves_then_it_is_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, p: str, words: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"bad_{len(p)}"
    (tmp_path / f"{name}.py").write_text(GUEST.format(p=p), encoding="utf-8")
    code, out, err = cli("evaluate", "--data", spot(tmp_path, 400), "--agents", f"{name}:Guest")
    assert (code, out) == (1, "")
    assert words in err
    assert "Traceback" not in err


class Half:
    """Has the name of a baseline."""

    name, version, needs = "half", "1", Needs(bars=1)

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        return [speak(self.name, self.version, state, 5, p_up=0.6) for state in states]


def bars(n: int, close: np.ndarray | None = None, keep: np.ndarray | None = None) -> BarFrame:
    """Bars that open and close on a path of prices; some of them may be missing."""
    path = np.full(n, 30_000.0) if close is None else close
    opened = np.concatenate([path[:1], path[:-1]])
    rows = np.arange(n) if keep is None else keep
    ts = YEAR_2024 + STEP * np.arange(n)
    high, low = np.maximum(opened, path), np.minimum(opened, path)
    columns = (ts, opened, high, low, path, np.ones(n))
    return BarFrame("BTC/USDT", "5m", *(column[rows] for column in columns))


@pytest.mark.long
@pytest.mark.parametrize(
    ("frame", "code", "words"),
    [
        (bars(200), 3, "needs 293 bars without a gap, the last 5 of them in the range"),
        (bars(900, keep=np.flatnonzero(np.arange(900) % 7)), 3, "at most 6 without a gap"),
        (bars(700), 0, "The price never moved"),
        (bars(700, 30_000 * np.exp(1e-4 * np.arange(700))), 0, "on one class"),
    ],
)
def test_evaluate_when_bars_can_hardly_be_judged_then_it_says_so_in_clear_words(
    cli: Cli, tmp_path: Path, frame: BarFrame, code: int, words: str
) -> None:
    path = write_parquet(tmp_path / "BTCUSDT-binance-spot-5m-odd.parquet", frame)
    found, out, err = cli("evaluate", "--data", path, "--agents", LIGHT, "--json")
    assert found == code
    assert "Traceback" not in err
    assert "nan" not in out.lower()
    assert words in (err if code else " ".join(json.loads(out)["notes"]))


def test_evaluate_when_a_column_is_missing_then_the_file_is_refused(
    cli: Cli, tmp_path: Path
) -> None:
    table = pyarrow.parquet.read_table(spot(tmp_path, 400))
    path = tmp_path / "BTCUSDT-binance-spot-5m-novolume.parquet"
    pyarrow.parquet.write_table(table.drop_columns(["volume"]), path)
    code, _, err = cli("evaluate", "--data", path)
    assert code == 3
    assert "lacks the column volume" in err


@pytest.mark.long
def test_evaluate_when_models_are_old_or_out_of_place_then_a_note_says_so(
    cli: Cli, tmp_path: Path
) -> None:
    late = YEAR_2024 + 900 * 86_400_000
    frame = PlantedEdge(5, symbol="ETH/USDT", start_ms=late).bars(late, 700)
    path = write_parquet(tmp_path / "ETHUSDT-binance-spot-5m-late.parquet", frame)
    _, out, _ = cli("evaluate", "--data", path, "--agents", "climatology,risk", "--json")
    notes = " ".join(json.loads(out)["notes"])
    assert "risk: stale. Its model saw nothing after 2025-01-01" in notes
    assert "risk: its model was trained on BTC/USDT 5m" in notes


# lookahead


class Ahead:
    """Makes its interval as wide as the next bar's move, out of the array behind its view."""

    name, version, needs = "ahead", "1", Needs(bars=1)

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        return [self.say(state) for state in states]

    def say(self, state: MarketState) -> Opinion:
        closes, row = state.bars.close.base, np.flatnonzero(state.bars.ts.base == state.as_of)
        width = 1e-3 + (abs(closes[row[0]] / state.bars.close[-1] - 1.0) if len(row) else 0.0)
        shape = Quantiles((0.1, 0.5, 0.9), (-width, 0.0, width))
        return speak(self.name, self.version, state, 5, quantiles=shape)


@pytest.mark.long
def test_lookahead_when_an_agent_of_yours_knows_the_next_bar_then_it_exits_1_and_names_it(
    cli: Cli, tmp_path: Path
) -> None:
    words = ("lookahead", "--data", spot(tmp_path, 900), "--rows", "4", "--json")
    code, out, err = cli(*words, "--agents", f"climatology,{__name__}:Ahead")
    assert code == 1
    assert "opinions.ahead.quantiles.values[0]" in err
    body = json.loads(out)
    assert (body["ok"], body["agents"]) == (False, ["climatology", "ahead"])


@pytest.mark.long
def test_lookahead_when_nothing_sees_the_future_then_it_is_clean(cli: Cli, tmp_path: Path) -> None:
    path = spot(tmp_path, 900)
    code, out, _ = cli("lookahead", "--data", path, "--rows", "4", "--json")
    body = json.loads(out)
    assert code == 0
    assert (body["ok"], body["rows"], body["differences"]) == (True, 4, [])
    assert body["agents"] == ["climatology", "technical", "baseline", "risk"]
    code, out, _ = cli("lookahead", "--data", path, "--rows", "2", "--agents", "climatology")
    assert (code, out.startswith("clean: 2 decisions with three futures")) == (0, True)


def test_lookahead_when_there_are_too_few_bars_then_it_says_how_many_would_do(
    cli: Cli, tmp_path: Path
) -> None:
    code, _, err = cli("lookahead", "--data", spot(tmp_path, 400), "--rows", "200")
    assert code == 2
    assert "lookahead rows" in err


def test_require_same_when_a_decision_knew_its_future_then_the_first_field_is_named() -> None:
    require_same([])
    with pytest.raises(CheckFailed, match=r"2 answers .* prob_up is 0\.5") as caught:
        require_same(["decision at …: prob_up is 0.5 with …", "another"])
    assert caught.value.exit_code == 1
