"""Funding is additive: whatever a position is split into, the parts pay what the whole pays."""

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.market import Bar, BarFrame
from domain.trading import ZERO, Order, OrderType, Position, Posting, Side
from execution import books
from execution.account import Account
from execution.draws import Latency
from execution.fills import CostModel, Frictions
from execution.funding import (
    BASE_RATE,
    INTERVAL_MS,
    else_usual,
    payment,
    settled,
    stamps_between,
)
from execution.money import CENT
from execution.paper import PaperBroker, Venue
from tests.execution_scenes import PERP, START

HOUR = 3_600_000
CASH = Decimal(10**9)
FREE = Frictions(spread_bps=0.0, slippage_bps=0.0, impact=0.0, participation=None)
COSTS = CostModel.of(PERP, FREE)
lots = st.integers(10, 5_000)
signs = st.sampled_from([1, -1])
rates = st.floats(-0.0075, 0.0075).map(lambda rate: round(rate, 8))  # what a venue allows


@given(
    st.lists(lots, min_size=1, max_size=20), signs, st.integers(100_000, 2_000_000),
    rates,
)  # fmt: skip
def test_payment_when_a_quantity_is_split_then_the_parts_pay_what_the_whole_pays(
    parts, sign, ticks, rate
):
    def paid(size):
        held = Position("p", PERP.symbol, sign * size * PERP.step, Decimal(1), START, "d", 0)
        return payment(held, ticks * PERP.tick, rate)

    apart = abs(sum(map(paid, parts)) - paid(sum(parts)))
    assert apart <= CENT / 2 * (len(parts) + 1)  # each is booked to 1e-8
    assert paid(sum(parts)) * sign * (1 if rate > 0 else -1) >= 0


def test_settled_when_the_venue_has_not_said_then_the_usual_rate_is_taken_and_marked():
    told = {(PERP.symbol, 2 * INTERVAL_MS): -0.002}
    found = settled(PERP.symbol, INTERVAL_MS, 3 * INTERVAL_MS, lambda *stamp: told.get(stamp))
    assert [(one.at, one.rate, one.published) for one in found] == [
        (2 * INTERVAL_MS, -0.002, True), (3 * INTERVAL_MS, BASE_RATE, False),
    ]  # fmt: skip
    assert settled(PERP.symbol, INTERVAL_MS, INTERVAL_MS + 1, lambda *_: 0.5) == []
    four = settled(PERP.symbol, INTERVAL_MS, 2 * INTERVAL_MS, lambda *_: None, INTERVAL_MS // 2)
    assert [(row.at, row.rate) for row in four] == [
        (INTERVAL_MS * 3 // 2, BASE_RATE / 2), (2 * INTERVAL_MS, BASE_RATE / 2),
    ]  # fmt: skip
    rate = else_usual(lambda *stamp: told.get(stamp))
    assert (rate(PERP.symbol, 2 * INTERVAL_MS), rate("x", 0)) == (-0.002, BASE_RATE)


@st.composite
def markets(draw):
    """Hourly bars with holes, some of them days long, and a rate for every stamp."""
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 5, 8, 31]), min_size=12, max_size=40))
    opens = (START + HOUR * np.cumsum([draw(st.integers(0, 8)), *gaps])).tolist()
    prices = st.integers(400_000, 600_000).map(lambda ticks: ticks / 10)
    opened, closed = (draw(st.lists(prices, min_size=len(opens), max_size=len(opens)))
                      for _ in range(2))  # fmt: skip
    bars = [Bar(PERP.symbol, "1h", at, o, max(o, c), min(o, c), c, 1.0)
            for at, o, c in zip(opens, opened, closed, strict=True)]  # fmt: skip
    stamps = [*stamps_between(opens[0], opens[-1])]
    told = draw(st.lists(rates, min_size=len(stamps), max_size=len(stamps)))
    return bars, dict(zip(stamps, told, strict=True))


