"""The baselines that ship on real bars: their rows must be those of the reference table."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from data.files import read_bars
from data.labels import make_labels
from sim.baselines import NAMES, baselines, shipped
from sim.outcomes import truth_of
from sim.scoring import Scores, scores

FILE = "BTCUSDT-binance-spot-5m-20220801-20251231.parquet"
YEAR_2025 = 1_735_689_600_000  # 2025-01-01T00:00:00Z
# row: gain, AUC
DIRECTIONS = {
    "half": (0.0, 0.5), "base_rate": (-0.2, 0.5), "rsi_logistic": (-0.3, 0.5226),
    "logistic_54": (5.8, 0.5344),
}  # fmt: skip
# row: pinball in bp, coverage
DISTRIBUTIONS = {
    "trailing": (6.840, 0.803), "ewma": (6.497, 0.782), "garch": (6.482, 0.786),
    "har": (6.449, 0.783), "har_ranges": (6.421, 0.786),
}  # fmt: skip
# row: Brier, AUC, AUC of the fall beyond one σ
RISKS = {
    "base_rate": (0.07352, 0.5, 0.5), "ewma": (0.06418, 0.811, 0.682),
    "har_ranges": (0.06223, 0.836, 0.707),
}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> dict[str, Scores]:
    folder = os.environ.get("CONCLAVE_SAMPLES")
    if not folder or not (Path(folder) / FILE).is_file():
        pytest.skip(f"CONCLAVE_SAMPLES does not name a folder with {FILE}")
    frame = read_bars(Path(folder) / FILE)
    labels = make_labels(frame, 5)
    where = np.flatnonzero(labels.valid & (frame.ts >= YEAR_2025))
    truth = truth_of(frame, labels).take(where)
    found = baselines(frame, where, 5, shipped())
    return {name: scores(columns, truth) for name, columns in found.items()}


@pytest.mark.long
def test_baselines_when_2025_is_scored_then_directions_match_the_reference(
    rows: dict[str, Scores],
) -> None:
    assert list(rows) == list(NAMES)
    assert rows["half"]["brier"] == 0.25
    assert rows["base_rate"]["dm_t"] == pytest.approx(-0.9, abs=0.06)
    for name, (gain, auc) in DIRECTIONS.items():
        assert rows[name]["n"] == 105_115
        assert rows[name]["brier_skill_1e4"] == pytest.approx(gain, abs=0.1)
        assert rows[name]["auc"] == pytest.approx(auc, abs=5e-4)
    boosted = rows["boosting"]  # another library than the reference's: within two s.e.
    assert boosted["brier_skill_1e4"] == pytest.approx(8.8, abs=4.2)


@pytest.mark.long
def test_baselines_when_2025_is_scored_then_distributions_match_the_reference(
    rows: dict[str, Scores],
) -> None:
    for name, (pinball, coverage) in DISTRIBUTIONS.items():
        assert rows[name]["n"] == 105_115
        assert rows[name]["pinball_bps"] == pytest.approx(pinball, abs=5e-3)
        assert rows[name]["coverage_80"] == pytest.approx(coverage, abs=1e-3)
    assert rows["boosting"]["pinball_bps"] == pytest.approx(6.405, abs=0.02)


def test_baselines_when_2025_is_scored_then_adverse_events_match_the_reference(
    rows: dict[str, Scores],
) -> None:
    for name, (brier, auc, auc_sigma) in RISKS.items():
        assert rows[name]["risk_brier"] == pytest.approx(brier, abs=5e-5)
        assert rows[name]["risk_auc"] == pytest.approx(auc, abs=2e-3)
        assert rows[name]["risk_sigma_auc"] == pytest.approx(auc_sigma, abs=2e-3)
    assert rows["boosting"]["risk_auc"] == pytest.approx(0.842, abs=4e-3)
