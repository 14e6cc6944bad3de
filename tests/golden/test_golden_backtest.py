"""The exercise profile, pinned to the cent: a change here is a change of what trading means."""

import json
import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from data.files import matching_funding, read_bars, read_funding
from data.instruments import instrument_for
from domain.canonical import canonical_json
from domain.errors import DataRefused
from domain.market import FeatureFrame, MarketState
from domain.times import parse_iso
from domain.trading import ClosedTrade, Fill
from execution.funding import rates_of
from execution.strategies import EmaCross
from sim.backtest import exercise_rules, plain_states, run_backtest, trade_line
from storage.memory import MemoryLedger
from tests.execution_scenes import PERP, SPOT, walk

KEYS = {
    "data", "strategy", "profile", "metrics", "costs", "decisions", "trades", "final_equity",
    "trades_sha256", "intervals", "seconds", "n", "benchmarks", "success",
}  # fmt: skip
METRICS = {
    "equity_final", "return_pct", "cagr", "volatility", "sharpe", "sortino", "calmar",
    "max_drawdown", "profit_factor", "win_rate", "expectancy", "exposure", "turnover", "trades",
    "buy_hold_return_pct", "deflated_sharpe",
    "duration_days", "equity_peak", "return_ann", "sharpe_252", "avg_drawdown",
    "max_drawdown_days", "avg_drawdown_days", "drawdowns", "best_trade_pct", "worst_trade_pct",
    "avg_trade_pct", "max_trade_hours", "avg_trade_hours", "sqn", "kelly",
}  # fmt: skip


@pytest.fixture(scope="module")
def golden():
    ledger = MemoryLedger()
    result = run_backtest(walk(4_000), EmaCross(), PERP, rules=exercise_rules(), ledger=ledger)
    return result, ledger


@pytest.mark.long
def test_backtest_when_exercised_on_seeded_bars_then_money_is_pinned(golden):
    result, _ = golden
    assert len(result.closed) == 179
    assert str(result.final_equity.quantize(Decimal("0.01"))) == "9879.46"
    assert (
        result.trades_sha256 == "d7e4dd228f80e772486d05d6c98a851e40ee2866a6a86fe68e17f5e0c8d3a6ce"
    )


def recursive_ema(closes, span):
    value, out = closes[0], []
    for close in closes:
        value += 2 / (span + 1) * (close - value)
        out.append(value)
    return np.array(out)


def on_tick(price, side):
    return 0.1 * (np.ceil(price / 0.1 - 1e-6) if side > 0 else np.floor(price / 0.1 + 1e-6))


def simple_equity(frame):
    """The same rules once more, as plain arithmetic on floats."""
    side = np.sign(recursive_ema(frame.close, 10) - recursive_ema(frame.close, 20))
    cash, held, entry, trades = 10_000.0, 0.0, 0.0, 0
    for i in range(20, len(frame)):
        opened, want = frame.open[i], side[i - 1]
        if frame.ts[i] % (8 * 3_600_000) == 0:
            cash -= held * opened * 1e-4
        if held * want > 0:
            continue
        lots = np.floor(500 / frame.close[i - 1] / 0.001 + 1e-9)
        reach = (frame.high[i] - frame.low[i]) / opened
        left, entered = (
            opened * (1 + want * (1.5e-4 + 0.5 * reach * np.sqrt(qty / frame.volume[i])))
            for qty in (abs(held), lots * 0.001)
        )
        price = on_tick(left, want)
        cash += held * (price - entry) - abs(held) * price * 5e-4
        trades += held != 0
        held, entry = want * lots * 0.001, on_tick(entered, want)
        cash -= abs(held) * entry * 5e-4
    return cash + held * (frame.close[-1] - entry), trades


def test_backtest_when_worked_out_again_as_plain_arithmetic_then_money_agrees(golden):
    equity, trades = simple_equity(walk(4_000))
    assert trades == len(golden[0].closed)
    assert float(golden[0].final_equity) == pytest.approx(equity, abs=1e-6)


def test_backtest_when_done_then_json_has_every_key_and_no_nan(golden):
    result, _ = golden
    board = result.as_json()
    assert set(board) == KEYS
    assert set(board["metrics"]) == METRICS
    assert set(board["costs"]) == {"fees", "slippage", "spread", "funding", "liquidation"}
    assert set(board["decisions"]) == {"LONG", "SHORT", "NO_TRADE", "reasons"}
    assert sum(board["decisions"][side] for side in ("LONG", "SHORT", "NO_TRADE")) == 4_000
    assert board["decisions"]["reasons"] == {"data_gap": 19}
    assert json.loads(canonical_json(board)) == json.loads(json.dumps(board, allow_nan=False))


