"""Settings as the rules that trading follows."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from domain.decision import Costs
from domain.trading import Side
from execution.fills import liquidation_fill
from execution.kelly import KellySettings
from execution.levels import LevelSettings
from execution.limits import RiskLimits
from execution.sizing import SizingSettings
from serving.deciders import build_strategy
from serving.rules import levels, market_for, risk_limits, sizing
from serving.settings import load_settings
from tests.execution_scenes import PERP, flat, states_of


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


@pytest.mark.parametrize(
    ("source", "env", "needed"),
    [
        ("binance", {}, True),
        ("demo", {}, False),
        ("replay", {}, False),
        ("binance", {"CONCLAVE_NEEDS_BOOK": "false"}, False),
        ("binance", {"CONCLAVE_SPREAD_LIQUIDITY_FILTER": "false"}, False),
    ],
)
def test_limits_when_an_exchange_is_watched_live_then_a_book_is_needed(
    source: str, env: dict[str, str], needed: bool
) -> None:
    assert risk_limits(load_settings(env=env, profile=None), source).needs_book is needed


def test_limits_when_the_operator_is_not_looked_at_then_there_is_nothing_to_report() -> None:
    env = {"CONCLAVE_HRV_MIN": "none", "CONCLAVE_OPERATOR_PAUSE_MINUTES": "60"}
    limits = risk_limits(load_settings(env=env, profile=None))

    assert limits.operator == {"self_report": 4.0}
    assert limits.operator_hold_ms == 3_600_000


def test_sizing_when_kelly_settings_are_changed_then_sizes_follow() -> None:
    env = {"CONCLAVE_KELLY_TRADES": "20", "CONCLAVE_MAX_RISK_PER_TRADE": "0.01"}
    changed = sizing(load_settings(env=env, profile="demo"))

    assert (changed.mode, changed.kelly) == ("kelly", KellySettings(window=20, max_risk=0.01))
    assert sizing(load_settings(env={"CONCLAVE_KELLY": "false"}, profile=None)).mode == "risk"


@pytest.mark.parametrize(("profile", "on"), [("strict", True), ("exercise", False)])
def test_levels_when_a_profile_turns_them_off_then_there_are_none(profile: str, on: bool) -> None:
    found = levels(load_settings(env={}, profile=profile))

    assert found.on is on
    assert found == (LevelSettings() if on else LevelSettings(None, None))


@pytest.mark.parametrize("name", ["ema_cross", "mean_reversion"])
def test_strategy_when_it_is_named_then_it_decides(name: str) -> None:
    env = {"CONCLAVE_STRATEGY": name, "PRED_HORIZON_STEPS": "7"}
    settings = load_settings(env=env, profile=None)
    made = build_strategy(settings, lambda _: Costs(0.0, 0.0, 0.0), "replay", "")

    (state,) = states_of([flat(0)])
    decision = made.generate_signal(made.prepare_state(state, [], {}), 0)
    assert (made.name, decision.horizon_bars) == (name, 7)


@pytest.mark.parametrize(("funding", "bps"), [("true", 25 / 480), ("false", 0.0)])
def test_costs_when_funding_is_switched_off_then_a_round_trip_pays_none(
    funding: str, bps: float
) -> None:
    settings = load_settings(env={"CONCLAVE_FUNDING": funding}, profile=None)
    market = market_for(settings, ["BTC/USDT"], {"BTC/USDT": 50_000.0}, keep_market=False)
    (state,) = states_of([flat(0, symbol="BTC/USDT")])

    assert market.round_trip(300_000, 5, state).funding_bps == pytest.approx(bps)


@pytest.mark.parametrize("hours", [1, 4, 8])
def test_costs_when_a_contract_is_settled_at_other_hours_then_the_usual_funding_is_the_same(
    hours: int,
) -> None:
    usual = market_for(
        load_settings(env={}, profile=None), ["BTC/USDT"], {"BTC/USDT": 50_000.0}, keep_market=False
    )
    market = usual.settled_every(PERP.symbol, hours)
    (state,) = states_of([flat(0, symbol="BTC/USDT")])
    assert market.round_trip(300_000, 5, state) == usual.round_trip(300_000, 5, state)
    told = replace(state, funding_rate=-0.0004)
    expected = 4 * 25 / 60 / hours
    assert market.round_trip(300_000, 5, told).funding_bps == pytest.approx(expected)


@pytest.mark.parametrize(("bps", "fee"), [(None, "12"), ("30", "3")])
def test_liquidation_when_its_fee_is_set_then_that_is_paid(bps: str | None, fee: str) -> None:
    told = {} if bps is None else {"execution.liquidation_bps": bps}
    settings = load_settings(env={"FEES_BPS": "7"}, profile=None, overrides=told)
    market = market_for(settings, ["BTC/USDT"], {"BTC/USDT": 50_000.0}, keep_market=False)
    perp = market.instruments[PERP.symbol]
    fill = liquidation_fill(Side.SELL, Decimal("0.02"), Decimal(50_000), Decimal(40), flat(0), perp)
    assert fill is not None
    assert fill.fee == Decimal(fee)  # of 1 000 USDT
    assert (perp.taker_bps, market.costs[PERP.symbol].taker_bps) == (7.0, 7.0)
