"""Stops and targets: by ATR and regime, and those of mean reversion."""

from dataclasses import replace
from math import nan, sqrt

import numpy as np
import pytest

from domain.decision import Action, GateVerdict
from domain.errors import SettingError
from domain.market import BarFrame, FeatureFrame, MarketState
from domain.trading import OrderType
from execution.levels import OFF, LevelSettings, levels_for, regime_of
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.sizing import SizingSettings
from execution.strategies import MeanReversion
from storage.memory import MemoryLedger
from tests.execution_scenes import (
    FIXED,
    NO_LIMITS,
    PERP,
    SPOT,
    START,
    STEP,
    Script,
    flat,
    plain_broker,
    states_of,
)


def state(atr=100.0, rank=0.5, symbol=PERP.symbol, bars=1):
    made = states_of([flat(n, symbol=symbol) for n in range(bars)])[-1]
    features = FeatureFrame(("atr_14", "vol_rank"), np.array([[atr, rank]]), "test")
    return replace(made, features=features)


@pytest.mark.parametrize(
    ("rank", "regime"),
    [(0.0, "calm"), (0.333, "calm"), (0.334, "usual"), (0.666, "usual"), (0.667, "wild"),
     (1.0, "wild")],
)  # fmt: skip
def test_regime_when_the_week_is_cut_in_three_then_it_is_the_third(rank, regime):
    assert regime_of(rank) == regime


@pytest.mark.parametrize(
    ("rank", "stop", "target"),
    [(0.1, 49_780.0, 50_330.0), (0.5, 49_800.0, 50_300.0), (0.9, 49_820.0, 50_270.0)],
)
def test_levels_when_the_regime_changes_then_so_do_the_distances(rank, stop, target):
    found = levels_for(Action.LONG, state(rank=rank), LevelSettings())
    assert (found.stop, found.target) == pytest.approx((stop, target))
    other = levels_for(Action.SHORT, state(rank=rank), LevelSettings())
    assert (other.stop, other.target) == pytest.approx((100_000 - stop, 100_000 - target))


@pytest.mark.parametrize(
    ("atr", "rank", "settings", "expected"),
    [
        (100.0, 0.5, replace(LevelSettings(), stop_atr=None), (None, 50_300.0)),
        (100.0, 0.5, replace(LevelSettings(), target_atr=None), (49_800.0, None)),
        (30_000.0, 0.5, LevelSettings(), (None, 140_000.0)),  # no price below 0
    ],
)
def test_levels_when_one_cannot_be_then_the_other_stays(atr, rank, settings, expected):
    found = levels_for(Action.LONG, state(atr, rank), settings)
    assert (found.stop, found.target) == expected


def test_levels_when_something_is_missing_then_there_are_none():
    for seen in (state(nan), state(rank=nan), state(0.0), states_of([flat(0)])[0]):
        assert levels_for(Action.LONG, seen, LevelSettings()) is None
    assert levels_for(Action.NO_TRADE, state(), LevelSettings()) is None
    assert levels_for(Action.LONG, state(), OFF) is None


def test_level_settings_when_a_distance_is_not_above_zero_then_it_is_refused():
    with pytest.raises(SettingError, match="calm"):
        LevelSettings(calm=0.0)


def loop_of(says, levels, forecast=PERP.symbol, sizing=FIXED, gate=None):
    routes = LoopSettings({forecast: PERP.symbol})
    return TradingLoop(
        Script(says), plain_broker({PERP.symbol: PERP}), MemoryLedger(), {PERP.symbol: PERP},
        routes, limits=NO_LIMITS, sizing=sizing, levels=levels, gate=gate,
    )  # fmt: skip


def brackets(loop):
    orders = {order.type: order for order in loop.open_orders()}
    stop, target = orders.get(OrderType.STOP), orders.get(OrderType.LIMIT)
    return stop and float(stop.trigger), target and float(target.price)


def test_loop_when_a_strategy_suggests_none_then_stop_and_target_are_added_and_sized_by():
    loop = loop_of({0: "LONG"}, LevelSettings(), sizing=SizingSettings(max_notional=100_000))
    seen = state(atr=250.0)
    decision = loop.step(seen, [], {}, seen.as_of)
    assert (decision.stop, decision.target) == (49_500.0, 50_750.0)
    assert decision.inputs["levels"] == {"atr_14": 250.0, "regime": "usual"}
    assert brackets(loop) == (49_500.0, 50_750.0)
    assert float(loop.open_orders()[0].qty) == 0.05  # 25 USDT over 500


