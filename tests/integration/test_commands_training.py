"""``train`` and ``models`` through the real command line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agents.artifacts import SHIPPED, FolderStore, promoted, versions
from data.files import file_sha256
from domain.times import DAY_MS
from tests.command_line import YEAR_2024, Cli, spot
from tests.model_files import FIRST, SECOND, damage, in_use, made, wider

# train and models


@pytest.fixture(scope="module")
def training_bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spot(tmp_path_factory.mktemp("bars"), 6_000, YEAR_2024)


@pytest.mark.long
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
    assert (card["seed"], card["end_ms"]) == (7, 1_705_867_200_000)  # where the bars end
    root = tmp_path / "var" / "models"
    [version] = versions(root, "risk")
    shipped = FolderStore(root).current("risk")
    code, out, _ = cli("models", "promote", "risk", "--json")
    assert code == 0
    assert json.loads(out) == {
        "name": "risk", "version": version, "before": None,
        "skill": "Not compared with climatology: the card has no walk-forward pinball_bps.",
    }  # fmt: skip
    assert FolderStore(root).current("risk") == str(root / "risk" / version)
    rows = json.loads(cli("models", "list", "--json")[1])["items"]
    in_use = {row["name"]: row["place"] for row in rows if row["in_use"]}
    assert in_use == {
        "risk": "models_dir", "chronos": "shipped", "baseline/trend": "shipped",
        "baseline/return": "shipped", "baseline/risk": "shipped", "tft/trend": "shipped",
        "tft/return": "shipped", "tft/risk": "shipped", "gate/ema_cross": "shipped",
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


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"params": {"shrink": 0.0}}, "its p_up must depend on the market"),
        ({"metrics": {"walk_forward": {"brier_skill_1e4": -2.5}}}, "worse than climatology"),
        ({"horizon_bars": 12}, "was trained for a horizon of 12 bars"),
        ({"timeframe": "1h"}, "was trained on 1h bars"),
    ],
)
def test_models_promote_when_a_version_is_bad_then_refused_and_the_old_one_stays(
    cli: Cli, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    root, name = tmp_path / "var" / "models", "baseline/trend"
    good, bad = made(root, name, FIRST), made(root, name, SECOND, **changes)
    assert cli("models", "promote", name, good.version)[0] == 0
    code, out, err = cli("models", "promote", name)
    assert (code, out) == (1, "")
    assert bad.version in err
    assert told in err
    assert promoted(root, name) == good.version


def test_models_promote_when_a_shipped_version_is_named_then_it_says_how_to_return_to_it(
    cli: Cli, tmp_path: Path
) -> None:
    made(tmp_path / "var" / "models", "risk")
    [shipped] = versions(SHIPPED, "risk")
    code, _, err = cli("models", "promote", "risk", shipped)
    assert code == 2
    assert "conclave models rollback risk" in err


@pytest.mark.long
def test_models_list_and_doctor_when_the_promoted_one_is_damaged_then_both_name_what_stands_in(
    cli: Cli, tmp_path: Path
) -> None:
    root = tmp_path / "var" / "models"
    good = in_use(root, "risk", FIRST, params=wider(1.1))
    bad = in_use(root, "risk", SECOND, params=wider(1.2))
    damage(root, "risk", bad.version)
    rows = json.loads(cli("models", "list", "--json")[1])["items"]
    marks = {row["version"]: row for row in rows if row["place"] == "models_dir"}
    assert (marks[bad.version]["promoted"], marks[bad.version]["in_use"]) == (True, False)
    assert marks[good.version]["in_use"]
    sentence = f"{good.version} is instead"
    assert marks[good.version]["note"].endswith(sentence)
    assert sentence in cli("models", "list")[1]
    code, out, _ = cli("doctor", "--json", "--set", "API_PORT=0", "--set", "RAY_DASHBOARD_PORT=0")
    [found] = [row for row in json.loads(out)["findings"] if row["name"] == "models"]
    assert (code, found["ok"]) == (1, False)
    assert f"{bad.version}: params.json: its sha256" in found["detail"]
    assert sentence in found["detail"]


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
    ("start_ms", "seen"), [(YEAR_2024, False), (YEAR_2024 + 350 * DAY_MS, True)]
)
def test_train_when_bars_reach_into_the_test_year_then_and_only_then_it_warns(
    cli: Cli, tmp_path: Path, start_ms: int, seen: bool
) -> None:
    bars = spot(tmp_path, 6_000, start_ms)

    code, _, err = cli("train", "volatility", "--data", bars, "--end", "2100-01-01")

    assert code == 0
    assert ("that year is no test of it" in err) is seen


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["train", "trend", "--model", "prophet", "--data", "{file}"], 2, "baseline"),
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
    assert round(board["metrics"]["equity_final"], 2) == 7_122.40
    assert board["trades_sha256"].startswith("f0292a83")


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