def test_backtest_when_done_then_profit_and_costs_explain_the_equity(golden):
    result, ledger = golden
    trades = [trade for _, trade in ledger.records(ClosedTrade)]
    fills = [fill for _, fill in ledger.records(Fill)]
    assert float(sum(fill.fee for fill in fills)) == pytest.approx(result.costs["fees"])
    gross = sum((trade.pnl + trade.fee + trade.funding for trade in trades), Decimal(0))
    without = float(gross) + result.costs["spread"] + result.costs["slippage"]
    paper_gain = sum(
        float(fill.reference * fill.qty) * -fill.side.sign for fill in fills[: 2 * len(trades)]
    )
    assert without == pytest.approx(paper_gain, abs=0.2)  # the open position's entry costs
    assert {trade.reason for trade in trades} == {"opposite"}


def test_trade_line_when_written_then_it_holds_decimals_and_no_ids(golden):
    line = json.loads(trade_line(golden[0].closed[0]))
    assert set(line) == {
        "symbol", "side", "qty", "opened_at", "closed_at", "entry", "exit", "fee", "slippage",
        "spread", "funding", "pnl", "reason",
    }  # fmt: skip
    assert line["opened_at"].endswith("Z")
    assert isinstance(line["pnl"], str)


def test_backtest_when_the_range_is_narrower_then_earlier_bars_are_only_the_past():
    frame = walk(600)
    start, end = int(frame.ts[300]), int(frame.ts[500])
    states = plain_states(frame, 250, start, end)
    result = run_backtest(frame, EmaCross(), PERP, rules=exercise_rules(), states=states)
    assert result.data["bars"] == 200
    assert result.decisions["NO_TRADE"] == 0
    assert result.data["start"] == "2025-01-02T01:00:00Z"


def test_backtest_when_later_bars_change_then_earlier_trades_do_not():
    frame = walk(500)
    other = walk(500)
    for name in ("open", "high", "low", "close"):
        getattr(other, name)[400:] *= 1.1
    before = run_backtest(frame, EmaCross(), PERP, rules=exercise_rules()).closed
    after = run_backtest(other, EmaCross(), PERP, rules=exercise_rules()).closed
    known = [trade for trade in before if trade.closed_at <= int(frame.ts[400]) - 1]
    assert len(known) > 5
    assert list(after[: len(known)]) == known


def test_backtest_when_executed_elsewhere_then_the_other_bars_make_the_prices():
    spot, perp = walk(300, symbol=SPOT.symbol), walk(300)
    for name in ("open", "high", "low", "close"):
        getattr(perp, name)[:] += 100.0
    rules = exercise_rules()
    result = run_backtest(spot, EmaCross(), PERP, rules=rules, exec_frame=perp)
    here = run_backtest(spot, EmaCross(), SPOT, rules=rules)
    assert {trade.side for trade in result.closed} == {"LONG", "SHORT"}
    assert {trade.side for trade in here.closed} == {"LONG"}
    assert "short_not_possible" in here.decisions["reasons"]
    with pytest.raises(DataRefused, match="exec_frame"):
        run_backtest(spot, EmaCross(), PERP, rules=rules)


def test_ema_cross_when_the_state_holds_more_history_then_it_decides_the_same():
    frame = walk(700)
    strategy = EmaCross()
    short, long = (list(plain_states(frame, bars)) for bars in (250, 700))
    for a, b in zip(short, long, strict=True):
        mine = [strategy.generate_signal(strategy.prepare_state(s, [], {}), 0) for s in (a, b)]
        assert mine[0] == mine[1]


def test_ema_cross_when_prices_never_move_then_it_has_no_side():
    frame = walk(40, sigma=0.0)
    as_of = int(frame.ts[-1]) + frame.step_ms
    empty = FeatureFrame((), np.empty((1, 0)), "none")
    state = MarketState(PERP.symbol, "5m", as_of, frame, empty, 40)
    strategy = EmaCross()
    decision = strategy.generate_signal(strategy.prepare_state(state, [], {}), 0)
    assert decision.reasons == ("below_threshold",)


@pytest.mark.slow
def test_backtest_when_exercised_on_2025_then_money_is_pinned():
    samples = os.environ.get("CONCLAVE_SAMPLES")
    if not samples:
        pytest.skip("CONCLAVE_SAMPLES is not set: no folder of sample bars")
    path = Path(samples, "BTCUSDT-binance-perp-5m-20241231-20251231.parquet")
    frame = read_bars(path).between(parse_iso("2025-01-01"), None)
    paid = read_funding(matching_funding(path))
    result = run_backtest(
        frame, EmaCross(), instrument_for(frame.symbol), rules=exercise_rules(),
        funding=rates_of(paid.ts, paid.rate),
    )  # fmt: skip
    assert len(result.closed) == 4_773
    assert str(result.final_equity.quantize(Decimal("0.01"))) == "7122.40"
    assert (
        result.trades_sha256 == "f0292a8340fc50c9bc24ac65b21b7a03052a3f1697b52ede804922fe213bd48b"
    )
