"""Crash anywhere between two appends, resume, and nothing shows."""

import pytest

from domain.trading import ClosedTrade, Fill, Posting
from execution import books
from execution.limits import RiskLimits
from execution.rows import in_order
from execution.sizing import SizingSettings
from execution.strategies import EmaCross
from storage.memory import MemoryLedger
from tests.execution_scenes import FIXED, NO_LIMITS, PERP, SPOT, Script, loop_over, states_of, walk

BARS = 220


def scripted():
    says = {}
    for i in range(0, BARS, 7):
        side = "LONG" if (i // 7) % 3 else "SHORT"
        says[i] = (side, None, None)
    frame = walk(BARS)
    for i, (side, _, _) in says.items():
        close, sign = float(frame.close[i]), 1 if side == "LONG" else -1
        says[i] = (side, close * (1 - 0.004 * sign), close * (1 + 0.004 * sign))
    return Script(says)


CASES = {
    "ema_cross": (lambda: EmaCross(5, 9), PERP, NO_LIMITS, FIXED),
    "ema_cross on spot": (lambda: EmaCross(5, 9), SPOT, NO_LIMITS, FIXED),
    "stops and targets": (scripted, PERP, RiskLimits(), SizingSettings()),
    "total stop": (lambda: EmaCross(5, 9), PERP, RiskLimits(total_stop=0.002), FIXED),
}


def run(case, crash):
    make, instrument, limits, sizing = CASES[case]
    ledger = MemoryLedger()

    def fresh():
        loop = loop_over(ledger, make(), instrument, limits=limits, sizing=sizing)
        if crash:
            loop.resume()
        return loop

    loop = fresh()
    equity = []
    for i, state in enumerate(states_of(list(walk(BARS, symbol=instrument.symbol).bars()))):
        loop.absorb(state.bars.bar(-1))
        loop = fresh() if crash else loop
        if i == 150:
            loop.kill("me", "drill", state.as_of - 1)
            loop = fresh() if crash else loop
        if i == 160:
            loop.arm("me", "drill over", state.as_of - 1)
            loop = fresh() if crash else loop
        loop.decide(state, [], {}, state.as_of)
        loop = fresh() if crash else loop
        equity.append((loop.portfolio(state.as_of), tuple(loop.open_orders()), loop.mode))
    return ledger, equity


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_resume_when_after_every_append_then_ledger_and_equity_are_identical(case):
    calm, expected = run(case, crash=False)
    shaken, seen = run(case, crash=True)
    assert len(list(calm.records(Fill))) > 5
    assert list(in_order(shaken)) == list(in_order(calm))
    assert seen == expected


@pytest.mark.parametrize("case", CASES)
def test_books_when_a_run_ends_then_they_balance_and_hold_the_position(case):
    ledger, marks = run(case, crash=False)
    postings = [record for _, record in ledger.records(Posting)]
    assert books.unbalanced(postings) == {}
    portfolio = marks[-1][0]
    sums = books.balances(postings)
    assert sums["cash", "USDT"] == portfolio.cash
    symbol = CASES[case][1].symbol
    signed = sum(fill.qty * fill.side.sign for _, fill in ledger.records(Fill))
    held = portfolio.positions.get(symbol)
    assert signed == (held.qty if held else 0) == sums.get(("position", symbol), 0)


def test_resume_when_the_case_has_brackets_then_every_exit_was_seen():
    ledger, _ = run("stops and targets", crash=False)
    reasons = {trade.reason for _, trade in ledger.records(ClosedTrade)}
    assert {"stop", "target", "horizon", "kill"} <= reasons


def test_resume_when_the_strategy_folds_then_it_sees_every_row_once():
    ledger, _ = run("stops and targets", crash=False)
    strategy = scripted()
    loop_over(ledger, strategy).resume()
    assert strategy.seen == list(in_order(ledger))
    assert strategy.learned == [trade for _, trade in ledger.records(ClosedTrade)]
    late = scripted()
    loop_over(ledger, late).resume(strategy_after=100)
    assert late.seen == [row for row in in_order(ledger) if row[0] > 100]
