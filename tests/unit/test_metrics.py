"""Metrics against numbers worked out by hand."""

import json
from decimal import Decimal

import numpy as np
import pytest
from skfolio.measures import deflated_sharpe_ratio

from domain.canonical import canonical_json
from domain.times import DAY_MS
from domain.trading import ZERO, ClosedTrade, Position
from sim.metrics import (
    Run,
    breakdown,
    daily_returns,
    deflated_sharpe,
    intervals,
    max_drawdown,
    measure,
    profit_factor,
    sharpe,
    sortino,
)
from tests.execution_scenes import START

HOUR = 3_600_000


def trade(pnl, opened=0, closed=1):
    return ClosedTrade(
        "BTC/USDT", "LONG", Decimal(1), START + opened * HOUR, START + closed * HOUR, Decimal(100),
        Decimal(100), ZERO, ZERO, ZERO, ZERO, Decimal(pnl), "horizon",
    )  # fmt: skip


def run_of(equity, step=HOUR, trades=(), still_open=(), initial=100.0):
    equity = np.array(equity, dtype=float)
    at = START + step * np.arange(1, len(equity) + 1, dtype=np.int64)
    return Run(START, at, equity, initial, (), list(trades), list(still_open), 100.0, 110.0)


def year(n_days=60, seed=1):
    returns = np.random.default_rng(seed).normal(0.001, 0.01, n_days)
    return run_of(100 * np.cumprod(1 + returns), DAY_MS, [trade(x) for x in (3, -1, 2, -2, 5)])


def test_daily_returns_when_a_mark_is_at_midnight_then_it_closes_the_day_before():
    hours = [100.0 + i for i in range(1, 49)]  # 01:00 … 00:00 two days later
    np.testing.assert_allclose(daily_returns(run_of(hours)), [124 / 100 - 1, 148 / 124 - 1])


def test_daily_returns_when_a_day_has_no_mark_then_it_returns_nothing():
    run = run_of([110.0, 121.0], 3 * DAY_MS)
    np.testing.assert_allclose(daily_returns(run), [0.1, 0, 0, 0.1])


def test_sharpe_when_worked_by_hand_then_it_is_mean_over_ddof_1_deviation():
    daily = np.array([0.01, -0.01, 0.03])
    assert sharpe(daily) == pytest.approx(0.01 / 0.02 * np.sqrt(365))
    assert sortino(daily) == pytest.approx(0.01 / (0.01 / np.sqrt(3)) * np.sqrt(365))
    assert np.isnan(sharpe(np.zeros(5)))


def test_max_drawdown_when_worked_by_hand_then_it_is_the_deepest_fall_from_a_peak():
    assert max_drawdown(np.array([100, 120, 90, 130, 117.0])) == pytest.approx(0.25)


def test_profit_factor_when_nothing_was_lost_then_it_is_not_a_number():
    assert profit_factor(np.array([3.0, -1.0, 2.0, -1.5])) == pytest.approx(2.0)
    assert np.isnan(profit_factor(np.array([1.0])))


def test_measure_when_shorter_than_thirty_days_then_nothing_annualised_is_given():
    metrics = measure(run_of(100 + np.arange(29.0), DAY_MS))
    for name in ("sharpe", "sortino", "calmar", "cagr", "volatility"):
        assert metrics[name] is None
    assert metrics["return_pct"] == pytest.approx(28.0)
    assert intervals(run_of(100 + np.arange(29.0), DAY_MS), np.random.default_rng(0)) == {}


def test_measure_when_thirty_days_then_growth_is_annualised_on_365_days():
    metrics = measure(run_of(100 * 1.01 ** np.arange(1, 74), DAY_MS))
    assert metrics["cagr"] == pytest.approx(1.01**365 - 1)
    assert metrics["max_drawdown"] == 0
    assert metrics["calmar"] is None
    assert metrics["sharpe"] is None  # no variation


def test_measure_when_there_are_trades_then_money_and_time_are_theirs():
    trades = [trade(3, 0, 6), trade(-1, 12, 18)]
    held = Position("paper", "BTC/USDT", Decimal(1), Decimal(1), START + 42 * HOUR, "d", 0)
    metrics = measure(run_of(np.full(48, 100.0), trades=trades, still_open=[held]))
    assert metrics["win_rate"] == 0.5
    assert metrics["expectancy"] == 1.0
    assert metrics["profit_factor"] == 3.0
    assert metrics["exposure"] == pytest.approx(18 / 48)
    assert metrics["buy_hold_return_pct"] == pytest.approx(10.0)


def test_measure_when_there_are_no_trades_then_their_metrics_are_null_and_json_holds():
    metrics = measure(run_of([100.0] * 40, DAY_MS))
    assert metrics["win_rate"] is metrics["expectancy"] is metrics["profit_factor"] is None
    assert json.loads(canonical_json(metrics))["trades"] == 0


def test_deflated_sharpe_when_long_enough_then_it_is_skfolios_and_falls_with_the_trials():
    run = year()
    known = [4.0, -6.0, 0.5, 3.0, 2.0, -1.0]
    daily = np.array(known) / np.sqrt(365)
    assert deflated_sharpe(run, 6, known) == pytest.approx(
        deflated_sharpe_ratio(daily_returns(run), daily), abs=1e-9
    )
    assert deflated_sharpe(run, 30) < deflated_sharpe(run, 2) < deflated_sharpe(run, 1)
    assert measure(run)["deflated_sharpe"] is None


def test_deflated_sharpe_when_short_or_still_then_it_is_null():
    assert deflated_sharpe(run_of(100 + np.arange(29.0), DAY_MS), 1) is None
    assert deflated_sharpe(run_of([100.0] * 40, DAY_MS), 1) is None


def test_intervals_when_seeded_then_they_repeat_and_hold_the_estimate():
    run = year()
    found = intervals(run, np.random.default_rng(3))
    assert found == intervals(run, np.random.default_rng(3))
    metrics = measure(run)
    for name in ("return_pct", "sharpe", "volatility", "win_rate", "expectancy"):
        low, high = found[name]
        assert low <= metrics[name] <= high
        assert low < high


def test_intervals_when_the_edge_is_zero_then_sharpe_spans_zero_about_95_times_in_100():
    inside = 0
    for seed in range(40):
        returns = np.random.default_rng(seed).normal(0, 0.01, 120)
        run = run_of(100 * np.cumprod(1 + returns), DAY_MS)
        low, high = intervals(run, np.random.default_rng(seed))["sharpe"]
        inside += low <= 0 <= high
    assert inside >= 34


def test_breakdown_when_by_month_then_returns_chain_to_the_whole():
    run = year()
    rows = breakdown(run, "month")
    assert [row["period"] for row in rows] == ["2025-01", "2025-02", "2025-03"]
    whole = np.prod([1 + row["return_pct"] / 100 for row in rows])
    assert whole == pytest.approx(run.equity[-1] / 100)
    assert len(breakdown(run, "day")) == 60
    assert breakdown(run, "week")[0]["period"] == "2025-W01"
