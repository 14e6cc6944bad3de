"""What keeps worlds, training data and broken numbers apart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from agents.contract import out_of_sample
from domain.opinion import Opinion
from domain.quantiles import Quantiles
from serving.plan import world_named
from serving.settings import load_settings
from sim.backtest import plain_states
from sim.worlds import DEMO_START_MS, DemoMarket

STATE = list(plain_states(DemoMarket().bars(DEMO_START_MS, 20), bars=5))[-1]
SAID = Opinion(
    "baseline", "v", STATE.symbol, STATE.timeframe, STATE.as_of, 5, 0.6,
    Quantiles((0.1, 0.5, 0.9), (-0.1, 0.0, 0.1)),
)  # fmt: skip


class Trained:
    """An agent with a training period."""

    def __init__(self, until: int) -> None:
        self.trained_until = until


def named(**overrides: str) -> str:
    settings = load_settings(env={}, profile="demo", overrides=overrides)
    return world_named("demo-7", settings.data.symbols, settings)


def test_world_when_everything_is_usual_then_its_name_is_plain() -> None:
    assert named() == "demo-7"


def test_world_when_symbols_bars_horizon_or_market_differ_then_each_is_its_own() -> None:
    others = {
        named(SYMBOLS="BTC/USDT,ETH/USDT"),
        named(TIMEFRAME="1m"),
        named(PRED_HORIZON_STEPS="3"),
        named(EXECUTION_MARKET="spot"),
    }
    assert len(others | {"demo-7"}) == 5
    assert named(SYMBOLS="ETH/USDT,BTC/USDT") in others


@pytest.mark.parametrize(
    "broken",
    [
        {"p_up": math.nan},
        {"risk_down": math.inf},
        {"expected_return": -math.inf},
        {"quantiles": Quantiles((0.1, 0.5, 0.9), (-0.1, math.nan, 0.1))},
        {"quantiles": Quantiles((0.1, 0.5, 0.9), (-0.1, None, 0.1))},  # NaN after a trip as JSON
    ],
)
def test_opinion_when_a_number_is_none_then_it_is_not_finite(broken: dict[str, object]) -> None:
    assert SAID.finite
    assert not replace(SAID, **broken).finite  # type: ignore[arg-type]


def test_out_of_sample_when_a_bar_was_trained_on_then_the_agent_is_absent() -> None:
    opened = int(STATE.bars.ts[-1])
    kept, absent = out_of_sample(
        {"baseline": Trained(opened + 1)}, STATE, [SAID], {"tft": "failed"}
    )
    assert kept == []
    assert absent == {"tft": "failed", "baseline": "in_sample"}


def test_out_of_sample_when_the_bar_opens_after_training_then_nothing_changes() -> None:
    agents = {"baseline": Trained(int(STATE.bars.ts[-1])), "technical": object()}
    assert out_of_sample(agents, STATE, [SAID], {}) == ([SAID], {})