@st.composite
def held_parts(draw, bars):
    """(lots, bar of the entry, bar of the exit) of positions that overlap as they like."""
    parts = []
    for _ in range(draw(st.integers(1, 5))):
        entry = draw(st.integers(1, bars - 2))
        parts.append((draw(lots), entry, draw(st.integers(entry + 1, bars - 1))))
    return parts


def order(n, at, side, size, *, opens):
    return Order(
        f"{'in' if opens else 'out'}{n}", "paper", PERP.symbol, side, size * PERP.step,
        OrderType.MARKET, at, "one", "entry" if opens else "manual", reduce_only=not opens,
    )  # fmt: skip


def traded(bars, told, parts, sign, perp=PERP):
    """Hold all parts in one account; its funding lines, and what it counts itself."""
    broker = PaperBroker(
        {PERP.symbol: perp}, {PERP.symbol: COSTS}, funding=lambda _, stamp: told[stamp],
        venue=Venue(latency=Latency("none")),
    )  # fmt: skip
    account, opening = Account("paper", "USDT"), books.opening("paper", "USDT", CASH, 0)
    broker.restore(opening)
    rows = [*opening]
    there, back = (Side.BUY, Side.SELL) if sign > 0 else (Side.SELL, Side.BUY)
    for n, bar in enumerate(bars):
        sent = [order(k, bar.open_ms, there, size, opens=True)
                for k, (size, entry, _) in enumerate(parts) if entry == n]  # fmt: skip
        sent += [order(k, bar.open_ms, back, size, opens=False)
                 for k, (size, _, leave) in enumerate(parts) if leave == n]  # fmt: skip
        assert [broker.submit(one) for one in sent] == [None] * len(sent)
        rows += [*sent, *broker.funding(bar), *broker.on_bar(bar)]
    trades = [trade for row in rows if (trade := account.fold(row)) is not None]
    lines = [row for row in rows if isinstance(row, Posting) and row.book == "funding"]
    assert account.position(PERP.symbol) is None
    assert account.cash == broker.portfolio(0).cash == CASH + sum(trade.pnl for trade in trades)
    assert sum((trade.funding for trade in trades), ZERO) == total(lines)
    return lines


def total(lines):
    return sum((line.amount for line in lines), ZERO)


@pytest.mark.long
@settings(deadline=None)
@given(markets().flatmap(lambda m: st.tuples(st.just(m), held_parts(len(m[0])))), signs)
def test_funding_when_positions_come_and_go_between_stamps_then_parts_pay_what_the_whole_pays(
    scene, sign
):
    (bars, told), parts = scene
    whole = traded(bars, told, parts, sign)
    each = [traded(bars, told, [part], sign) for part in parts]
    booked = len(whole) + sum(map(len, each))
    assert abs(total(whole) - sum(map(total, each))) <= CENT / 2 * booked
    for (_, entry, leave), lines in zip(parts, each, strict=True):
        stamps = stamps_between(bars[entry].open_ms, bars[leave].open_ms)
        assert [line.at for line in lines] == [stamp for stamp in stamps if told[stamp]]


@pytest.mark.long
@settings(deadline=None)
@given(markets(), lots, signs, st.sets(st.integers(2, 10), max_size=5))
def test_funding_when_a_time_is_split_then_the_stretches_pay_what_the_whole_pays_to_the_last_digit(
    market, size, sign, cuts
):
    bars, told = market
    ends = [1, *sorted(cuts), len(bars) - 1]
    stretches = [(size, a, b) for a, b in pairwise(ends)]
    whole = traded(bars, told, [(size, ends[0], ends[-1])], sign)
    each = [line for one in stretches for line in traded(bars, told, [one], sign)]
    assert [(line.at, line.amount) for line in each] == [(line.at, line.amount) for line in whole]


