"""What a model must show before it is used."""

import math
from dataclasses import replace

import pytest

from agents.artifacts import Card
from agents.climatology import Climatology, ClimatologyConfig
from agents.contract import asleep, speak
from agents.inspection import judged_by, require_fit, require_sense, require_skill
from domain.errors import ModelError
from domain.ports import Needs
from domain.quantiles import Quantiles
from tests.agents_world import market, states_of

CARD = Card("baseline", "trend", 0, "abc", "0" * 64, "BTC/USDT", "5m", 5, 0, 1, 7)


def scored(**walk_forward):
    return replace(CARD, metrics={"walk_forward": walk_forward})


class Says:
    """An agent that says what it is told, with the number of the state to vary it."""

    name, version, needs = "says", "1", Needs()

    def __init__(self, **content):
        self.content = content

    def opine(self, states):
        out = []
        for i, state in enumerate(states):
            content = {key: value(i) for key, value in self.content.items()}
            out.append(speak(self.name, self.version, state, 5, **content))
        return out


class Sleeps(Says):
    """An agent that is awake on every n-th state only."""

    def __init__(self, nth):
        super().__init__(p_up=lambda i: 0.5 + i / 100)
        self.nth = nth

    def opine(self, states):
        said = super().opine(states)
        return [
            opinion if i % self.nth == 0 else asleep(self.name, self.version, states[i], 5)
            for i, opinion in enumerate(said)
        ]


class Breaks(Says):
    def opine(self, states):
        raise ZeroDivisionError("weights are empty")


def ranges(i, width=0.01):
    return Quantiles((0.1, 0.5, 0.9), (-width - i / 1e4, 0.0, width))


@pytest.fixture(scope="module")
def states():
    agent = Climatology(ClimatologyConfig(window=400))
    return list(states_of(agent, market(600, noise=1.5e-3)))[560::4]


@pytest.mark.parametrize(
    ("horizon", "timeframe", "told"),
    [(10, "5m", "horizon of 5 bars"), (5, "1h", "trained on 5m bars")],
)
def test_fit_when_horizon_or_bars_are_others_then_refused_with_a_way_out(horizon, timeframe, told):
    with pytest.raises(ModelError, match=told) as caught:
        require_fit(CARD, horizon, timeframe)
    assert caught.value.hint.startswith("Set ")


def test_fit_when_horizon_and_bars_are_those_of_the_card_then_nothing_is_said():
    require_fit(CARD, 5, "5m")
    require_fit(CARD, 5, None)


@pytest.mark.parametrize(
    ("name", "key", "more"),
    [
        ("baseline/trend", "brier_skill_1e4", True),
        ("tft/trend", "brier_skill_1e4", True),
        ("tft/return", "pinball_bps", False),
        ("baseline/risk", "down_brier", False),
        ("risk", "pinball_bps", False),
        ("chronos", "pinball_bps", False),
    ],
)
def test_judged_by_when_a_model_is_named_then_its_head_decides(name, key, more):
    assert judged_by(name) == (key, more)


@pytest.mark.parametrize(
    ("name", "walk_forward"),
    [
        ("baseline/trend", {"brier_skill_1e4": 0.0}),
        ("baseline/trend", {"brier_skill_1e4": -3.0}),
        ("baseline/trend", {"brier_skill_1e4": math.nan}),
        ("baseline/trend", {"brier_skill_1e4": 1.0, "climatology_brier_skill_1e4": 2.0}),
        ("baseline/return", {"pinball_bps": 8.1, "climatology_pinball_bps": 8.0}),
        ("baseline/return", {"pinball_bps": math.nan, "climatology_pinball_bps": 8.0}),
        ("baseline/risk", {"down_brier": 0.2, "climatology_down_brier": 0.1}),
    ],
)
def test_skill_when_worse_than_climatology_then_refused_with_both_scores(name, walk_forward):
    with pytest.raises(ModelError, match="worse than climatology"):
        require_skill(name, scored(**walk_forward))


@pytest.mark.parametrize(
    ("name", "walk_forward", "told"),
    [
        ("baseline/trend", {"brier_skill_1e4": 15.9}, "15.9 in walk-forward, against 0 "),
        ("risk", {"pinball_bps": 7.7, "climatology_pinball_bps": 8.0}, "against 8 of climatology"),
        ("risk", {"pinball_bps": 7.7}, "the card has no climatology_pinball_bps"),
        ("risk", {"folds": []}, "the card has no walk-forward pinball_bps"),
    ],
)
def test_skill_when_nothing_speaks_against_it_then_it_says_what_was_compared(
    name, walk_forward, told
):
    assert told in require_skill(name, scored(**walk_forward))


def test_sense_when_an_agent_speaks_sense_then_it_passes(states):
    require_sense(Climatology(ClimatologyConfig(window=400)), states)
    require_sense(Says(p_up=lambda i: 0.4 + i / 100, quantiles=ranges), states)
    require_sense(Sleeps(2), states)


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        (Says(p_up=lambda i: 0.5), "p_up must depend on the market"),
        (Says(p_up=lambda i: 0.4 + i / 100, risk_down=lambda i: 0.1), "risk_down must depend"),
        (Says(quantiles=lambda i: ranges(0)), "quantiles must depend on the market"),
        (Says(quantiles=lambda i: ranges(i, 0.3)), "within ±20%"),
        (Says(quantiles=lambda i: Quantiles((0.1, 0.5, 0.9), (0.1, 0.0, 0.2))), "sorted"),
        (Says(p_up=lambda i: math.nan), r"\[0, 1\]"),
        (Says(p_up=lambda i: 1.0 + i / 100), r"\[0, 1\]"),
        (Sleeps(3), "at least half of 10 states"),
        (Breaks(), "ZeroDivisionError: weights are empty"),
    ],
)
def test_sense_when_an_agent_speaks_none_then_refused_with_what_it_said(states, agent, told):
    with pytest.raises(ModelError, match=told) as caught:
        require_sense(agent, states)
    assert caught.value.message.startswith("smoke forecast of says")
