"""Chronos as an agent: the laws, which fusion it speaks with, what it names, and when it sleeps."""

import re
from dataclasses import replace

import numpy as np
import pytest

from agents.artifacts import FolderStore
from agents.checks import check_agent, check_blindness
from agents.chronos import SHORT_HISTORY, Chronos, ChronosConfig
from agents.chronos_fusion import FixedFusion, LearnedFusion
from agents.chronos_models import SHIPPED
from agents.chronos_views import TIMEFRAMES
from agents.contract import sleep_reason
from domain.errors import ModelError
from domain.market import BarFrame
from domain.times import MINUTE_MS
from tests.agents_world import START, market, states_of, with_gap
from tests.neural_models import END, bars_seen, save_bolt, train_chronos, untrained_bolt

GAP = 2600
FIVE = ["5m", "15m", "30m", "1h"]


@pytest.fixture(scope="module")
def store(chronos_root):
    return FolderStore(chronos_root)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return untrained_bolt(tmp_path_factory.mktemp("bolt"))


@pytest.fixture(scope="module")
def bars():
    return with_gap(market(GAP + 900, seed=11, drift=3e-4), GAP, 4)


def agent_of(store, **config):
    return Chronos.from_store(store, ChronosConfig(**config))


@pytest.fixture(scope="module")
def agent(store):
    return agent_of(store)


@pytest.fixture(scope="module")
def states(agent, bars):
    return states_of(agent, bars)


@pytest.fixture(scope="module")
def fixed(folder, store):
    """A model that nobody learned a fusion for."""
    return agent_of(store, model=str(folder))


def test_chronos_when_its_fusion_was_learned_then_it_obeys_the_laws(agent, states):
    assert isinstance(agent.fusion, LearnedFusion)
    check_agent(agent, states[GAP - 6 : GAP + 3])


def test_chronos_when_its_fusion_is_fixed_then_it_obeys_the_laws(fixed, states):
    check_agent(fixed, states[GAP + 283 : GAP + 291])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*quant:UserWarning", "ignore::DeprecationWarning")
def test_chronos_when_quantised_then_it_obeys_the_laws(store, states):
    check_agent(agent_of(store, int8=True), states[GAP - 5 : GAP + 3])


@pytest.mark.slow
def test_chronos_when_trained_then_what_was_saved_speaks(tmp_path):
    agent = agent_of(FolderStore(train_chronos(tmp_path)))
    assert isinstance(agent.fusion, LearnedFusion)
    assert agent.trained_until == END
    check_agent(agent, states_of(agent, bars_seen())[-16:])


def test_chronos_when_bars_are_of_15_minutes_then_it_obeys_the_laws(store):
    agent = agent_of(store, timeframe="15m", fusion="fixed")
    quarter = with_step(market(900, seed=2), "15m", 15)
    assert agent.timeframes == ("15m", "30m", "1h")
    check_agent(agent, states_of(agent, quarter)[-8:])


def with_step(bars, timeframe, minutes):
    ts = START + minutes * MINUTE_MS * np.arange(len(bars), dtype=np.int64)
    columns = (getattr(bars, name) for name in ("open", "high", "low", "close", "volume"))
    return BarFrame(bars.symbol, timeframe, ts, *columns)


def test_chronos_when_the_future_is_scrambled_or_cut_then_nothing_changes(agent, bars):
    check_blindness(agent, bars, lambda x: states_of(agent, x), [GAP - 1, GAP + 700])


def test_chronos_when_opined_then_model_and_timeframes_are_named(agent, states):
    for opinion in agent.opine(states[GAP - 40 : GAP]):
        assert opinion.agent == "chronos"
        assert opinion.model_version == agent.version
        assert opinion.evidence["timeframes"] == FIVE
        assert opinion.evidence["model"] == SHIPPED
        assert opinion.evidence["sigma"] > 0
        assert opinion.rationale.startswith("5m, 15m, 30m, 1h together see ")
        told = re.search(r"see ([\d.]+)% for up, 80% within ([\d.]+) bp", opinion.rationale)
        p, width = told.groups()
        assert float(p) == pytest.approx(100 * opinion.p_up, abs=0.051)
        values = dict(zip(opinion.quantiles.levels, opinion.quantiles.values, strict=True))
        assert float(width) == pytest.approx(1e4 * (values[0.9] - values[0.1]), abs=0.051)
        assert (np.diff(opinion.quantiles.values) > 0).all()
        assert 0 < opinion.risk_down < 1
        assert 0 < opinion.risk_up < 1
        assert opinion.horizon_bars == 5
    assert (agent.trained_until, agent.trained_on) == (END, ("BTC/USDT", "5m"))


def test_chronos_when_the_model_has_no_fusion_then_fixed_and_no_risk(fixed, folder, states):
    assert isinstance(fixed.fusion, FixedFusion)
    for opinion in fixed.opine(states[GAP - 10 : GAP]):
        assert opinion.risk_down is None
        assert opinion.risk_up is None
        assert 0 < opinion.p_up < 1
        assert opinion.evidence["model"] == str(folder)
    assert not hasattr(fixed, "trained_until")  # nobody here knows what it was trained on


