"""Settings as the rules that trading follows."""

from __future__ import annotations

import pytest

from execution.limits import RiskLimits
from execution.sizing import SizingSettings
from serving.rules import market_for, risk_limits, sizing
from serving.settings import load_settings
from tests.execution_scenes import flat, states_of


@pytest.mark.parametrize(
    ("profile", "rules"),
    [
        ("strict", SizingSettings()),
        ("exercise", SizingSettings("fixed", fixed_notional=500)),
        ("oracle", SizingSettings("quantity", fixed_quantity=1, max_notional=1_000_000)),
    ],
)
def test_sizing_when_a_profile_sets_it_then_orders_follow(
    profile: str, rules: SizingSettings
) -> None:
    assert sizing(load_settings(env={}, profile=profile)) == rules


def test_limits_when_nothing_is_set_then_they_are_those_of_the_code() -> None:
    assert risk_limits(load_settings(env={}, profile=None)) == RiskLimits()


def test_limits_when_drawdown_settings_are_changed_then_the_limits_follow() -> None:
    env = {"CONCLAVE_DRAWDOWN_START": "0.04", "CONCLAVE_RECOVERY_RISK_PER_TRADE": "0.002"}
    limits = risk_limits(load_settings(env=env, profile=None))

    assert (limits.drawdown_start, limits.recovery_risk) == (0.04, 0.002)
    off = load_settings(env={"CONCLAVE_DRAWDOWN_REDUCTION": "false"}, profile=None)
    assert risk_limits(off).drawdown_start is None


@pytest.mark.parametrize(("funding", "bps"), [("true", 25 / 480), ("false", 0.0)])
def test_costs_when_funding_is_switched_off_then_a_round_trip_pays_none(
    funding: str, bps: float
) -> None:
    settings = load_settings(env={"CONCLAVE_FUNDING": funding}, profile=None)
    market = market_for(settings, ["BTC/USDT"], {"BTC/USDT": 50_000.0}, keep_market=False)
    (state,) = states_of([flat(0, symbol="BTC/USDT")])

    assert market.round_trip(300_000, 5, state).funding_bps == pytest.approx(bps)
