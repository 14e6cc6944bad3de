"""Limits and sizes."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.decision import Reason
from domain.errors import SettingError
from domain.market import BookSnapshot
from domain.times import DAY_MS
from domain.trading import EquityMark, ModeChange, Portfolio, Position, RiskMode
from execution.exits import Meaning, horizon_over, meaning
from execution.limits import RiskLimits, failed
from execution.risk import RiskState
from execution.sizing import SizingSettings, size
from tests.execution_scenes import PERP, START

PRICE = Decimal(50_000)


def marked(state, at, equity):
    amount = Decimal(equity)
    state.fold(EquityMark("paper", at, amount, amount, amount))


def portfolio(equity=10_000, positions=()):
    amount = Decimal(equity)
    held = {p.symbol: p for p in positions}
    marks = {p.symbol: p.entry_price for p in positions}
    return Portfolio("paper", "USDT", START, amount, amount, amount, held, marks)


def position(qty, symbol=PERP.symbol):
    return Position("paper", symbol, Decimal(qty), PRICE, START, "d", START + 1_500_000)


def names(checks):
    return [check.name for check in failed(checks)]


def test_daily_loss_when_beyond_the_limit_then_entries_stop_until_the_next_utc_day():
    state = RiskState(RiskLimits(), "paper")
    marked(state, START, 10_000)  # midnight: closes the old day, opens the new one
    marked(state, START + 1000, 9_700)
    assert names(state.state_checks()) == []  # 3 % exactly
    marked(state, START + 2000, 9_699)
    assert names(state.state_checks()) == ["daily_loss"]
    marked(state, START + 3000, 9_990)  # recovered, still the same day
    assert names(state.state_checks()) == ["daily_loss"]
    marked(state, START + DAY_MS, 9_990)
    assert names(state.state_checks()) == []


def test_daily_loss_when_bars_are_missing_at_midnight_then_the_day_starts_at_the_last_mark():
    state = RiskState(RiskLimits(), "paper")
    marked(state, START + 1000, 10_000)
    marked(state, START + DAY_MS + 5000, 9_600)
    assert names(state.state_checks()) == ["daily_loss"]


def test_total_stop_when_hit_then_it_halts_and_arming_starts_the_mark_anew():
    state = RiskState(RiskLimits(daily_loss=None), "paper")
    marked(state, START, 10_000)
    marked(state, START + 1, 9_200)
    assert state.must_halt
    state.fold(ModeChange("paper", START + 1, RiskMode.HALTED, "risk", "stop"))
    assert not state.must_halt
    assert {check.code for check in failed(state.state_checks())} == {Reason.BREAKER}
    state.fold(ModeChange("paper", START + 2, RiskMode.ACTIVE, "me", "seen"))
    assert failed(state.state_checks()) == []
    marked(state, START + 3, 9_100)
    assert not state.must_halt


@pytest.mark.parametrize(
    ("equity", "factor", "cap"),
    [
        (9_501, 1.0, None), (9_500, 0.75, 0.005), (9_401, 0.75, 0.005), (9_400, 0.5, 0.005),
        (9_300, 0.25, 0.005), (9_201, 0.25, 0.005), (9_200, 0.0, 0.005), (8_000, 0.0, 0.005),
    ],
)  # fmt: skip
def test_drawdown_when_each_percent_is_reached_then_a_quarter_of_the_size_goes(equity, factor, cap):
    state = RiskState(RiskLimits(daily_loss=None, total_stop=None), "paper")
    marked(state, START, 10_000)
    marked(state, START + 1, equity)
    assert (state.size_factor, state.risk_cap) == (factor, cap)
    assert names(state.state_checks()) == (["drawdown"] if factor == 0 else [])
    check = next(c for c in state.state_checks() if c.name == "drawdown")
    assert (check.value, check.limit) == (state.fall, 0.08)
    assert check.margin == pytest.approx(0.08 - state.fall, abs=1e-11)


def test_drawdown_when_equity_comes_back_then_risk_stays_capped_until_a_new_high():
    state = RiskState(RiskLimits(daily_loss=None), "paper")
    for at, equity in enumerate((10_000, 9_500, 9_990, 10_000)):
        marked(state, START + at, equity)
    assert (state.size_factor, state.risk_cap) == (1.0, 0.005)
    marked(state, START + 10, 10_001)
    assert state.risk_cap is None


def test_drawdown_when_the_account_is_armed_then_sizes_are_whole_and_risk_stays_capped():
    state = RiskState(RiskLimits(daily_loss=None), "paper")
    marked(state, START, 10_000)
    marked(state, START + 1, 9_200)
    state.fold(ModeChange("paper", START + 1, RiskMode.HALTED, "risk", "stop"))
    state.fold(ModeChange("paper", START + 2, RiskMode.ACTIVE, "me", "seen"))
    marked(state, START + 3, 9_300)
    assert (state.size_factor, state.risk_cap) == (1.0, 0.005)
    marked(state, START + 4, 10_001)
    assert state.risk_cap is None


def test_drawdown_when_switched_off_then_sizes_stay_whole():
    state = RiskState(RiskLimits(drawdown_start=None), "paper")
    marked(state, START, 10_000)
    marked(state, START + 1, 9_000)
    assert (state.size_factor, state.risk_cap) == (1.0, None)
    assert "drawdown" not in [check.name for check in state.state_checks()]


def test_risk_state_when_rows_are_another_accounts_then_they_pass():
    state = RiskState(RiskLimits(), "paper")
    state.fold(ModeChange("live", START, RiskMode.KILLED, "me", "x"))
    assert state.mode is RiskMode.ACTIVE


def test_entry_checks_when_exposure_is_used_up_then_they_say_value_limit_and_margin():
    state = RiskState(RiskLimits(), "paper")
    checks = {
        c.name: c
        for c in state.entry_checks(
            portfolio(positions=[position("0.1", "ETH/USDT:USDT")]),
            PERP.symbol,
            Decimal(5_001),
            1.0,
        )
    }
    assert checks["symbol_exposure"].margin == pytest.approx(-0.0001)
    assert checks["total_exposure"].value == pytest.approx(1.0001)
    assert not checks["total_exposure"].passed
    assert checks["liquidity"].value == "not_measured"
    assert checks["liquidity"].passed


def test_entry_checks_when_the_book_is_wide_and_thin_then_both_stop_the_entry():
    state = RiskState(RiskLimits(), "paper")
    book = BookSnapshot(PERP.symbol, START, ((49_900.0, 0.1),), ((50_000.0, 0.1),))
    checks = state.entry_checks(portfolio(), PERP.symbol, Decimal(500), 1.0, book)
    assert [c.code for c in failed(checks)] == [Reason.WIDE_SPREAD, Reason.THIN_BOOK]


def test_entry_checks_when_a_side_of_the_book_is_empty_then_the_spread_is_the_modelled_one():
    state = RiskState(RiskLimits(), "paper")
    book = BookSnapshot(PERP.symbol, START, ((49_900.0, 100.0),), ())
    checks = {
        check.name: check.value
        for check in state.entry_checks(portfolio(), PERP.symbol, Decimal(500), 1.0, book)
    }
    assert checks["spread_bps"] == 1.0
    assert checks["liquidity"] == 49_900.0 * 100


def test_entry_checks_when_equity_is_gone_then_nothing_is_entered():
    state = RiskState(RiskLimits(), "paper")
    assert names(state.entry_checks(portfolio(0), PERP.symbol, Decimal(500), 1.0)) == ["equity"]


@pytest.mark.parametrize(
    ("stop", "notional"),
    [
        ("47500", "500"),  # 25 USDT at risk over 5 %
        ("49750", "1000"),  # 5 000 wanted, clipped
        (None, "1000"),  # 1 % assumed: 2 500 wanted, clipped
    ],
)
def test_size_when_by_risk_then_the_stop_sets_the_notional(stop, notional):
    sized = size(
        SizingSettings(), Decimal(10_000), PRICE, None if stop is None else Decimal(stop), PERP
    )
    assert sized.notional == Decimal(notional)
    assert sized.reason is None


def test_size_when_below_the_venue_minimum_then_it_is_refused_with_the_amount():
    sized = size(SizingSettings(), Decimal(1_000), PRICE, Decimal(45_000), PERP)
    assert (sized.qty, sized.reason) == (0, Reason.BELOW_MIN_NOTIONAL)
    assert (sized.notional, sized.floor) == (0, 100)  # 25 USDT is less than one step


def test_size_when_fixed_then_it_is_rounded_down_to_the_step():
    fixed = SizingSettings(mode="fixed", fixed_notional=500)
    sized = size(fixed, Decimal(10_000), Decimal(90_000), None, PERP)
    assert sized.qty == Decimal("0.005")
    assert size(fixed, Decimal(10_000), Decimal(90_000), None, PERP, 0.5).qty == Decimal("0.002")


@pytest.mark.parametrize(
    ("price", "factor", "most", "qty"),
    [
        ("93333.3", 1.0, 1_000_000, "1"),  # a whole coin, though no notional names it exactly
        ("90000", 0.5, 1_000_000, "0.5"),
        ("90000", 1.0, 1_000, "0.011"),  # clipped at the largest order
    ],
)
def test_size_when_by_quantity_then_it_is_that_quantity(price, factor, most, qty):
    one = SizingSettings(mode="quantity", fixed_quantity=1.0, max_notional=most)
    sized = size(one, Decimal(1_000_000), Decimal(price), None, PERP, factor)
    assert sized.qty == Decimal(qty)
    assert sized.notional == Decimal(qty) * Decimal(price)


@pytest.mark.parametrize("mode", ["risk", "fixed", "quantity"])
def test_size_when_risk_is_capped_then_no_mode_loses_more_at_the_stop(mode):
    large = SizingSettings(
        mode, risk_fraction=0.015, fixed_notional=5_000, fixed_quantity=0.1, max_notional=10_000
    )
    stop = Decimal(48_500)  # 3 % away
    free = size(large, Decimal(10_000), PRICE, stop, PERP)
    capped = size(large, Decimal(10_000), PRICE, stop, PERP, 1.0, 0.005)
    assert free.qty == Decimal("0.1")
    assert capped.qty == Decimal("0.033")  # 50 USDT at risk; one step more would be 51
    half = size(large, Decimal(10_000), PRICE, stop, PERP, 0.5, 0.005)
    assert half.qty == Decimal("0.033")  # a share of what is wanted, below the cap's


@given(
    st.floats(0.001, 0.015), st.floats(0.0, 1.0), st.floats(0.0005, 0.015),
    st.integers(40_000, 49_999),
)  # fmt: skip
def test_size_when_any_cap_is_given_then_the_loss_at_the_stop_keeps_it(risk, factor, cap, stop):
    sizing = SizingSettings(risk_fraction=risk, max_notional=1_000_000)
    sized = size(sizing, Decimal(10_000), PRICE, Decimal(stop), PERP, factor, cap)
    assert sized.qty * (PRICE - stop) <= Decimal(repr(cap)) * 10_000


def test_sizing_settings_when_the_bounds_cross_then_they_are_refused():
    with pytest.raises(SettingError, match="max_notional"):
        SizingSettings(min_notional=100, max_notional=50)


@pytest.mark.parametrize(
    ("side", "qty", "market", "expected"),
    [
        (0, "1", "perp", Meaning.NOTHING),
        (1, None, "perp", Meaning.ENTER),
        (-1, None, "perp", Meaning.ENTER),
        (1, "1", "perp", Meaning.HOLD),
        (-1, "-1", "perp", Meaning.HOLD),
        (-1, "1", "perp", Meaning.REVERSE),
        (1, "-1", "perp", Meaning.REVERSE),
        (-1, None, "spot", Meaning.IMPOSSIBLE),
        (-1, "1", "spot", Meaning.CLOSE),
        (1, "1", "spot", Meaning.HOLD),
    ],
)
def test_meaning_when_a_side_meets_a_position_then_it_is_one_of_the_table(
    side, qty, market, expected
):
    held = None if qty is None else position(qty)
    assert meaning(side, held, market) is expected


def test_horizon_when_due_then_it_is_over_at_that_instant():
    held = position("1")
    assert not horizon_over(held, held.horizon_due - 1)
    assert horizon_over(held, held.horizon_due)
    assert not horizon_over(replace(held, horizon_due=0), START * 2)
    assert not horizon_over(None, START)
