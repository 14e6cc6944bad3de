"""The targets of the requirement documents: what is claimed, and what is not."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from domain.trading import ZERO, ClosedTrade, Fill, Side
from sim.measures import observations
from sim.metrics import Run, measure
from sim.targets import ELSEWHERE, MEASURED, Value, extremes, success
from tests.execution_scenes import START, STEP

NOTHING = {name: Value(None, 0) for name in ("weakest_prob", "weakest_return", "largest_risk")}
DAY = 288 * STEP


def trade(k, pnl, qty="0.005"):
    at = START + k * STEP
    return ClosedTrade(
        "BTC/USDT:USDT", "LONG", Decimal(qty), at, at + STEP, Decimal(100_000), Decimal(100_100),
        ZERO, ZERO, ZERO, ZERO, Decimal(pnl), "horizon",
    )  # fmt: skip


def fill(k, spread="0.025"):
    return Fill(
        f"f{k}", f"o{k}", "paper", "BTC/USDT:USDT", Side.BUY, Decimal("0.005"), Decimal(100_000),
        START + k * STEP, ZERO, Decimal(spread), ZERO, Decimal(100_000), False, "entry",
    )  # fmt: skip


def run_of(trades, equity=None, days=60, fills=None):
    n = days
    equity = np.full(n, 10_000.0) if equity is None else np.asarray(equity, dtype=float)
    at = START + DAY * np.arange(1, n + 1, dtype=np.int64)
    bought = [fill(k) for k, _ in enumerate(trades)] if fills is None else fills
    return Run(START, at, equity, np.full(n, 100_000.0), 10_000.0, bought, trades, ())


def told(run, found=NOTHING, intervals=None):
    metrics = measure(run)
    n = observations(run, metrics["drawdowns"])
    rows = success(metrics, n, {**extremes(run), **found}, intervals or {})
    return {row["target"]: row for row in rows}


def of(rows, start):
    return next(row for name, row in rows.items() if name.startswith(start))


def test_success_when_told_then_every_target_has_the_same_fields_and_a_reason():
    rows = told(run_of([trade(k, 1) for k in range(5)]))
    assert len(rows) == len(MEASURED) + len(ELSEWHERE)
    fields = {"target", "source", "metric", "threshold", "value", "n", "n_required", "met", "why"}
    for row in rows.values():
        assert set(row) == fields
        assert row["why"]
        assert row["source"].endswith(".md")


@pytest.mark.parametrize(("count", "met"), [(49, None), (50, True)])
def test_success_when_there_are_fewer_trades_than_asked_for_then_a_win_rate_is_not_claimed(
    count, met
):
    row = of(told(run_of([trade(k, 1) for k in range(count)])), "Win rate above")
    assert row["met"] is met
    assert (row["value"], row["n"], row["n_required"]) == (1.0, count, 50)
    assert ("and 50 are needed" in row["why"]) is (met is None)


def test_success_when_a_win_rate_is_exactly_the_limit_then_above_is_not_met():
    trades = [trade(k, 1 if k % 5 < 3 else -1) for k in range(100)]
    rows = told(run_of(trades))
    assert of(rows, "Win rate above 60")["value"] == 0.6
    assert of(rows, "Win rate above 60")["met"] is False


@pytest.mark.parametrize(("days", "met"), [(29, None), (60, True)])
def test_success_when_a_run_is_short_then_no_sharpe_is_claimed(days, met):
    returns = np.random.default_rng(2).normal(0.004, 0.01, days)
    row = of(told(run_of([trade(0, 1)], 10_000 * np.cumprod(1 + returns), days)), "Sharpe ratio ab")
    assert row["met"] is met
    assert row["threshold"] == 1.0
    assert row["metric"] == "sharpe_252"


def test_success_when_an_interval_holds_the_threshold_then_it_may_be_luck():
    trades = [trade(k, 1 if k % 3 else -1) for k in range(60)]
    wide, narrow = (
        of(told(run_of(trades), intervals={"win_rate": ends}), "Win rate above")
        for ends in ([0.5, 0.8], [0.62, 0.7])
    )
    assert wide["met"] is narrow["met"] is True
    assert "50.0 % to 80.0 %, so it may be luck" in wide["why"]
    assert "luck" not in narrow["why"]


def test_success_when_equity_falls_too_far_then_the_stop_was_missed_by_what_it_says():
    row = of(told(run_of([trade(0, 1)], np.linspace(10_000, 9_100, 60))), "Drawdown at most 8 %")
    assert row["met"] is False
    assert row["value"] == pytest.approx(0.09)
    assert "9.00 % is not ≤ 8.00 %" in row["why"]


def test_success_when_nothing_was_traded_then_nothing_is_claimed():
    rows = told(run_of([], fills=[]))
    assert all(row["met"] is None for row in rows.values())
    assert of(rows, "Drawdown at most")["why"] == "not measured: nothing was traded"


def test_success_when_a_backtest_cannot_tell_then_it_says_who_can():
    rows = told(run_of([trade(k, 1) for k in range(60)]))
    for target in ELSEWHERE:
        assert rows[target.told]["met"] is rows[target.told]["value"] is None
        assert "measured by" in rows[target.told]["why"]


def test_extremes_when_worked_by_hand_then_they_are_the_runs_own():
    trades = [trade(1, -200), trade(2, 50, "0.0101"), trade(3, -20)]
    found = extremes(run_of(trades, fills=[fill(1), fill(2, "0.05"), replace(fill(2), id="x")]))
    assert found["worst_loss"] == Value(0.02, 3)
    assert found["largest_order"].value == pytest.approx(1_010.0)
    assert found["smallest_order"].value == pytest.approx(500.0)
    assert found["entry_spread_bps"].value == pytest.approx(2.0)
    assert found["orders_filled"] == Value(2, 2)
    rows = told(run_of(trades))
    assert of(rows, "Orders of at most")["met"] is False
    assert of(rows, "At most 1.5 %")["met"] is False


def test_success_when_decisions_give_probabilities_then_the_weakest_is_judged():
    found = {**NOTHING, "weakest_prob": Value(0.55, 20), "largest_risk": Value(0.3, 20)}
    rows = told(run_of([trade(0, 1)]), found)
    assert of(rows, "Trade only at a probability")["met"] is False
    assert of(rows, "Trade only at a risk score")["met"] is True
    assert of(rows, "Trade only for an expected")["met"] is None
