"""The paper broker where the market is thin, late, gone or ruinous."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from data.instruments import instrument_for
from domain.market import BookSnapshot, BookView
from domain.trading import ZERO, ClosedTrade, Fill, Order, OrderType, Refusal, Side
from execution import books
from execution.draws import Latency
from execution.fills import CostModel, Frictions
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.paper import PaperBroker, Venue
from storage.memory import MemoryLedger
from tests.execution_scenes import (
    FIXED,
    NO_LIMITS,
    PERP,
    SPOT,
    START,
    STEP,
    Script,
    bar,
    flat,
    play,
)

BTC = instrument_for(PERP.symbol)
FREE = Frictions(spread_bps=0.0, slippage_bps=0.0, impact=0.0)
NOW = Latency("none")


def broker_of(instrument=BTC, frictions=FREE, cash=10_000, **venue):
    made = PaperBroker(
        {instrument.symbol: instrument}, {instrument.symbol: CostModel.of(instrument, frictions)},
        venue=Venue(**{"latency": NOW, **venue}),
    )  # fmt: skip
    made.restore(books.opening("paper", "USDT", Decimal(cash), 0))
    return made


def order(n, qty, side=Side.BUY, intent="entry", decision="one", symbol=PERP.symbol, **more):
    return Order(
        f"{intent}-{n}-{decision}", "paper", symbol, side, Decimal(qty),
        more.pop("type", OrderType.MARKET), START + n * STEP, decision, intent,
        reduce_only=intent != "entry", **more,
    )  # fmt: skip


def fills(said):
    assert all(isinstance(one, Fill) for one in said), said
    return [(one.qty, one.price, one.intent) for one in said]


def test_exit_when_a_bar_is_thin_then_what_is_left_goes_on_in_the_next():
    broker = broker_of()
    broker.on_bar(flat(0))
    broker.submit(order(1, "0.1"))
    assert len(broker.on_bar(flat(1))) == 1  # a tenth of one BTC: just so
    broker.submit(order(2, "0.1", Side.SELL, "kill"))
    thin = replace(flat(2), volume=0.6)
    first = broker.on_bar(thin)
    assert fills(first) == [(Decimal("0.06"), 50_000, "kill")]
    again = broker_of()
    again.restore([flat(0), order(1, "0.1"), flat(1), *entered_of(broker_of())])
    again.restore([order(2, "0.1", Side.SELL, "kill"), thin, *first])
    assert again.open_orders() == broker.open_orders() != []
    rest = broker.on_bar(flat(3))
    assert fills(rest) == [(Decimal("0.04"), 50_000, "kill")]
    assert again.on_bar(flat(3)) == rest
    assert rest[0].id != first[0].id
    assert broker.open_orders() == []
    assert broker.position(PERP.symbol) is None


def entered_of(broker):
    broker.on_bar(flat(0))
    broker.submit(order(1, "0.1"))
    return broker.on_bar(flat(1))


def test_entry_when_the_bar_cannot_fill_it_then_the_loop_withdraws_what_is_left():
    ledger = MemoryLedger()
    broker = PaperBroker({PERP.symbol: PERP}, venue=Venue(latency=NOW))
    loop = TradingLoop(
        Script({0: "LONG"}), broker, ledger, {PERP.symbol: PERP},
        LoopSettings({PERP.symbol: PERP.symbol}), limits=NO_LIMITS, sizing=FIXED,
    )  # fmt: skip
    play(loop, [flat(0), replace(flat(1), volume=0.05), flat(2), flat(3)])
    (fill,) = (row for _, row in ledger.records(Fill))
    assert fill.qty == Decimal("0.005")
    (refusal,) = (row for _, row in ledger.records(Refusal))
    assert (refusal.code, refusal.intent) == ("unfilled", "entry")
    assert loop.open_orders() == []


def test_entry_when_it_needs_more_margin_than_is_free_then_it_is_refused_and_gone():
    broker = broker_of(cash=1_000)
    broker.on_bar(flat(0))
    broker.submit(order(1, "0.02"))
    (refusal,) = broker.on_bar(flat(1))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.value) == ("insufficient_margin", "1000.00")
    assert "1000.50" in refusal.rule  # the fee is needed too
    assert broker.open_orders() == []
    levered = broker_of(cash=1_000, leverage=Decimal(2))
    levered.on_bar(flat(0))
    levered.submit(order(1, "0.02"))
    assert fills(levered.on_bar(flat(1))) == [(Decimal("0.02"), 50_000, "entry")]


def test_entry_on_spot_when_it_costs_more_than_the_cash_then_it_is_refused():
    broker = broker_of(SPOT, cash=500)
    broker.on_bar(flat(0, symbol=SPOT.symbol))
    broker.submit(order(1, "0.01", symbol=SPOT.symbol))
    (refusal,) = broker.on_bar(flat(1, symbol=SPOT.symbol))
    assert refusal.code == "insufficient_margin"


def test_submit_when_the_venue_allows_less_leverage_then_it_is_refused():
    broker = broker_of(cash=10_000_000, leverage=Decimal(100))
    broker.on_bar(flat(0))
    assert broker.submit(order(1, "16")) is None  # 800 000 USDT: up to 100×
    refusal = broker.submit(order(1, "17", decision="two"))
    assert (refusal.code, refusal.rule) == (
        "insufficient_margin", "leverage at most 75 at this notional",
    )  # fmt: skip


def test_entry_when_another_position_is_open_then_it_is_refused_not_forgotten():
    broker = broker_of()
    broker.on_bar(flat(0))
    broker.submit(order(1, "0.01"))
    broker.on_bar(flat(1))
    broker.submit(order(2, "0.01", Side.SELL, decision="two"))
    (refusal,) = broker.on_bar(flat(2))
    assert (refusal.code, refusal.decision_id) == ("unfilled", "two")


@pytest.mark.parametrize(
    ("low", "price"),
    [
        (45_400.0, None),
        (45_100.0, "45180.8"),
        (44_000.0, "45180.8"),
    ],
)
def test_position_when_its_margin_is_used_up_then_it_is_liquidated_for_no_more(low, price):
    broker = broker_of(leverage=Decimal(10))
    broker.on_bar(flat(0))
    broker.submit(order(1, "0.1"))
    broker.on_bar(flat(1))
    said = broker.on_bar(bar(2, (50_000.0, 50_000.0, low, low)))
    if price is None:
        assert said == []
        return
    (fill,) = said
    assert (fill.intent, fill.price) == ("liquidation", Decimal(price))
    assert f"{fill.fee:.2f}" == "18.07"  # 1.2 % would be 54; .4 % of 4 518 is what is left
    lines = books.of_fill(fill, "USDT")
    assert {line.book: line.amount for line in lines}["liquidation"] == fill.fee
    assert not books.unbalanced(lines)
    lost = 10_000 - broker.portfolio(0).equity
    assert lost == pytest.approx(Decimal("502.5"), abs=Decimal("0.01"))  # margin and entry fee


def test_position_when_the_stop_is_nearer_then_it_goes_before_the_liquidation():
    broker = broker_of(leverage=Decimal(10))
    broker.on_bar(flat(0))
    broker.submit(order(1, "0.1"))
    stop = {"type": OrderType.STOP, "trigger": Decimal(46_000)}
    broker.submit(order(1, "0.1", Side.SELL, "stop", **stop))
    broker.on_bar(flat(1))
    crash = bar(2, (50_000.0, 50_000.0, 40_000.0, 40_000.0))
    assert fills(broker.on_bar(crash)) == [(Decimal("0.1"), 46_000, "stop")]
    gap = broker_of(leverage=Decimal(10))
    gap.on_bar(flat(0))
    gap.submit(order(1, "0.1"))
    gap.submit(order(1, "0.1", Side.SELL, "stop", **stop))
    gap.on_bar(flat(1))
    (fill,) = gap.on_bar(flat(2, 40_000.0))
    assert fill.intent == "liquidation"  # beyond both at once: the venue was faster
    assert gap.open_orders() == []


class Seen:
    """A book every second, the same one."""

    def __init__(self, book, each_ms=1_000):
        self.book, self.each_ms, self.asked = book, each_ms, []

    def look(self, symbol, as_of):
        self.asked.append((symbol, as_of))
        return BookView(replace(self.book, at=as_of // self.each_ms * self.each_ms))


BOOK = BookSnapshot(
    PERP.symbol, 0, ((49_999.0, 0.004), (49_990.0, 0.004)), ((50_001.0, 0.004), (50_010.0, 0.004))
)


def test_order_when_there_is_a_book_then_it_walks_it_and_the_rest_is_quoted_again():
    seen = Seen(BOOK)
    broker = broker_of(books=seen, latency=Latency())
    broker.on_bar(flat(0))
    broker.submit(order(1, "0.01"))
    said = broker.on_bar(flat(1))
    assert sum(fill.qty for fill in said) == Decimal("0.01")
    assert [fill.price for fill in said] == [50_001, 50_010, 50_001]
    first, _, last = said
    assert START + STEP < first.at < last.at < START + 2 * STEP
    assert {fill.reference for fill in said} == {Decimal(50_000)}
    assert first.at // 1_000 < last.at // 1_000  # not before the book was new
    assert len({fill.id for fill in said}) == 3


def test_order_when_the_book_is_old_then_the_bar_decides():
    broker = broker_of(books=Seen(BOOK, each_ms=STEP * 1_000))
    broker.on_bar(flat(0))
    broker.submit(order(1, "0.01"))
    (fill,) = broker.on_bar(flat(1))
    assert fill.price == fill.reference == 50_000


def test_target_when_only_touched_then_the_same_draw_decides_after_a_restart():
    filled = 0
    for n in range(2, 42):
        broker = broker_of(frictions=replace(FREE, queue_share=0.3))
        broker.on_bar(flat(0))
        broker.submit(order(1, "0.01"))
        limit = {"type": OrderType.LIMIT, "price": Decimal(50_100)}
        broker.submit(order(1, "0.01", Side.SELL, "target", **limit))
        broker.on_bar(flat(1))
        said = broker.on_bar(bar(n, (50_000.0, 50_100.0, 50_000.0, 50_000.0)))
        filled += len(said)
    assert 4 <= filled <= 20  # .3 of 40


def test_finer_bars_when_given_then_they_tell_which_came_first():
    def finer(one):
        half = STEP // 2
        up = replace(one, low=one.open, close=one.high)
        down = replace(one, open_ms=one.open_ms + half, open=one.high, high=one.high)
        return [up, down]

    def said_with(tell):
        broker = PaperBroker(
            {BTC.symbol: BTC}, {BTC.symbol: CostModel.of(BTC, FREE)},
            venue=Venue(latency=NOW), finer=tell,
        )  # fmt: skip
        broker.restore(books.opening("paper", "USDT", Decimal(10_000), 0))
        broker.on_bar(flat(0))
        broker.submit(order(1, "0.01"))
        broker.submit(order(1, "0.01", Side.SELL, "stop", type=OrderType.STOP,
                            trigger=Decimal(49_000)))  # fmt: skip
        broker.submit(order(1, "0.01", Side.SELL, "target", type=OrderType.LIMIT,
                            price=Decimal(51_000)))  # fmt: skip
        broker.on_bar(flat(1))
        return broker.on_bar(bar(2, (50_000.0, 51_500.0, 48_500.0, 49_500.0)))

    assert [fill.intent for fill in said_with(None)] == ["stop"]  # unknown: the worse one
    assert [fill.intent for fill in said_with(finer)] == ["target"]


steps = st.lists(
    st.tuples(
        st.sampled_from(["long", "short", "exit", "nothing"]),
        st.integers(1, 60),  # lots of .001
        st.floats(0.93, 1.07), st.floats(1.0, 1.08), st.floats(0.92, 1.0),  # close, high, low
        st.floats(0.0, 1.5),  # volume
    ),
    min_size=1, max_size=25,
)  # fmt: skip


@settings(deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(steps, st.integers(1, 20), st.integers(0, 3))
def test_broker_when_anything_happens_then_books_balance_and_a_restart_changes_nothing(
    told, leverage, cut
):
    """Random orders on violent bars: sums zero, position = Σ fills, restored = uninterrupted."""
    broker = broker_of(frictions=Frictions(), leverage=Decimal(leverage))
    rows, price, decision = [*books.opening("paper", "USDT", Decimal(10_000), 0)], 50_000.0, ""
    for n, (what, lots, close, high, low, volume) in enumerate(told):
        held = broker.position(PERP.symbol)
        if what == "exit" and held is not None:
            side = Side.SELL if held.qty > 0 else Side.BUY
            sent = [order(n, abs(held.qty), side, "manual", held.decision_id)]
        elif what in ("long", "short"):
            side, back = (Side.BUY, Side.SELL) if what == "long" else (Side.SELL, Side.BUY)
            decision, qty = f"d{n}", lots * PERP.step
            stop, target = (Decimal(round(price * (1 + f * side.sign))) for f in (-0.03, 0.03))
            sent = [
                order(n, qty, side, "entry", decision),
                order(n, qty, back, "stop", decision, type=OrderType.STOP, trigger=stop),
                order(n, qty, back, "target", decision, type=OrderType.LIMIT, price=target),
            ]
        else:
            sent = []
        for one in sent:
            refusal = broker.submit(one)
            rows += [one] if refusal is None else [one, refusal]
        after = round(price * close, 1)
        top, bottom = (round(f(price, after) * x, 1) for f, x in ((max, high), (min, low)))
        now = replace(bar(n, (price, top, bottom, after)), volume=volume)
        rows.append(now)
        rows += broker.funding(now)
        rows += broker.on_bar(now)
        price = after
        if n % 4 == cut:
            again = broker_of(frictions=Frictions(), leverage=Decimal(leverage), cash=0)
            again.restore(rows)
            assert again.open_orders() == broker.open_orders()
            assert again.portfolio(0) == broker.portfolio(0)
            broker = again
    done = [row for row in rows if isinstance(row, Fill)]
    lines = [line for fill in done for line in books.of_fill(fill, "USDT")]
    assert not books.unbalanced(lines)
    position = broker.position(PERP.symbol)
    assert sum((fill.qty * fill.side.sign for fill in done), ZERO) == (
        position.qty if position else 0
    )
    assert len({fill.id for fill in done}) == len(done)
    assert broker.portfolio(0).cash > 0
    assert not [row for row in rows if isinstance(row, ClosedTrade)]
