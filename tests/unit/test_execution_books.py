"""Accounts and books agree, whatever is traded."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import LedgerError
from domain.trading import ZERO, Fill, Side
from execution import books
from execution.account import Account
from execution.funding import BASE_RATE, payment, rates_of, stamps_between
from tests.execution_scenes import PERP, SPOT, START

TRADES = st.lists(
    st.tuples(
        st.integers(-5, 5).filter(bool),
        st.integers(400_000, 600_000),
        st.integers(0, 10**6),
        st.one_of(st.none(), st.integers(-(10**9), 10**9)),
    ),
    max_size=30,
)


def fill_of(account, symbol, n, signed, price):
    side = Side.BUY if signed > 0 else Side.SELL
    qty = abs(signed)
    return Fill(
        f"fill{n}", f"order{n}", "paper", symbol, side, qty, price, START + n, ZERO, ZERO, ZERO,
        price, False, "entry", account.realises(symbol, side.sign, qty, price),
    )  # fmt: skip


@given(TRADES, st.sampled_from([PERP, SPOT]), st.integers(1, 10**6))
def test_books_when_anything_is_traded_then_entries_sum_to_zero_and_equity_is_their_sum(
    trades, instrument, mark_ticks
):
    account, symbol = Account("paper", "USDT"), instrument.symbol
    lines = books.opening("paper", "USDT", Decimal(10_000), START)
    for line in lines:
        account.fold(line)
    held, fills = ZERO, []
    for n, (lots, ticks, fee, paid) in enumerate(trades):
        signed = lots * instrument.step
        if held * signed < 0 and abs(signed) > abs(held):
            signed = -held
        if instrument is SPOT and held + signed < 0:
            continue
        fill = fill_of(account, symbol, n, signed, ticks * instrument.tick)
        fill = replace(fill, fee=Decimal(fee) / 10**6)
        held += signed
        booked = books.of_fill(fill, "USDT")
        if paid is not None and instrument is PERP:
            amount = Decimal(paid) / 10**8
            funding = books.of_funding("paper", "USDT", symbol, START + n, amount)
            for line in funding:
                account.fold(line)
            booked = [*funding, *booked]
        account.fold(fill)
        fills.append(fill)
        lines += booked
    assert books.unbalanced(lines) == {}
    sums = books.balances(lines)
    position = account.position(symbol)
    assert sum((f.qty * f.side.sign for f in fills), ZERO) == held
    assert (position.qty if position else ZERO) == held == sums.get(("position", symbol), ZERO)
    assert sums["cash", "USDT"] == account.cash
    mark = mark_ticks * instrument.tick
    unrealised = (mark - position.entry_price) * held if position else ZERO
    cost = sums.get(("position", "USDT"), ZERO)
    equity = account.equity({symbol: mark})
    assert abs(account.cash + cost + unrealised - equity) < Decimal("1e-6")
    if position is None:
        assert account.cash == equity
        assert cost == 0


def test_account_when_a_round_trip_ends_then_the_trade_holds_every_cost():
    account = Account("paper", "USDT", strategy="script")
    symbol = PERP.symbol
    buy = fill_of(account, symbol, 0, Decimal("0.010"), Decimal(50_000))
    account.fold(replace(buy, fee=Decimal("0.25"), spread=Decimal("0.1")))
    for line in books.of_funding("paper", "USDT", symbol, START, Decimal("0.05")):
        account.fold(line)
    sell = fill_of(account, symbol, 1, Decimal("-0.010"), Decimal(51_000))
    trade = account.fold(replace(sell, fee=Decimal("0.26"), slippage=Decimal("0.2"), intent="stop"))
    assert trade is not None
    assert trade.pnl == Decimal("10") - Decimal("0.51") - Decimal("0.05")
    assert (trade.fee, trade.funding) == (Decimal("0.51"), Decimal("0.05"))
    assert (trade.spread, trade.slippage) == (Decimal("0.1"), Decimal("0.2"))
    assert (trade.side, trade.reason, trade.strategy) == ("LONG", "stop", "script")
    assert account.cash == trade.pnl
    assert account.position(symbol) is None


def test_account_when_a_fill_would_turn_a_position_then_it_is_refused():
    account = Account("paper", "USDT")
    account.fold(fill_of(account, PERP.symbol, 0, Decimal("0.010"), Decimal(50_000)))
    with pytest.raises(LedgerError, match="through zero"):
        account.fold(fill_of(account, PERP.symbol, 1, Decimal("-0.020"), Decimal(50_000)))


def test_funding_when_the_rate_is_positive_then_longs_pay_and_shorts_receive():
    account = Account("paper", "USDT")
    account.fold(fill_of(account, PERP.symbol, 0, Decimal("0.010"), Decimal(50_000)))
    position = account.position(PERP.symbol)
    assert payment(position, Decimal(60_000), 0.0001) == Decimal("0.06")
    assert payment(replace(position, qty=-position.qty), Decimal(60_000), 0.0001) == Decimal(
        "-0.06"
    )


def test_stamps_when_a_span_touches_them_then_the_end_counts_and_the_start_does_not():
    eight = 8 * 3_600_000
    assert list(stamps_between(START, START + 2 * eight)) == [START + eight, START + 2 * eight]
    assert list(stamps_between(START + 1, START + eight - 1)) == []


def test_rates_when_a_stamp_is_a_little_late_then_it_still_belongs_to_its_hour():
    rate = rates_of([START + 7], [0.0003])
    assert rate(PERP.symbol, START) == 0.0003
    assert rate(PERP.symbol, START + 8 * 3_600_000) == BASE_RATE
