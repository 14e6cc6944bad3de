"""Metrics against numbers worked out by hand."""

import json
from decimal import Decimal

import numpy as np
import pytest
from skfolio.measures import deflated_sharpe_ratio

from domain.canonical import canonical_json
from domain.times import DAY_MS
from domain.trading import ZERO, ClosedTrade, Position
from sim.breakdowns import breakdown
from sim.intervals import deflated_sharpe, intervals
from sim.measures import MEASURES, observations
from sim.metrics import (
    Run,
    daily_returns,
    drawdown_spells,
    max_drawdown,
    measure,
    sharpe,
    sortino,
)
from sim.trade_metrics import grouped, kelly, profit_factor, sqn
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
    price = np.linspace(100.0, 110.0, len(equity))
    return Run(START, at, equity, price, initial, (), list(trades), list(still_open))


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
    for name in ("sharpe", "sharpe_252", "sortino", "calmar", "cagr", "return_ann", "volatility"):
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
    assert metrics["best_trade_pct"] is metrics["sqn"] is metrics["kelly"] is None
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
    assert sum(row["trades"] for row in rows) == len(run.trades)
    assert sum(row["pnl"] for row in rows) == pytest.approx(7.0)
    assert rows[0]["win_rate"] == pytest.approx(0.6)
    assert rows[2]["win_rate"] is None


def test_drawdown_spells_when_worked_by_hand_then_each_lasts_from_peak_to_recovery():
    depth, length = drawdown_spells(np.array([100, 120, 90, 108, 120, 130, 117, 104.0]))
    np.testing.assert_allclose(depth, [0.25, 0.2])
    np.testing.assert_allclose(length, [3, 2])  # the second never recovers: to the end
    assert all(len(part) == 0 for part in drawdown_spells(np.array([1.0, 2.0])))


def test_measure_when_it_falls_then_drawdowns_are_counted_on_days_and_deepest_on_bars():
    metrics = measure(run_of([100, 90, 95, 101, 99, 102, 80], DAY_MS))
    assert metrics["equity_peak"] == 102
    assert metrics["max_drawdown"] == pytest.approx(22 / 102)
    assert metrics["drawdowns"] == 3
    assert metrics["max_drawdown_days"] == 3
    assert metrics["avg_drawdown_days"] == pytest.approx((3 + 2 + 1) / 3)
    assert metrics["duration_days"] == 7


def test_measure_when_annualised_then_sharpe_is_the_ratio_of_return_and_volatility():
    metrics = measure(year())
    assert metrics["sharpe"] == pytest.approx(metrics["return_ann"] / metrics["volatility"])
    assert metrics["sharpe_252"] == pytest.approx(metrics["sharpe"] * np.sqrt(252 / 365))


def test_trades_when_worked_by_hand_then_sqn_and_kelly_are_theirs():
    pnl = np.array([3.0, -1.0, 2.0, -2.0, 5.0])
    assert sqn(pnl) == pytest.approx(np.sqrt(5) * pnl.mean() / pnl.std(ddof=1))
    assert kelly(pnl) == pytest.approx(0.6 - 0.4 / ((10 / 3) / 1.5))
    assert kelly(np.array([1.0, 2.0])) is None
    assert sqn(np.array([1.0])) is sqn(np.array([1.0, 1.0])) is None


def test_measure_when_there_are_trades_then_the_best_and_worst_are_of_their_size():
    metrics = measure(run_of(np.full(48, 100.0), trades=[trade(3, 0, 6), trade(-1, 12, 36)]))
    assert (metrics["best_trade_pct"], metrics["worst_trade_pct"]) == (3.0, -1.0)
    assert metrics["avg_trade_pct"] == 1.0
    assert (metrics["max_trade_hours"], metrics["avg_trade_hours"]) == (24.0, 15.0)


def test_grouped_when_trades_share_a_label_then_each_group_is_summed():
    rows = grouped([trade(3), trade(-1), trade(5)], lambda t: "won" if t.pnl > 0 else "lost")
    assert [(row["name"], row["trades"], row["pnl"]) for row in rows] == [
        ("won", 2, 8.0), ("lost", 1, -1.0),
    ]  # fmt: skip
    assert rows[0]["win_rate"] == 1.0


def test_measures_when_a_run_is_measured_then_every_metric_has_its_words_and_its_n():
    run = year()
    metrics = measure(run)
    assert set(MEASURES) == set(metrics)
    n = observations(run, metrics["drawdowns"])
    assert set(n) == set(metrics)
    assert (n["sharpe"], n["win_rate"]) == (60, 5)
    assert n["avg_drawdown"] == metrics["drawdowns"] > 0
    assert MEASURES["max_drawdown"].write(0.1234) == "12.34 %"
    assert MEASURES["return_pct"].write(-1.5) == "−1.50 %"
    assert MEASURES["sharpe"].write(None) == "–"
