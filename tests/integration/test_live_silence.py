"""A venue that takes questions and answers none: whoever asks must not stand still with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import ccxt
import pytest
from structlog.testing import capture_logs

from domain.decision import Reason
from domain.errors import AmbiguousOutcome
from domain.trading import Fill, OrderStatus, OrderType, Side
from execution import books
from execution.adapters.ccxt_broker import CcxtBroker
from tests.live_scenes import CASH, PATIENCE_MS, PERP, Silence, Stage, order_at, stage


@contextmanager
def silent() -> Iterator[tuple[Stage, Silence, CcxtBroker]]:
    silence = Silence()
    with stage(faults=silence) as here:
        broker = here.broker()
        broker.restore(books.opening("live", "USDT", CASH, here.at))
        broker.on_bar(here.next_bar())
        yield here, silence, broker


def opened(here: Stage, broker: CcxtBroker) -> None:
    broker.submit(order_at(here, "e"))
    [fill] = broker.on_bar(here.next_bar())
    assert isinstance(fill, Fill)


def left_alone(here: Stage, broker: CcxtBroker) -> None:
    for _ in range(2):
        broker.on_bar(here.next_bar())
        broker.holdings()
    assert broker._gateway.left_alone()


def sent(here: Stage) -> list[str]:
    return [order.client_id for order in here.account.orders.values()]


def test_broker_when_the_venue_is_silent_then_few_calls_wait_and_the_rest_fail_at_once() -> None:
    with silent() as (here, silence, broker):
        broker.submit(order_at(here, "cv1"))
        silence.begin(broker)
        began = time.monotonic()
        with capture_logs() as logs:
            for _ in range(20):
                bar = here.next_bar()
                assert broker.funding(bar) == []
                assert broker.on_bar(bar) == []
                assert broker.holdings().cash is None
        assert len(silence.seen) == 2
        assert time.monotonic() - began < 60 * PATIENCE_MS / 1e3  # if all of them had waited
        assert "venue_left_alone" in [line["event"] for line in logs]
        reach = broker._gateway.reach
        assert (reach.open, reach.in_vain) == (True, 2)
        assert "userTrades" in reach.problem
        assert "signature" not in reach.problem

        here.skew[0] += broker._gateway.left_alone()  # one more, to see
        broker.on_bar(here.next_bar())
        assert len(silence.seen) == 3
        assert broker._gateway.left_alone() > 8.0  # twice as long
        silence.end(here, broker)
        [fill] = broker.on_bar(here.next_bar())
        assert isinstance(fill, Fill)
        assert not reach.open
        assert broker.holdings().cash == here.account.perp.balances["USDT"]


def test_entry_while_the_venue_is_left_alone_is_refused_and_in_no_doubt() -> None:
    with silent() as (here, silence, broker):
        silence.begin(broker)
        refused = [broker.submit(order_at(here, f"cv{n}", decision=f"d{n}")) for n in range(4)]
        assert [None if one is None else one.code for one in refused] == [Reason.NOT_PLACED] * 4
        assert len(silence.seen) == 2
        assert broker.status("cv3") is OrderStatus.UNKNOWN
        assert broker.open_orders() == []
        silence.end(here, broker)
        assert broker.submit(order_at(here, "cv3")) is None  # the same id may try again
        assert sent(here) == ["cv3"]


def test_exit_while_the_venue_is_left_alone_leaves_once_it_answers_again() -> None:
    with silent() as (here, silence, broker):
        opened(here, broker)
        silence.begin(broker)
        left_alone(here, broker)
        assert broker.submit(order_at(here, "x", Side.SELL, "kill")) is None
        assert [order.id for order in broker.open_orders()] == ["x"]
        assert broker.status("x") is OrderStatus.HELD
        silence.end(here, broker)
        assert broker.on_bar(here.next_bar()) == []  # it leaves
        assert here.account.perp.of("BTCUSDT").qty == 0
        [fill] = broker.on_bar(here.next_bar())
        assert isinstance(fill, Fill)
        assert (fill.order_id, broker.open_orders(), sent(here)) == ("x", [], ["e", "x"])


def test_exit_that_did_not_leave_ends_where_a_stop_closed_the_position_meanwhile() -> None:
    with silent() as (here, silence, broker):
        opened(here, broker)
        beyond = Decimal(str(broker._last[PERP].close)).quantize(Decimal("0.1")) + 300
        silence.begin(broker)
        left_alone(here, broker)
        broker.submit(order_at(here, "x", Side.SELL, "horizon"))
        silence.end(here, broker)
        stop = order_at(here, "s", Side.SELL, "stop", type=OrderType.STOP, trigger=beyond)
        assert broker.submit(stop) is None  # its price is passed: it closes at once
        rows = [row for _ in range(3) for row in broker.on_bar(here.next_bar())]
        assert filled(rows) == ["s"]
        assert broker.open_orders() == []
        assert sent(here) == ["e", "s"]


def test_venue_when_it_says_how_long_it_wants_to_be_left_alone_then_it_is() -> None:
    with silent() as (here, banned, broker):
        banned.headers = {"Retry-After": "90"}
        banned.seen.clear()
        banned.next += [418]
        for _ in range(5):
            assert broker.holdings().cash is None
        assert len(banned.seen) == 1
        assert 80.0 < broker._gateway.left_alone() <= 90.0
        here.skew[0] += 90.0
        assert broker.holdings().cash == CASH


def test_entry_that_never_left_when_entries_are_counted_then_it_does_not_count() -> None:
    with silent() as (here, banned, broker):
        broker._guard.bounds = replace(broker._guard.bounds, per_minute=1)
        banned.headers = {"Retry-After": "5"}
        banned.seen.clear()
        banned.next += [200, 200, 200, 418]  # position and price, then the price again
        refused = broker.submit(order_at(here, "cv1"))
        assert refused is not None
        assert (refused.code, refused.value) == (Reason.NOT_PLACED, "not_sent")
        assert "bookTicker" in banned.seen[-1]
        here.skew[0] += 5.0
        assert broker.submit(order_at(here, "cv2", decision="d2")) is None
        broker.on_bar(here.next_bar())
        broker.submit(order_at(here, "x", Side.SELL, "manual"))
        broker.on_bar(here.next_bar())
        refused = broker.submit(order_at(here, "cv3", decision="d3"))
        assert refused is not None
        assert refused.rule == "at most 1 live entries a minute"


def test_order_that_ccxt_does_not_send_when_the_venue_is_silent_then_it_is_no_answer() -> None:
    with silent() as (here, silence, broker):
        silence.begin(broker)
        broker.holdings()
        reach, asked = broker._gateway.reach, len(silence.seen)
        nothing = order_at(here, "cv1", qty=Decimal("0.00001"))
        with pytest.raises(ccxt.InvalidOrder):
            broker._gateway.place(nothing, "cv1", nothing.qty, at_market=False)
        assert len(silence.seen) == asked
        assert (reach.in_vain, reach.open) == (1, False)
        broker.holdings()
        assert (reach.in_vain, reach.open) == (2, True)


def test_order_whose_answer_is_lost_is_not_asked_after_for_long_where_nothing_answers() -> None:
    with silent() as (here, silence, broker):
        broker._courier._waits = replace(broker._courier._waits, answer=60.0)
        opened(here, broker)
        silence.begin(broker)
        with pytest.raises(AmbiguousOutcome):
            broker.submit(order_at(here, "x", Side.SELL, "manual"))
        assert len(silence.seen) == 2  # the quote, and the order
        silence.end(here, broker)
        assert broker.status("x") is OrderStatus.HELD  # it never arrived
        broker.on_bar(here.next_bar())
        assert here.account.perp.of("BTCUSDT").qty == 0
        assert sent(here) == ["e", "x"]


def filled(rows: list[Any]) -> list[str]:
    return [row.order_id for row in rows if isinstance(row, Fill)]
