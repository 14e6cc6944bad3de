import json
from dataclasses import replace

import numpy as np
import pytest

from agents.artifacts import FolderStore, load, promote
from agents.baseline import Baseline
from agents.heads import TARGETS
from agents.risk import RiskAgent
from agents.training import risk
from agents.training.baseline import BaselineConfig, BaselineModel
from agents.training.dataset import Boosting, Source, build_dataset, first_row_ms
from data.features import REFERENCE_54
from domain.errors import UsageError
from tests.agents_world import START, STEP, market, states_of

END = START + 6000 * STEP
QUICK = Boosting(rounds=12, patience=5, rows_a_leaf=50)
CONFIG = BaselineConfig(trend=QUICK, width=QUICK, risk=QUICK, trend_leaves=(7,))
SOURCE = Source(END, 7, END, "abc1234", "0" * 64)


def train(target, bars, root, source=SOURCE):
    model = BaselineModel(target, config=CONFIG)
    model.train([bars], source)
    return model.save(root)


@pytest.fixture(scope="module")
def bars():
    return market(6400, seed=3, drift=9e-4)


@pytest.fixture(scope="module")
def trained(bars, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    cards = {target: train(target, bars, root) for target in TARGETS}
    for target, card in cards.items():
        promote(root, f"baseline/{target}", card.version)
    return root, cards


@pytest.mark.long
def test_train_when_all_targets_are_done_then_three_versions_that_load_and_speak(bars, trained):
    root, cards = trained
    assert set(cards) == set(TARGETS)
    agent = Baseline.from_store(FolderStore(root))
    opinions = agent.opine(list(states_of(agent, bars))[6000:6300])
    p = np.array([opinion.p_up for opinion in opinions])
    up = bars.close[6005:6305] > bars.close[6000:6300]
    assert p[up].mean() > p[~up].mean() + 0.05  # the planted edge is found out of sample
    assert agent.trained_until == END


def test_train_when_repeated_then_the_same_bytes(bars, trained, tmp_path):
    again = train("trend", bars, tmp_path)
    assert again.files == trained[1]["trend"].files


def test_train_when_bars_after_the_end_change_then_the_same_bytes(bars, trained, tmp_path):
    future = bars.slice(0, len(bars))
    columns = {
        name: np.where(bars.ts >= END, getattr(bars, name) * 2.0, getattr(bars, name))
        for name in ("open", "high", "low", "close", "volume")
    }
    other = replace(future, **columns)
    for target in ("return", "risk"):
        card = train(target, other, tmp_path)
        assert card.files == trained[1][target].files
    cut = risk.train([bars.between(None, END)], tmp_path / "a", SOURCE)
    assert risk.train([other], tmp_path / "b", SOURCE).files == cut.files


def test_train_when_seed_changes_then_other_bytes(bars, trained, tmp_path):
    card = train("trend", bars, tmp_path, replace(SOURCE, seed=8))
    assert card.files != trained[1]["trend"].files


def test_model_when_target_is_unknown_then_usage_error():
    with pytest.raises(UsageError, match="trend, return, risk"):
        BaselineModel("trends")


def test_card_when_trained_then_it_says_where_it_comes_from(trained):
    card = trained[1]["trend"]
    assert (card.end_ms, card.seed, card.commit, card.columns) == (END, 7, "abc1234", REFERENCE_54)
    assert card.settings["shrink"] == 0.8


def test_risk_when_trained_then_params_are_plain_json_and_the_agent_loads(bars, tmp_path):
    card = risk.train([bars], tmp_path, SOURCE)
    folder = tmp_path / "risk" / card.version
    json.loads((folder / "params.json").read_text())
    agent = RiskAgent(load(folder))
    opinion = agent.opine([states_of(agent, bars)[6100]])[0]
    residual = np.array(opinion.quantiles.values) / opinion.evidence["sigma"]
    assert residual == pytest.approx(agent.model.residuals)


def test_dataset_when_built_then_no_training_row_knows_the_time_after_the_end(bars):
    data = build_dataset(bars, END, 5, features=False)
    rows = np.flatnonzero(data.known_by(0, END))
    assert bars.ts[rows].max() + 6 * STEP <= END
    earlier = END - 100 * STEP
    assert bars.ts[np.flatnonzero(data.known_by(0, earlier))].max() + 6 * STEP == earlier


def test_first_row_when_usual_start_leaves_little_then_the_first_bar(bars):
    assert first_row_ms(bars, START - STEP, END) == START  # there are no bars before
    assert first_row_ms(bars, START + 100 * STEP, END) == START + 100 * STEP
    assert first_row_ms(bars, END - 100 * STEP, END) == START
