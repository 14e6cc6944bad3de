"""The controls on real bars: rows of 2024, learned from 2023, and the council that ships."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agents.artifacts import FolderStore
from agents.baseline import TARGETS, Baseline
from agents.climatology import Climatology
from agents.risk import RiskAgent
from agents.technical import Technical
from consensus.council import Council
from consensus.settings import CouncilSettings, DecisionRules
from data.files import read_bars
from domain.decision import Costs
from domain.ports import Agent
from sim.controls import Control, Sizes, Subject, run_controls
from sim.learners import logistic

FILE = "BTCUSDT-binance-spot-5m-20220801-20251231.parquet"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

YEAR_2024, YEAR_2025 = 1_704_067_200_000, 1_735_689_600_000


@pytest.fixture(scope="module")
def controls() -> dict[str, Control]:
    folder = os.environ.get("CONCLAVE_SAMPLES")
    if not folder or not (Path(folder) / FILE).is_file():
        pytest.skip(f"CONCLAVE_SAMPLES does not name a folder with {FILE}")
    store = FolderStore()
    if not all(store.current(name) for name in ("risk", *(f"baseline/{t}" for t in TARGETS))):
        pytest.skip("no models ship")
    # the models were trained on these bars too: shuffled labels must defeat them all the same
    agents: dict[str, Agent] = {
        "climatology": Climatology(),
        "technical": Technical(),
        "risk": RiskAgent(store.open("risk")),
        "baseline": Baseline.from_store(store),
    }

    def council() -> Council:
        settings = CouncilSettings(members=tuple(agents))
        return Council(settings, DecisionRules(), lambda state: Costs(2.0, 0.5, 0.5))

    return run_controls(
        read_bars(Path(folder) / FILE).between(None, YEAR_2025),
        Subject(logistic, agents, council), start_ms=YEAR_2024,
        sizes=Sizes(council_rows=4_320, world_bars=18_000, strength=4.0, processes=2),
    )  # fmt: skip


def test_controls_when_real_bars_are_forecast_then_every_one_of_them_passes(
    controls: dict[str, Control],
) -> None:
    assert {name: control.ok for name, control in controls.items()} == dict.fromkeys(
        ("shuffled_labels", "random_walk", "planted_edge", "leak", "delay"), True
    )


def test_controls_when_real_bars_are_forecast_then_figures_are_those_of_the_reference(
    controls: dict[str, Control],
) -> None:
    left, leak = controls["shuffled_labels"].figures, controls["leak"].figures
    assert left["learner_rows"] == 105_403
    assert -6.5 < left["learner_gain_min"] <= left["learner_gain_max"] < 0.5
    assert 0.49 < left["learner_auc_min"] < left["learner_auc_max"] < 0.51
    assert leak["leak_auc"] == pytest.approx(0.70, abs=0.01)
    assert leak["leak_gain"] == pytest.approx(300.0, abs=15.0)
    assert controls["planted_edge"].figures["council_t"] > 5.0
