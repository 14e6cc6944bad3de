"""Symbols that move together share one symbol's exposure."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from domain.market import Bar
from domain.trading import Portfolio, Position, Refusal
from execution.correlation import Correlations
from execution.limits import RiskLimits, failed
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.risk import RiskState
from execution.sizing import SizingSettings
from storage.memory import MemoryLedger
from tests.execution_scenes import (
    NO_LIMITS,
    PERP,
    START,
    STEP,
    Script,
    plain_broker,
    states_of,
)

A, B, C = PERP.symbol, "ETH/USDT:USDT", "SOL/USDT:USDT"
ROUTES = {symbol: symbol for symbol in (A, B, C)}


def bars_of(symbol, returns, first=0):
    closes = 100.0 * np.exp(np.cumsum(returns))
    return [
        Bar(symbol, "5m", START + (first + n) * STEP, c, c, c, c, 1.0)
        for n, c in enumerate(closes.tolist())
    ]


def folded(series, window=288, least=60):
    correlations = Correlations({symbol: symbol for symbol in series}, window, least)
    for bars in series.values():
        for bar in bars:
            correlations.fold(bar)
    return correlations


def noise(n, seed):
    return np.random.default_rng(seed).normal(0.0, 1e-3, n)


def test_correlation_when_measured_then_it_is_pearsons_on_common_returns():
    x, y = noise(100, 1), noise(100, 2)
    known = folded({A: bars_of(A, x), B: bars_of(B, 0.6 * x + 0.8 * y)})
    expected = np.corrcoef(x[1:], (0.6 * x + 0.8 * y)[1:])[0, 1]
    assert known.between(A, B) == pytest.approx(expected, abs=1e-9)
    assert known.between(B, A) == pytest.approx(expected, abs=1e-9)


def test_correlation_when_bars_are_missing_then_times_are_matched_and_no_return_spans_a_hole():
    x = noise(120, 3)
    holed = [bar for n, bar in enumerate(bars_of(B, x)) if n not in (50, 51)]
    assert folded({A: bars_of(A, x), B: holed}).between(A, B) == pytest.approx(1.0)


def test_correlation_when_common_returns_are_too_few_then_it_is_not_measured():
    x = noise(60, 4)
    assert folded({A: bars_of(A, x), B: bars_of(B, x)}).between(A, B) is None  # 59 returns
    x = noise(61, 4)
    assert folded({A: bars_of(A, x), B: bars_of(B, x)}).between(A, B) == pytest.approx(1.0)
    late = folded({A: bars_of(A, noise(100, 5)), B: bars_of(B, noise(100, 5), first=60)})
    assert late.between(A, B) is None
    still = folded({A: bars_of(A, noise(100, 5)), B: bars_of(B, np.zeros(100))})
    assert still.between(A, B) is None


def test_correlation_when_the_window_has_moved_on_then_the_past_is_forgotten():
    x, y = noise(400, 6), noise(400, 7)
    y[200:] = x[200:]
    known = folded({A: bars_of(A, x), B: bars_of(B, y)}, window=100)
    assert known.between(A, B) == pytest.approx(1.0)


def test_correlation_when_forecast_and_execution_differ_then_the_forecast_bars_count():
    x = noise(100, 3)
    known = Correlations({"BTC/USDT": A, "ETH/USDT": B}, 288, 60)
    for symbol in ("BTC/USDT", "ETH/USDT"):
        for bar in bars_of(symbol, x):
            known.fold(bar)
    assert known.between(A, B) == pytest.approx(1.0)
    assert known.between("BTC/USDT", "ETH/USDT") is None


def held(**quantities):
    names = {"a": A, "b": B, "c": C}
    positions = {
        names[k]: Position("paper", names[k], Decimal(v), Decimal(100), START, "d", 0)
        for k, v in quantities.items()
    }
    equity = Decimal(10_000)
    return Portfolio("paper", "USDT", START, equity, equity, equity, positions, {})


def state_with(series, limits=None):
    state = RiskState(limits or RiskLimits(), "paper", ROUTES)
    for bars in series.values():
        for bar in bars:
            state.fold(bar)
    return state


def correlated(state, portfolio, notional, pending=None):
    checks = state.entry_checks(portfolio, A, Decimal(notional), 1.0, None, pending)
    return next(check for check in checks if check.name == "correlated_exposure")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("side", [1, -1])
def test_exposure_when_symbols_move_together_then_they_count_as_one_whatever_the_sides(sign, side):
    x = noise(100, 8)
    state = state_with({A: bars_of(A, x), B: bars_of(B, sign * x), C: bars_of(C, noise(100, 9))})
    portfolio = held(b=30 * side, c=40)  # 3 000 and 4 000 USDT
    check = correlated(state, portfolio, 2_000)
    assert (check.value, check.margin, check.passed) == (0.5, 0.0, True)
    check = correlated(state, portfolio, 2_001)
    assert check.margin == pytest.approx(-0.0001)
    assert check in failed([check])


def test_exposure_when_an_entry_is_on_its_way_then_it_counts_as_held():
    x = noise(100, 8)
    state = state_with({A: bars_of(A, x), B: bars_of(B, x)})
    check = correlated(state, held(), 2_000, {B: Decimal(3_500)})
    assert check.value == pytest.approx(0.55)
    assert not check.passed


def test_exposure_when_a_pair_is_not_measured_then_it_says_so_and_stops_nothing():
    x = noise(100, 8)
    state = state_with({A: bars_of(A, x), B: bars_of(B, x)})
    check = correlated(state, held(b=10, c=40), 2_000)
    assert (check.value, check.margin, check.passed) == ("not_measured", None, True)
    over = correlated(state, held(b=40, c=40), 2_000)  # what is known is too much already
    assert over.value == pytest.approx(0.6)
    assert not over.passed


def test_exposure_when_the_cap_is_off_or_one_symbol_is_traded_then_there_is_no_such_check():
    off = state_with({}, RiskLimits(max_correlation=None))
    alone = RiskState(RiskLimits(), "paper", {A: A})
    for state in (off, alone):
        names = [check.name for check in state.entry_checks(held(), A, Decimal(1), 1.0)]
        assert "correlated_exposure" not in names


@pytest.mark.parametrize(("bars", "codes"), [(61, []), (62, ["risk_veto"])])
def test_loop_when_two_symbols_move_together_then_the_second_entry_is_refused(bars, codes):
    both = {symbol: replace(PERP, symbol=symbol) for symbol in (A, B)}
    ledger = MemoryLedger()
    limits = replace(NO_LIMITS, max_symbol_exposure=0.5, max_correlation=0.7)
    sizing = SizingSettings("fixed", fixed_notional=3_000, max_notional=3_000)
    says = {bars - 2: "LONG"}
    loop = TradingLoop(
        Script(says), plain_broker(both), ledger, both,
        LoopSettings({symbol: symbol for symbol in both}), limits=limits, sizing=sizing,
    )  # fmt: skip
    x = noise(bars, 10)
    states = [states_of(bars_of(symbol, x)) for symbol in both]
    for pair in zip(*states, strict=True):
        for state in pair:
            loop.absorb(state.bars.bar(-1))
        for state in pair:
            loop.decide(state, [], {}, state.as_of)
    assert [refusal.code for _, refusal in ledger.records(Refusal)] == codes
