"""Events become views and bars: nothing of the future, nothing lost, in one pass."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.flow import BookWatch, RecordedBooks, bars_of, flow_event, views
from data.memory import MarketMemory
from domain.market import BarFrame, BookSnapshot, BookView, OrderFlow, Trade

SYMBOL = "BTC/USDT"
MINUTE = 60_000


def quotes(at=0, bid=100.0, bid_qty=5.0, ask=101.0, ask_qty=7.0):
    return BookSnapshot(SYMBOL, at, ((bid, bid_qty),), ((ask, ask_qty),))


@pytest.mark.parametrize(
    ("after", "flow"),
    [
        ({}, 0.0),
        ({"bid_qty": 8.0}, 3.0),  # the queue at the bid grows
        ({"bid_qty": 1.0}, -4.0),
        ({"bid": 100.5, "bid_qty": 2.0}, 2.0),  # a better bid counts whole
        ({"bid": 99.5, "bid_qty": 9.0}, -5.0),  # the queue at the bid is gone
        ({"ask_qty": 4.0}, 3.0),  # the queue at the ask shrinks
        ({"ask": 101.5, "ask_qty": 2.0}, 7.0),  # it is gone
        ({"ask": 100.5, "ask_qty": 2.0}, -2.0),  # a better offer counts whole
        ({"bid": 100.5, "bid_qty": 2.0, "ask": 101.5, "ask_qty": 3.0}, 9.0),
    ],
)
def test_flow_event_when_the_best_quotes_change_then_it_is_that_of_the_paper(after, flow):
    assert flow_event(quotes(), quotes(**after)) == flow


def naive(books, trades, as_of, window):
    """The view at an instant from all events, looked through from the start."""
    seen = [book for book in books if book.at < as_of]
    start = as_of - window
    steps = [flow_event(a, b) for a, b in pairwise(seen) if b.at >= start]
    flow = None
    if seen:
        gross = math.fsum(map(abs, steps))
        flow = OrderFlow(max(start, seen[0].at), as_of, math.fsum(steps), gross, len(steps))
    recent = tuple(trade for trade in trades if start <= trade.at < as_of)
    return BookView(seen[-1] if seen else None, recent, flow)


gaps = st.lists(st.integers(0, 400), min_size=1, max_size=60)
sizes = st.floats(0.1, 50.0)


@pytest.mark.long
@given(gaps, st.lists(st.integers(0, 400), max_size=60), st.data(), st.integers(1, 500))
def test_views_when_compared_with_a_look_through_everything_then_they_are_equal(
    book_gaps, trade_gaps, data, window
):
    def stamps(gaps):
        return [1_000 + sum(gaps[: k + 1]) for k in range(len(gaps))]

    books = []
    for at in stamps(book_gaps):
        bid = data.draw(st.integers(95, 99))
        books.append(quotes(at, bid, data.draw(sizes), bid + data.draw(st.integers(1, 2)), 1.0))
    trades = [Trade(at, 100.0, 1.0, at % 2 == 0) for at in stamps(trade_gaps)]
    found = list(views(books, trades, 250, window))
    events = sorted(event.at for event in (*books, *trades))
    due = [t for t in range(1_000, events[-1] + 1, 250) if any(t - 250 <= at < t for at in events)]
    assert [as_of for as_of, _ in found] == due
    for as_of, view in found:
        assert view == naive(books, trades, as_of, window)


def test_views_when_the_future_differs_then_the_past_does_not():
    books = [quotes(100 * k, 100.0, 1.0 + k % 7) for k in range(1, 60)]
    trades = [Trade(70 * k, 100.5, 1.0, k % 3 == 0) for k in range(1, 60)]
    whole = list(views(books, trades, 500))
    cut = list(views(books[:30], trades[:45], 500))
    assert cut == whole[: len(cut)]
    assert len(cut) == 6


def test_watch_when_no_book_was_seen_then_there_is_no_flow():
    watch = BookWatch()
    watch.see(Trade(10, 100.0, 1.0, True))
    assert watch.view(20) == BookView(None, (Trade(10, 100.0, 1.0, True),), None)


def test_watch_when_the_first_book_came_inside_the_window_then_the_flow_starts_there():
    watch = BookWatch(10_000)
    watch.see(quotes(25_000))
    watch.see(quotes(26_000, bid_qty=6.0))
    assert watch.view(30_000).flow == OrderFlow(25_000, 30_000, 1.0, 1.0, 1)
    assert watch.view(36_001).flow == OrderFlow(26_001, 36_001, 0.0, 0.0, 0)


def test_bars_when_made_of_trades_then_only_whole_ones_come_and_holes_stay():
    minute = [(0, 9.0), (1, 10.0), (1, 12.0), (1, 8.0), (1, 11.0), (3, 5.0), (4, 6.0)]
    trades = [Trade(MINUTE * m + k, price, 0.5 + k, False) for k, (m, price) in enumerate(minute)]
    first, last = bars_of(trades, SYMBOL, "1m")
    assert (first.open_ms, first.open, first.high, first.low, first.close) == (
        MINUTE, 10.0, 12.0, 8.0, 11.0,
    )  # fmt: skip
    assert first.volume == 1.5 + 2.5 + 3.5 + 4.5
    assert (last.open_ms, last.close, last.volume) == (3 * MINUTE, 5.0, 5.5)
    assert list(bars_of([], SYMBOL, "1m")) == list(bars_of(trades[:4], SYMBOL, "1m")) == []


def test_memory_when_books_are_recorded_then_each_state_carries_what_was_seen_at_its_close():
    trades = [Trade(20_000 * k, 100.0 + k, 1.0, False) for k in range(20)]
    books = [quotes(20_000 * k + 1, 100.0 + k, ask=200.0) for k in range(13)]
    seen = dict(views(books, trades, MINUTE))
    memory = MarketMemory(SYMBOL, "1m", keep=4, books=RecordedBooks(SYMBOL, seen))
    for bar in bars_of(trades, SYMBOL, "1m"):
        memory.append(bar)
        state = memory.state()
        view = seen[state.as_of]
        assert (state.book, state.trades, state.flow) == (view.book, view.trades, view.flow)
        assert state.book.at < state.as_of
    assert [state.book for state in memory.states()] == [
        seen[as_of].book for as_of in range(3 * MINUTE, 7 * MINUTE, MINUTE)
    ]
    assert RecordedBooks("ETH/USDT", seen).look(SYMBOL, MINUTE) == BookView()


def test_memory_when_nobody_watches_then_its_states_have_no_book():
    memory = MarketMemory(SYMBOL, "1m")
    memory.append(BarFrame.of(list(bars_of([Trade(k * 9_000, 1.0, 1.0, True)
                                            for k in range(30)], SYMBOL, "1m"))))  # fmt: skip
    state = memory.state()
    assert (state.book, state.trades, state.flow) == (None, (), None)
