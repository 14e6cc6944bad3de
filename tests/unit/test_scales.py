"""Factors that make one symbol's volatility model wide enough for another's bars."""

from dataclasses import replace

import numpy as np
import pytest

from agents.artifacts import FolderStore, load, promote
from agents.risk import RiskAgent
from agents.scales import Scales
from agents.training import risk
from agents.training.baseline import BaselineConfig, BaselineModel
from agents.training.dataset import Boosting, Source
from data.memory import MarketMemory
from domain.errors import ModelError, UsageError
from domain.market import BarFrame
from tests.agents_world import START, STEP, states_of

END = START + 6_000 * STEP
SOURCE = Source(END, 7, END, "abc1234", "0" * 64, folds=0)
QUICK = BaselineConfig(width=Boosting(rounds=4, patience=2, rows_a_leaf=200))
CALM, TREND, NEW = "BTC/USDT", "ETH/USDT", "NEW/USDT"


def moving(symbol, seed, memory):
    """Bars under changing volatility, each return ``memory`` of the one before and news."""
    rng, n = np.random.default_rng(seed), 7_000
    level, returns = np.zeros(n), np.zeros(n)
    for i in range(1, n):
        level[i] = 0.99 * level[i - 1] + 0.1 * rng.normal()
        returns[i] = memory * returns[i - 1] + 1e-3 * np.exp(level[i]) * rng.normal()
    close = 100.0 * np.exp(np.cumsum(returns))
    opened = np.concatenate(([100.0], close[:-1]))
    ts, volume = START + STEP * np.arange(n, dtype=np.int64), np.exp(rng.normal(size=n))
    low, high = np.minimum(opened, close), np.maximum(opened, close)
    return BarFrame(symbol, "5m", ts, opened, high, low, close, volume)


@pytest.fixture(scope="module")
def calm():
    return moving(CALM, 1, 0.0)


@pytest.fixture(scope="module")
def trending():
    """Returns that add up, so that five of them move further than their squares say."""
    return moving(TREND, 2, 0.4)


def quantiles(opinion):
    return np.array(opinion.quantiles.values)


def coverage(agent, bars):
    """Share of outcomes within p10–p90 after the end of training."""
    memory = MarketMemory(bars.symbol, bars.timeframe, keep=None)
    memory.append(bars)
    last = int(bars.ts[-1]) - 4 * STEP
    states = list(memory.states(END, last, agent.needs.bars, agent.needs.feature_rows))
    inside = []
    for state, said in zip(states, agent.opine(states), strict=True):
        at = int(np.searchsorted(bars.ts, state.bars.ts[-1]))
        moved = np.log(bars.close[at + 5] / bars.close[at])
        inside.append(said.quantiles.at(0.1) <= moved <= said.quantiles.at(0.9))
    return np.mean(inside)


@pytest.fixture(scope="module")
def agents(calm, trending, tmp_path_factory):
    """The risk agent trained on one symbol alone, and with the other one's scale."""
    made = []
    for bars in ([calm], [calm, trending]):
        root = tmp_path_factory.mktemp("models")
        card = risk.train(bars, root, SOURCE)
        made.append(RiskAgent(load(root / "risk" / card.version)))
    return made


def test_risk_when_another_symbol_was_there_then_its_intervals_are_honest(agents, trending):
    alone, both = agents
    assert coverage(alone, trending) < 0.74
    assert coverage(both, trending) == pytest.approx(0.8, abs=0.04)


def test_risk_when_another_symbol_was_there_then_its_own_symbol_stays_as_it_was(agents, calm):
    alone, both = agents
    states = states_of(alone, calm)[-5:]
    for before, after in zip(alone.opine(states), both.opine(states), strict=True):
        assert before.quantiles == after.quantiles
        assert (before.risk_down, before.risk_up) == (after.risk_down, after.risk_up)


def test_risk_when_a_symbol_was_not_there_then_the_geometric_mean(agents, calm):
    _, both = agents
    factor = both.model.scales.factors[TREND]
    assert both.model.scales.factors[CALM] == 1.0
    assert both.model.scales.of(NEW) == pytest.approx(np.sqrt(factor))
    assert both.model.scales.of(f"{TREND}:USDT") == factor  # a perpetual is its pair
    state = states_of(both, calm)[-1]
    for symbol, wide in ((CALM, 1.0), (NEW, np.sqrt(factor)), (TREND, factor)):
        here = replace(state, symbol=symbol, bars=replace(state.bars, symbol=symbol))
        own, other = both.opine([state]) + both.opine([here])
        assert quantiles(other) == pytest.approx(wide * quantiles(own))
        assert other.risk_down == own.risk_down


def test_baseline_when_its_width_is_trained_then_scales_of_all_symbols(calm, trending, tmp_path):
    files = {}
    for name, bars in (("alone", [calm]), ("both", [calm, trending])):
        model = BaselineModel("return", config=QUICK)
        card = model.train(bars, SOURCE)
        version = model.save(tmp_path / name)
        promote(tmp_path / name, "baseline/return", version.version)
        files[name] = FolderStore(tmp_path / name).open("baseline/return")
        assert card.settings["symbols"] == [one.symbol for one in bars]
    assert files["alone"].params()["scales"] == {CALM: 1.0}
    assert files["both"].params()["scales"][TREND] > 1.1
    assert files["alone"].contents["model.onnx"] == files["both"].contents["model.onnx"]


def test_scales_when_bars_after_the_end_change_then_nothing_does(calm, trending, tmp_path):
    later = trending.close.copy()
    later[6_100:] *= np.exp(np.linspace(0.0, 0.3, len(later) - 6_100))
    other = replace(trending, close=later, high=np.maximum(trending.high, later))
    cards = [risk.train([calm, one], tmp_path / str(k), SOURCE)
             for k, one in enumerate((trending, other))]  # fmt: skip
    assert cards[0].files == cards[1].files


def test_scales_when_a_symbol_is_given_twice_then_usage_error(calm, tmp_path):
    with pytest.raises(UsageError, match="another symbol"):
        risk.train([calm, calm], tmp_path, SOURCE)


@pytest.mark.parametrize("body", [[1.0], {"A/B": "wide"}, {"A/B": 0.0}, {"A/B": float("nan")}])
def test_scales_when_params_hold_something_else_then_model_error(body):
    with pytest.raises(ModelError, match="scales"):
        Scales.from_json(body)


def test_scales_when_there_are_none_then_1():
    assert Scales.from_json(None).of("BTC/USDT") == 1.0
