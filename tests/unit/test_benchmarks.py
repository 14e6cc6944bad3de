"""What a strategy has to beat, held against what must be true of it."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from domain.trading import ZERO, ClosedTrade
from sim.benchmarks import against_random, benchmarks, random_turnover
from sim.metrics import Run
from tests.execution_scenes import START, STEP


def price_of(n=3_000, seed=3, sigma=0.002):
    rng = np.random.default_rng(seed)
    return 100.0 * np.exp(np.cumsum(rng.normal(0.0, sigma, n)))


def trade(price, first, last, side, cost=0.0, notional=500.0):
    sign = 1 if side == "LONG" else -1
    qty = Decimal(notional / price[first])
    entry, left = Decimal(price[first]), Decimal(price[last])
    fee = Decimal(cost)
    return ClosedTrade(
        "BTC/USDT:USDT", side, qty, START + (first + 1) * STEP, START + (last + 1) * STEP,
        entry, left, fee, ZERO, ZERO, ZERO, sign * qty * (left - entry) - fee, "horizon",
    )  # fmt: skip


def run_of(price, trades):
    at = START + STEP * np.arange(1, len(price) + 1, dtype=np.int64)
    return Run(START, at, np.full(len(price), 10_000.0), price, 10_000.0, (), trades, ())


def cut(price, sides, hold=10, cost=0.0):
    """Trades of ``hold`` bars one after another, each on the side that ``sides`` says."""
    starts = range(0, len(price) - hold, hold + 2)
    return [trade(price, k, k + hold, sides(k, k + hold), cost) for k in starts]


def test_random_turnover_when_nothing_costs_then_the_mean_of_many_draws_is_zero():
    price = price_of() * np.exp(np.linspace(0, 1.0, 3_000))  # a strong trend changes nothing
    hold = np.full(100, 12)
    found = random_turnover(
        price, hold, np.full(100, 500.0), np.zeros(100), 2_000, np.random.default_rng(1)
    )
    assert found.shape == (2_000,)
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(2_000)
    assert found.std() > 0


def test_random_turnover_when_trading_costs_then_every_draw_pays_all_of_it():
    arguments = (price_of(), np.full(50, 7), np.full(50, 500.0))
    free, dear = (
        random_turnover(*arguments, np.full(50, cost), 40, np.random.default_rng(2))
        for cost in (0.0, 1.25)
    )
    np.testing.assert_allclose(free - dear, 62.5)


def test_random_turnover_when_one_trade_fills_the_run_then_it_is_the_markets_move_either_way():
    price = price_of(200)
    found = random_turnover(
        price, np.array([199]), np.array([100.0]), np.zeros(1), 64, np.random.default_rng(5)
    )
    move = 100.0 * (price[-1] / price[0] - 1.0)
    assert set(np.round(found, 9)) == {round(move, 9), round(-move, 9)}


def test_random_turnover_when_trades_fill_the_run_then_they_never_overlap():
    price = np.exp(np.arange(101) / 100.0)  # every bar earns the same, so only their number counts
    hold = np.array([10, 20, 30, 40])
    found = random_turnover(price, hold, np.ones(4), np.zeros(4), 500, np.random.default_rng(6))
    each = np.expm1(hold / 100.0)
    signs = 2 * np.array(list(np.ndindex(2, 2, 2, 2))) - 1
    possible = set(np.round(signs @ each, 9))
    assert set(np.round(found, 9)) == possible


def test_against_random_when_the_strategy_knows_the_future_then_it_ranks_at_the_top():
    price = price_of()
    trades = cut(price, lambda a, b: "LONG" if price[b] > price[a] else "SHORT")
    assert against_random(run_of(price, trades))["percentile"] == 1.0
    worst = cut(price, lambda a, b: "SHORT" if price[b] > price[a] else "LONG")
    assert against_random(run_of(price, worst))["percentile"] == 0.0


def test_against_random_when_strategies_are_random_themselves_then_ranks_are_spread_evenly():
    price, rng = price_of(), np.random.default_rng(11)
    ranks = [
        against_random(
            run_of(price, cut(price, lambda a, b: rng.choice(["LONG", "SHORT"]))), draws=100
        )["percentile"]
        for _ in range(60)
    ]
    assert 0.35 < np.mean(ranks) < 0.65
    assert min(ranks) < 0.2 < 0.8 < max(ranks)


def test_against_random_when_seeded_then_it_repeats_and_another_seed_differs():
    price = price_of()
    run = run_of(price, cut(price, lambda a, b: "LONG", cost=0.5))
    assert against_random(run, 4) == against_random(run, 4)
    assert against_random(run, 4)["mean_pct"] != against_random(run, 5)["mean_pct"]
    found = against_random(run, 4)
    assert found["lo_pct"] < found["mean_pct"] < found["hi_pct"]
    assert (found["n"], found["draws"]) == (len(run.trades), 500)


def test_against_random_when_funding_was_paid_then_both_sides_are_told_before_it():
    price = price_of()
    plain = cut(price, lambda a, b: "LONG")
    funded = [replace(t, funding=Decimal(2), pnl=t.pnl - 2) for t in plain]
    a, b = against_random(run_of(price, plain)), against_random(run_of(price, funded))
    assert a["percentile"] == b["percentile"]
    assert a["trades_pct"] == pytest.approx(b["trades_pct"])


def test_against_random_when_nothing_was_traded_then_nothing_is_claimed():
    found = against_random(run_of(price_of(50), []))
    assert found["percentile"] is found["mean_pct"] is None
    assert found["n"] == found["draws"] == 0


def test_benchmarks_when_the_market_is_held_then_return_and_drawdown_are_the_prices_own():
    price = np.array([100.0, 120.0, 90.0, 110.0])
    found = benchmarks(run_of(price, []))["buy_hold"]
    assert found["return_pct"] == pytest.approx(10.0)
    assert found["max_drawdown"] == pytest.approx(0.25)
    assert found["sharpe"] is None  # less than 30 days
