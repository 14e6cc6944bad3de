"""Every assertion both ways, on figures worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from domain.trading import Fill, Side
from sim.assertions import (
    adherence,
    coverage_80,
    data_age,
    drawdown,
    reconciliation,
    sharpe_gap,
    slippage_gap,
    wilson,
    win_rate_drift,
)
from sim.drift import Coverage

FILL = Fill(
    "f", "o", "paper", "BTC/USDT:USDT", Side.BUY, Decimal("0.01"), Decimal("50010"), 0,
    Decimal("0.25"), Decimal("0.025"), Decimal("0.075"), Decimal(50_000), False, "entry",
)  # fmt: skip


def test_sharpe_gap_when_the_days_are_the_same_then_it_is_zero() -> None:
    days = np.array([0.01, -0.01, 0.02] * 10)
    found = sharpe_gap(days, days.copy(), 0.5)
    assert (found.value, found.passed, found.n) == (0.0, True, 30)


def test_sharpe_gap_when_the_backtest_earned_more_then_it_fails_with_both_ratios() -> None:
    paper = np.tile([0.01, -0.01], 15)  # mean 0
    backtest = np.tile([0.02, 0.0], 15)  # mean .01, the same spread around it
    deviation = 0.01 * math.sqrt(30 / 29)
    found = sharpe_gap(paper, backtest, 0.5)
    assert found.passed is False
    assert found.value == pytest.approx(0.01 / deviation * math.sqrt(365))
    assert found.evidence == {"paper": pytest.approx(0.0), "backtest": pytest.approx(found.value)}


@pytest.mark.parametrize(
    ("paper", "backtest", "why"),
    [
        (np.full(29, 0.01), np.full(29, 0.01), "29 of 30"),
        (np.full(30, 0.01), np.full(29, 0.01), "30 days of paper, 29"),
        (np.zeros(30), np.zeros(30), "never moved"),
    ],
)
def test_sharpe_gap_when_it_cannot_be_told_then_it_says_why(
    paper: np.ndarray, backtest: np.ndarray, why: str
) -> None:
    found = sharpe_gap(paper, backtest, 0.5)
    assert (found.passed, found.value) == (None, None)
    assert why in found.why


def test_slippage_gap_when_fills_cost_as_modelled_then_it_passes() -> None:
    # 0.1 USDT on a notional of 500 is 2 bp; 1.5 are modelled
    found = slippage_gap([FILL] * 20, 1.5, 1.0)
    assert found.passed is True
    assert found.value == pytest.approx(0.5)
    assert found.evidence["realised_bps"] == pytest.approx(2.0)


def test_slippage_gap_when_some_fills_cost_more_then_the_notional_weighs() -> None:
    dear = replace(FILL, qty=Decimal("0.03"), slippage=Decimal("1.475"))  # 1.5 on 1 500: 10 bp
    found = slippage_gap([FILL] * 20 + [dear] * 20, 1.5, 2.0)
    # (20 · 0.1 + 20 · 1.5) / (20 · 500 + 20 · 1 500) = 32 / 40 000
    assert found.value == pytest.approx(8.0 - 1.5)
    assert found.passed is False


def test_slippage_gap_when_makers_and_liquidations_are_among_them_then_they_do_not_count() -> None:
    maker, taken = replace(FILL, maker=True), replace(FILL, intent="liquidation")
    found = slippage_gap([FILL] * 19 + [maker, taken], 1.5, 2.0)
    assert (found.passed, found.n) == (None, 19)


def test_wilson_when_compared_with_the_textbook_then_it_agrees() -> None:
    low, high = wilson(81, 263, 0.05)  # Newcombe (1998): .2553 to .3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_win_rate_drift_when_half_are_won_before_and_after_then_it_passes() -> None:
    found = win_rate_drift([1.0, -1.0] * 50, 0.01)
    assert (found.value, found.passed, found.n) == (0.0, True, 100)


def test_win_rate_drift_when_compared_with_the_textbook_then_the_interval_is_newcombes() -> None:
    # Newcombe (1998) method 10 of 56/70 against 48/80: .0524 to .3339 around .2. Here 50 trades
    # are the last: 40/50 against 48/80 by the same formula.
    pnl = [1.0] * 48 + [-1.0] * 32 + [1.0] * 40 + [-1.0] * 10
    found = win_rate_drift(pnl, 0.05)
    (l1, _), (_, u2) = wilson(40, 50, 0.05), wilson(48, 80, 0.05)
    assert found.limit == pytest.approx(math.hypot(0.8 - l1, u2 - 0.6))
    assert found.value == pytest.approx(0.2)
    assert found.passed is (found.limit >= 0.2)
    (l1, _), (_, u2) = wilson(56, 70, 0.05), wilson(48, 80, 0.05)
    assert round(0.2 - math.hypot(0.8 - l1, u2 - 0.6), 4) == 0.0524


def test_win_rate_drift_when_the_last_trades_hardly_win_then_it_fails() -> None:
    found = win_rate_drift([1.0, -1.0] * 50 + [-1.0] * 45 + [1.0] * 5, 0.01)
    assert found.passed is False
    assert (found.evidence["last"], found.evidence["before"]) == (0.1, 0.5)


def test_win_rate_drift_when_luck_explains_it_then_it_passes() -> None:
    found = win_rate_drift([1.0, -1.0] * 50 + [1.0] * 20 + [-1.0] * 30, 0.01)
    assert found.passed is True
    assert found.value == pytest.approx(0.1)


def test_win_rate_drift_when_there_are_few_trades_then_it_is_not_measured() -> None:
    assert win_rate_drift([1.0] * 99, 0.01).passed is None


def test_reconciliation_when_all_agrees_then_it_passes() -> None:
    found = reconciliation({}, {}, 7)
    assert (found.value, found.limit, found.passed, found.n) == (0.0, 0.0, True, 7)


def test_reconciliation_when_something_differs_then_each_difference_counts() -> None:
    found = reconciliation(
        {"BTC/USDT:USDT": {"ledger": "0.01", "broker": "0"}}, {"USDT": "0.01"}, 7
    )
    assert (found.value, found.passed) == (2.0, False)
    assert "BTC/USDT:USDT" in found.why
    assert "USDT sum to 0.01" in found.why


def test_coverage_when_one_symbol_is_off_then_the_worst_counts() -> None:
    good = Coverage(0, 0.79, 0.01, 0.035, False)
    bad = Coverage(0, 0.70, 0.01, 0.035, True)
    assert coverage_80({"A": good}, 30).passed is True
    found = coverage_80({"A": good, "B": bad}, 30)
    assert (found.passed, found.value, found.limit) == (False, pytest.approx(0.1), 0.035)
    assert "B covered 70.0%" in found.why
    assert coverage_80({}, 19).passed is None


def test_data_age_when_a_symbol_lags_then_it_counts_in_bars() -> None:
    assert data_age({"A": 300_000, "B": 0}, 300_000, 3).passed is True
    found = data_age({"A": 1_200_000, "B": 0}, 300_000, 3)
    assert (found.value, found.passed) == (4.0, False)
    assert found.why == "the newest bar of A closed 4.0 bars ago"
    assert data_age({}, 300_000, 3).passed is None


def test_adherence_when_people_wrote_then_their_share_counts() -> None:
    assert adherence([True] * 9 + [False], 0.9).passed is True
    found = adherence([True] * 8 + [False] * 2, 0.9)
    assert (found.value, found.passed, found.rule) == (0.8, False, "at least")
    assert adherence([], 0.9).passed is None


def test_drawdown_when_equity_fell_then_the_deepest_counts() -> None:
    equity, peak = np.array([100.0, 95.0, 91.0, 99.0]), np.full(4, 100.0)
    found = drawdown(equity, peak, 0.08)
    assert (found.value, found.passed) == (pytest.approx(0.09), False)
    assert found.evidence["now"] == pytest.approx(0.01)
    assert drawdown(equity[:2], peak[:2], 0.08).passed is True
    assert drawdown(equity[:0], peak[:0], 0.08).passed is None