def test_loop_when_a_strategy_suggests_one_then_it_is_left_alone():
    loop = loop_of({0: ("LONG", 49_000.0, None)}, LevelSettings())
    seen = state()
    decision = loop.step(seen, [], {}, seen.as_of)
    assert (decision.stop, decision.target) == (49_000.0, None)
    assert "levels" not in decision.inputs


def test_loop_when_levels_are_off_then_there_is_neither():
    loop = loop_of({0: "LONG"}, None)
    seen = state()
    decision = loop.step(seen, [], {}, seen.as_of)
    assert (decision.stop, decision.target, brackets(loop)) == (None, None, (None, None))


def test_loop_when_executed_elsewhere_then_the_levels_are_carried_to_that_market():
    loop = loop_of({0: "LONG"}, LevelSettings(), forecast=SPOT.symbol)
    seen = state(symbol=SPOT.symbol)
    loop.step(seen, [], {}, seen.as_of, exec_bar=flat(0, 100_000.0))
    assert brackets(loop) == (99_600.0, 100_600.0)


def test_loop_when_the_gate_turns_the_side_then_the_levels_turn_with_it():
    class Turning:
        def judge(self, decision, state, portfolio):
            return GateVerdict("override")

        def observe(self, rows):
            """Learn nothing."""

    loop = loop_of({0: ("LONG", 49_000.0, None)}, LevelSettings(), gate=Turning())
    seen = state()
    decision = loop.step(seen, [], {}, seen.as_of)
    assert (decision.action, decision.stop, decision.target) == (Action.SHORT, 50_200, 49_700)


# mean reversion


def closes(values):
    close = np.array(values, dtype=np.float64)
    ts = START + STEP * np.arange(len(close), dtype=np.int64)
    frame = BarFrame(PERP.symbol, "5m", ts, close, close, close, close, np.ones(len(close)))
    empty = FeatureFrame((), np.empty((1, 0)), "none")
    return MarketState(PERP.symbol, "5m", int(ts[-1]) + STEP, frame, empty, len(close))


def reverted(values, **parameters):
    strategy = MeanReversion(4, **{"z_in": 1.5, **parameters})
    seen = closes(values)
    return strategy.generate_signal(strategy.prepare_state(seen, [], {}), seen.as_of)


@pytest.mark.parametrize(("last", "side"), [(96.0, "LONG"), (104.0, "SHORT")])
def test_mean_reversion_when_the_close_is_far_then_it_trades_back_to_the_mean(last, side):
    made = reverted([7.0, 100.0, 100.0, 100.0, last])  # what lies before the window is not read
    sign, mean, sd = made.action.sign, 100.0 + (last - 100.0) / 4, sqrt(3.0)
    assert made.action.value == side
    assert made.inputs["z"] == pytest.approx(-sign * sqrt(3.0))  # 3 / √3
    assert made.target == pytest.approx(mean)
    assert made.stop == pytest.approx(mean - sign * 3.5 * sd)


@pytest.mark.parametrize(
    ("values", "parameters", "reasons"),
    [
        ([100.0] * 3, {}, ("data_gap",)),
        ([100.0] * 4, {}, ("below_threshold",)),
        ([100.0, 101.0, 100.0, 100.5], {}, ("below_threshold",)),
        ([100.0, 100.0, 100.0, 96.0], {"z_stop": 1.7}, ("risk_veto",)),  # already beyond
    ],
)
def test_mean_reversion_when_there_is_nothing_to_revert_then_it_says_why(
    values, parameters, reasons
):
    made = reverted(values, **parameters)
    assert (made.action, made.stop, made.target) == (Action.NO_TRADE, None, None)
    assert made.reasons == reasons


@pytest.mark.parametrize("wrong", [{"window": 1}, {"z_in": 0.0}, {"z_in": 4.0}])
def test_mean_reversion_when_parameters_make_no_sense_then_they_are_refused(wrong):
    with pytest.raises(SettingError, match="mean_reversion"):
        MeanReversion(**wrong)