CASES = {
    "as trained": ({}, LearnedFusion),
    "wanted fixed": ({"fusion": "fixed"}, FixedFusion),
    "another horizon": ({"horizon_bars": 12}, FixedFusion),
    "another base": ({"timeframe": "15m"}, FixedFusion),
    "base not asked": ({"timeframes": ("15m", "1h")}, FixedFusion),
    "some not asked": ({"timeframes": ("1h", "5m")}, LearnedFusion),
}


@pytest.mark.parametrize(("config", "kind"), CASES.values(), ids=CASES)
def test_fusion_when_it_was_learned_for_something_else_then_fixed(store, config, kind):
    assert isinstance(agent_of(store, **config).fusion, kind)


def test_fusion_when_an_artifact_has_none_then_fixed(folder, tmp_path):
    save_bolt(tmp_path, folder, {"horizon_bars": 5})
    agent = agent_of(FolderStore(tmp_path), min_confidence=0.1)
    assert agent.fusion == FixedFusion(min_confidence=0.1)
    assert agent.trained_until == END


def test_fusion_when_its_params_are_damaged_then_model_error(folder, tmp_path):
    save_bolt(tmp_path, folder, {"horizon_bars": 5, "fusion": {"width": [1.0]}})
    with pytest.raises(ModelError, match="lacks a field"):
        agent_of(FolderStore(tmp_path, shipped=tmp_path / "none"))


@pytest.mark.parametrize("horizon", [1, 12, 48])
def test_chronos_when_another_horizon_is_wanted_then_it_speaks_about_that(store, states, horizon):
    near = agent_of(store, fusion="fixed").opine(states[GAP - 3 : GAP])
    far = agent_of(store, horizon_bars=horizon).opine(states[GAP - 3 : GAP])
    for a, b in zip(near, far, strict=True):
        assert b.horizon_bars == horizon
        assert b.evidence["sigma"] != a.evidence["sigma"]  # how it grows is the views' test
        assert b.risk_down is None


def test_chronos_when_the_base_is_not_asked_about_then_it_speaks_all_the_same(store, states):
    agent = agent_of(store, timeframes=("15m", "1h"))
    for opinion in agent.opine(states[GAP - 3 : GAP]):
        assert opinion.evidence["timeframes"] == ["15m", "1h"]


def test_chronos_when_a_gap_was_then_asleep_with_its_reason_and_back_one_by_one(agent, bars):
    states = states_of(agent, bars)
    reasons = [sleep_reason(o) for o in agent.opine(states[GAP : GAP + 290])]
    assert reasons == [SHORT_HISTORY] * 287 + [None] * 3
    assert agent.opine(states[GAP : GAP + 1])[0].rationale == "No opinion: short_history."
    heard = [o.evidence["timeframes"] for o in agent.opine(states[GAP + 595 : GAP + 620])]
    assert heard[0] == FIVE[:1]
    assert heard[-1] == FIVE[:2]
    assert heard == sorted(heard, key=len)


def test_chronos_when_nothing_but_the_start_was_seen_then_asleep(agent):
    states = states_of(agent, market(300))
    assert [sleep_reason(o) for o in agent.opine(states)] == [SHORT_HISTORY] * 287 + [None] * 13


def test_chronos_when_only_a_long_timeframe_is_asked_about_then_asleep_until_it_is_there(store):
    agent = agent_of(store, timeframes=("15m",))
    reasons = [sleep_reason(o) for o in agent.opine(states_of(agent, market(640))[590:620])]
    first = reasons.index(None)
    assert first + 590 == 603 - 1  # 201 quarters of an hour
    assert set(reasons[:first]) == {SHORT_HISTORY}
    assert set(reasons[first:]) == {None}


def test_chronos_when_bars_have_nothing_to_join_to_then_model_error(store):
    with pytest.raises(ModelError, match="no timeframe that bars of 4h make"):
        agent_of(store, timeframe="4h")


def test_chronos_when_a_timeframe_is_asked_about_that_it_does_not_know_then_model_error(store):
    with pytest.raises(ModelError, match=r"can be asked about 1m, 3m, 5m.*\['2h'\]"):
        agent_of(store, timeframes=(*TIMEFRAMES, "2h"))


def test_version_when_model_or_settings_differ_then_another_one(store, folder):
    variants = [
        {}, {"fusion": "fixed"}, {"timeframes": ("5m",)}, {"min_confidence": 0.1},
        {"timeframe": "15m"}, {"int8": True}, {"model": str(folder)}, {"horizon_bars": 12},
    ]  # fmt: skip
    versions = [agent_of(store, **config).version for config in variants]
    assert len(set(versions)) == len(variants)
    assert agent_of(store).version == versions[0]


def test_chronos_when_a_symbol_is_named_otherwise_then_the_same_numbers(agent, states):
    state = states[GAP - 1]
    perp = replace(state, symbol="X/USDT", bars=replace(state.bars, symbol="X/USDT"))
    (a,), (b,) = agent.opine([state]), agent.opine([perp])
    assert (a.p_up, a.quantiles, a.risk_down) == (b.p_up, b.quantiles, b.risk_down)


def test_chronos_when_warmed_up_then_nothing_changes(agent, states):
    before = agent.opine([states[GAP - 1]])
    agent.warm_up()
    assert agent.opine([states[GAP - 1]]) == before