def test_funding_when_a_position_is_held_through_three_stamps_then_it_pays_all_three():
    bars = [Bar(PERP.symbol, "1h", START + n * HOUR, *(50_000.0,) * 4, 1.0) for n in range(26)]
    told = {START + k * INTERVAL_MS: 0.0001 * k for k in (1, 2, 3)}
    lines = traded(bars, told, [(1_000, 2, 25)], 1)
    assert [line.amount for line in lines] == [5, 10, 15]  # of 50 000 USDT


@pytest.mark.long
@settings(deadline=None)
@given(st.sampled_from([1, 2, 4, 12]), lots, signs, st.integers(1, 20), st.integers(1, 30))
def test_funding_when_a_contract_is_settled_at_other_hours_then_at_each_of_them(
    hours, size, sign, entry, horizon
):
    perp = replace(PERP, funding_hours=hours)
    bars = [Bar(PERP.symbol, "1h", START + n * HOUR, *(50_000.0,) * 4, 1.0) for n in range(55)]
    stamps = [*stamps_between(START, bars[-1].open_ms, perp.funding_ms)]
    told = {stamp: 0.0001 * (1 + k % 7) for k, stamp in enumerate(stamps)}
    lines = traded(bars, told, [(size, entry, entry + horizon)], sign, perp)
    passed = range(entry + 1, entry + horizon + 1)
    assert [line.at for line in lines] == [
        START + n * HOUR for n in passed if (START + n * HOUR) // HOUR % hours == 0
    ]
    assert close(float(total(lines)), compiled(bars, told, entry - 1, size, sign, horizon, perp))


def compiled(bars, told, decided, size, sign, horizon, perp=PERP):
    """What the compiled engine pays for a side said at these bars, held for a horizon."""
    kernel = pytest.importorskip("execution.kernel", reason="needs numba")
    frame = BarFrame.of(bars)
    side, none = np.zeros(len(frame), np.int8), np.full(len(frame), np.nan)
    side[decided] = sign
    rules = kernel.rules_of(PERP, COSTS, Venue(latency=Latency("none")), "1h", horizon)
    wishes = kernel.Wishes(side, np.full(len(frame), float(size)), none, none)
    columns = kernel.bars_of(frame, lambda _, stamp: told[stamp], every_ms=perp.funding_ms)
    played = kernel.play(columns, wishes, rules, kernel.tiers_of(PERP), float(CASH))
    return played.funding


def close(mine, theirs):
    return mine == pytest.approx(theirs, rel=1e-9, abs=1e-6)


@settings(deadline=None)
@given(markets(), lots, lots, signs, st.integers(0, 8), st.integers(1, 60))
def test_kernel_when_a_quantity_is_split_then_the_parts_pay_what_the_whole_pays(
    market, one, other, sign, decided, horizon
):
    bars, told = market
    parts = (compiled(bars, told, decided, size, sign, horizon) for size in (one, other))
    assert close(sum(parts), compiled(bars, told, decided, one + other, sign, horizon))


@pytest.mark.long
@settings(deadline=None)
@given(markets(), lots, signs, st.integers(1, 8), st.integers(1, 20), st.integers(1, 20))
def test_kernel_when_a_time_is_split_then_it_pays_what_the_reference_pays_for_the_whole(
    market, size, sign, decided, first, second
):
    start, known = market[0][0].open_ms, market[1]
    prices = [bar.open for bar in market[0]]
    bars = [
        replace(market[0][0], open_ms=start + n * HOUR, **dict.fromkeys(
            ("open", "high", "low", "close"), prices[n % len(prices)]))
        for n in range(decided + first + second + 3)
    ]  # fmt: skip
    told = {stamp: known.get(stamp, -0.0004)
            for stamp in stamps_between(start, bars[-1].open_ms)}  # fmt: skip
    whole = compiled(bars, told, decided, size, sign, first + second)
    stretches = [compiled(bars, told, decided, size, sign, first),
                 compiled(bars, told, decided + first, size, sign, second)]  # fmt: skip
    assert close(sum(stretches), whole)
    entry = decided + 1
    lines = traded(bars, told, [(size, entry, entry + first + second)], sign)
    assert close(float(total(lines)), whole)
