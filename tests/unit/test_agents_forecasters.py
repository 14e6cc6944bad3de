import numpy as np
import pytest

from agents.artifacts import FolderStore
from agents.climatology import Climatology, ClimatologyConfig
from agents.contract import sleep_reason
from agents.registry import build_agents
from agents.risk import RiskAgent
from agents.technical import Technical
from domain import scores
from domain.errors import DataRefused, ModelError, UsageError
from domain.quantiles import CANONICAL_LEVELS
from tests.agents_world import market, states_of, with_gap


def outcomes(bars, horizon=5):
    """ln(c_{i+H}/c_i) of all but the last H bars."""
    return np.log(bars.close[horizon:] / bars.close[:-horizon])


def test_climatology_when_a_window_is_known_then_its_quantiles_and_shares():
    agent = Climatology(ClimatologyConfig(window=500, prior=100, adverse_move=0.001))
    bars = market(900)
    opinion = agent.opine([states_of(agent, bars)[800]])[0]
    moves = np.log(bars.close[301:801] / bars.close[296:796])
    assert opinion.quantiles.levels == CANONICAL_LEVELS
    assert opinion.quantiles.values == pytest.approx(np.quantile(moves, CANONICAL_LEVELS))
    assert opinion.p_up == pytest.approx(((moves > 0).sum() + 50) / 600)
    fell = [1 - bars.low[i - 4 : i + 1].min() / bars.close[i - 5] > 0.001 for i in range(301, 801)]
    assert opinion.risk_down == pytest.approx(np.mean(fell))


def test_climatology_when_window_grows_then_slides_then_equal_to_one_state_at_a_time():
    agent = Climatology(ClimatologyConfig(window=400))
    states = list(states_of(agent, market(520)))[280:]
    together = agent.opine(states)
    assert together == [agent.opine([state])[0] for state in states]
    assert [sleep_reason(o) for o in together[:8]] == ["data_gap"] * 7 + [None]


def test_climatology_when_the_horizon_is_a_day_then_silent_until_283_moves_were_seen():
    agent = Climatology(ClimatologyConfig(horizon_bars=288))
    opinions = agent.opine(states_of(agent, market(600)))
    awake = [sleep_reason(opinion) is None for opinion in opinions]
    assert awake == [False] * (288 + 282) + [True] * 30
    assert opinions[-30].evidence["moves"] == 283
    assert np.isfinite(opinions[-30].quantiles.values).all()


@pytest.mark.parametrize("horizon", [1, 5])
def test_climatology_when_a_day_of_bars_was_seen_then_it_speaks_at_once(horizon):
    agent = Climatology(ClimatologyConfig(horizon_bars=horizon))
    opinions = agent.opine(states_of(agent, market(290)))
    assert [sleep_reason(opinion) for opinion in opinions[-4:]] == ["data_gap"] + [None] * 3


def test_climatology_when_unchanged_then_its_version_is_that_of_earlier_ledgers():
    assert Climatology().version == "66738c44f9bd"


@pytest.mark.parametrize("agent", [Climatology(), Technical()])
def test_agent_when_a_gap_came_then_silent_until_there_is_enough_past(agent):
    bars = with_gap(market(1500), 900, 3)
    opinions = agent.opine(states_of(agent, bars))
    awake = np.array([sleep_reason(opinion) is None for opinion in opinions])
    assert awake[850:900].all()
    assert not awake[900 : 900 + 287].any()
    assert awake[-1]


@pytest.mark.long
def test_technical_when_an_edge_is_planted_then_loud_and_calibrated():
    agent, bars = Technical(), market(4000, drift=9e-4)
    opinions = agent.opine(list(states_of(agent, bars))[2100:-5])
    p = np.array([opinion.p_up for opinion in opinions])
    r = outcomes(bars)[2100:]
    up = r > 0
    assert scores.auc(p, up) > 0.72
    assert (0.25 - scores.brier(p, up).mean()) * 1e4 > 350
    for low, high in ((0.0, 0.35), (0.35, 0.65), (0.65, 1.0)):
        inside = (p >= low) & (p < high)
        assert up[inside].mean() == pytest.approx(p[inside].mean(), abs=0.08)
    q = np.array([opinion.quantiles.values for opinion in opinions])
    assert scores.covered(q[:, 2], q[:, 10], r).mean() == pytest.approx(0.8, abs=0.04)


@pytest.mark.long
def test_technical_when_there_is_nothing_but_noise_then_one_half():
    agent = Technical()
    opinions = agent.opine(list(states_of(agent, market(3000, seed=5)))[2100:])
    p = np.array([opinion.p_up for opinion in opinions])
    assert np.mean(np.abs(p - 0.5)) < 0.004
    assert np.median(np.abs(p - 0.5)) == 0.0


def test_technical_when_the_price_stands_still_then_finite():
    agent = Technical()
    opinion = agent.opine([states_of(agent, market(900, noise=0.0))[-1]])[0]
    assert opinion.p_up == 0.5
    assert np.isfinite(opinion.quantiles.values).all()


def test_risk_when_market_is_twice_as_wild_then_quantiles_and_risks_grow():
    agent = RiskAgent(FolderStore().open("risk"))
    calm, wild = (
        agent.opine([states_of(agent, market(2500, noise=noise))[-1]])[0] for noise in (5e-4, 1e-3)
    )
    width = [opinion.quantiles.at(0.9) - opinion.quantiles.at(0.1) for opinion in (calm, wild)]
    assert 1.6 < width[1] / width[0] < 2.1  # the fitted elasticity is .8
    assert wild.risk_down > calm.risk_down
    assert wild.risk_up > calm.risk_up
    assert calm.p_up is None
    assert calm.direction_probability() == pytest.approx(0.5, abs=0.02)


def test_build_agents_when_names_are_known_then_agents_by_name():
    agents = build_agents(["climatology", "technical", "baseline", "risk"])
    assert {name: agent.name for name, agent in agents.items()} == {n: n for n in agents}
    assert len({agent.version for agent in agents.values()}) == 4


def test_build_agents_when_name_is_misspelt_then_a_suggestion():
    with pytest.raises(UsageError) as caught:
        build_agents(["baselin"])
    assert caught.value.hint == 'Did you mean "baseline"?'


@pytest.mark.parametrize("name", ["baseline", "risk"])
def test_build_agents_when_horizon_is_not_the_trained_one_then_refused(name):
    with pytest.raises(ModelError, match="horizon of 5 bars"):
        build_agents([name], horizon_bars=10)


def test_build_agents_when_light_then_any_horizon():
    agents = build_agents(["climatology", "technical"], horizon_bars=10)
    assert [agent.horizon_bars for agent in agents.values()] == [10, 10]


def test_training_when_history_is_short_then_data_refused(tmp_path):
    from agents.training.dataset import Source
    from agents.training.risk import train

    bars = market(1000)
    with pytest.raises(DataRefused, match="5000 valid rows"):
        train([bars], tmp_path, Source(int(bars.ts[-1]), 7, 0, "abc", "0" * 64))
