"""The scoreboard on real bars: its baselines must be those of the reference table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agents.artifacts import FolderStore
from data.files import read_bars
from sim.baselines import SHIPPED, shipped
from sim.evaluate import evaluate

FILE = "BTCUSDT-binance-spot-5m-20220801-20251231.parquet"
YEAR_2025 = 1_735_689_600_000  # 2025-01-01T00:00:00Z


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    folder = os.environ.get("CONCLAVE_SAMPLES")
    if not folder or not (Path(folder) / FILE).is_file():
        pytest.skip(f"CONCLAVE_SAMPLES does not name a folder with {FILE}")
    store = FolderStore()
    fitted = shipped(store.open("risk")) if store.current("risk") else SHIPPED
    frame = read_bars(Path(folder) / FILE)
    made = evaluate(frame, {}, start_ms=YEAR_2025, fitted=fitted)
    baselines: dict[str, Any] = made["baselines"]
    return baselines


def test_baselines_when_2025_is_scored_then_rows_and_free_rows_match_the_reference(
    board: dict[str, Any],
) -> None:
    assert {row["n"] for row in board.values()} <= {105_115, 0}
    assert board["half"]["brier"] == 0.25
    assert board["base_rate"]["brier"] == pytest.approx(0.250020, abs=2e-6)
    assert board["base_rate"]["dm_t"] == pytest.approx(-0.9, abs=0.06)
    assert board["base_rate"]["risk_brier"] == pytest.approx(0.07352, abs=2e-5)
    assert board["trailing"]["pinball_bps"] == pytest.approx(6.840, abs=2e-3)
    assert board["trailing"]["coverage_80"] == pytest.approx(0.803, abs=1e-3)


def test_baselines_when_volatility_models_ship_then_their_rows_match_the_reference(
    board: dict[str, Any],
) -> None:
    if not FolderStore().current("risk"):
        pytest.skip("no model ships for risk")
    for name, pinball, coverage in (
        ("ewma", 6.497, 0.782), ("har", 6.449, 0.783), ("har_ranges", 6.421, 0.786),
    ):  # fmt: skip
        assert board[name]["n"] == 105_115
        assert board[name]["pinball_bps"] == pytest.approx(pinball, abs=5e-3)
        assert board[name]["coverage_80"] == pytest.approx(coverage, abs=2e-3)
    assert board["ewma"]["risk_brier"] == pytest.approx(0.06418, abs=5e-5)
    assert board["har_ranges"]["risk_brier"] == pytest.approx(0.06223, abs=5e-5)
    assert board["har_ranges"]["risk_auc"] == pytest.approx(0.836, abs=2e-3)
