"""The live broker at the local exchange, by ccxt as it is."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from domain.trading import Fill, OrderStatus, OrderType, Side
from execution import books
from tests.live_scenes import CASH, PERP, Stage, order_at, stage


@pytest.fixture
def here() -> Iterator[Stage]:
    with stage() as made:
        yield made


def test_a_market_order_becomes_a_fill_and_the_ledgers_cash_is_the_venues(here: Stage) -> None:
    broker = here.broker()
    broker.restore(books.opening("live", "USDT", CASH, here.at))
    broker.on_bar(here.next_bar())
    order = order_at(here, "cv1")
    assert broker.submit(order) is None
    assert broker.submit(order) is None
    assert broker.status("cv1") is OrderStatus.WORKING
    assert broker.holdings().quantities[PERP] == 0
    assert broker.holdings().cash == CASH
    [fill] = broker.on_bar(here.next_bar())
    assert isinstance(fill, Fill)
    assert (fill.qty, fill.order_id, fill.intent, fill.maker) == (order.qty, "cv1", "entry", False)
    assert fill.price > fill.reference
    assert fill.spread + fill.slippage == (fill.price - fill.reference) * fill.qty
    held = broker.holdings()
    assert held.cash == here.account.perp.balances["USDT"] == CASH - fill.fee
    assert held.quantities == {PERP: Decimal("0.010")}
    assert broker.status("cv1") is OrderStatus.DONE
    assert broker.open_orders() == []
    assert len(here.account.orders) == 1


def test_stop_and_target_follow_their_entry_and_leave_with_the_position(here: Stage) -> None:
    broker = here.broker()
    broker.restore(books.opening("live", "USDT", CASH, here.at))
    bar = here.next_bar()
    broker.on_bar(bar)
    last = Decimal(str(bar.close))
    levels = (
        {"type": OrderType.STOP, "trigger": last - 40},
        {"type": OrderType.LIMIT, "price": last + 40},
    )
    for name, intent, more in (("s", "stop", levels[0]), ("t", "target", levels[1])):
        assert broker.submit(order_at(here, name, Side.SELL, intent, decision="d0", **more)) is None
    assert len(here.account.orders) == 0
    assert broker.submit(order_at(here, "e")) is None
    for name, intent, more in (("cvs", "stop", levels[0]), ("cvt", "target", levels[1])):
        assert broker.submit(order_at(here, name, Side.SELL, intent, **more)) is None
    assert [order.client_id for order in here.account.open_orders()] == ["cvs", "cvt"]
    fills = [row for _ in range(60) for row in broker.on_bar(here.next_bar())]
    assert [fill.intent for fill in fills] == ["entry", "stop"] or ["entry", "target"]
    assert broker.open_orders() == []
    assert here.account.open_orders() == []
    assert broker.holdings().cash == here.account.perp.balances["USDT"]


def test_loop(here):
    from domain.operations import RiskEvent
    from domain.trading import Order, Refusal
    from execution.strategies import EmaCross
    from storage.memory import MemoryLedger
    from tests.live_scenes import apart, live_loop, live_states

    ledger = MemoryLedger()
    loop = live_loop(ledger, EmaCross(3, 6), here.broker(), here)
    bars = []
    for _ in range(40):
        bars.append(here.next_bar())
        loop.absorb(bars[-1])
        loop.decide(live_states(bars)[-1], [], {}, here.at)
    print([(o.intent, o.side) for _, o in ledger.records(Order)])
    print(
        len(list(ledger.records(Fill))),
        [r for _, r in ledger.records(Refusal)],
        [r for _, r in ledger.records(RiskEvent)],
    )
    assert apart(ledger, here) == {}
    assert len(list(ledger.records(Fill))) > 3
