"""Orders of which nobody can say whether they arrived, and what is left of those before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from data.sources.listing import instrument_of
from domain.decision import Reason
from domain.errors import AmbiguousOutcome
from domain.operations import RiskEvent
from domain.trading import Fill, OrderStatus, OrderType, Refusal, Side
from execution import books
from execution.adapters.booking import fill_id
from execution.adapters.ccxt_broker import CcxtBroker
from execution.adapters.gateway import Gateway
from execution.adapters.guard import LastGuard
from execution.adapters.tracked import Tracked
from sim.venue.fates import Fate
from sim.venue.refusals import Refused
from storage.memory import MemoryLedger
from tests.live_acts import Late, at_a_late_venue, decided, held, opened, resting, stop_at
from tests.live_scenes import (
    CASH,
    PERP,
    QUICK,
    STEP,
    WIDE,
    Stage,
    Turning,
    agreed,
    live_loop,
    order_at,
    stage,
)

ETH = "ETH/USDT:USDT"


@pytest.fixture
def scene() -> Iterator[tuple[Stage, Late]]:
    with at_a_late_venue() as made:
        yield made


@pytest.mark.parametrize("between_bars", [True, False])
def test_a_kill_closes_an_entry_that_arrives_after_it(
    scene: tuple[Stage, Late], between_bars: bool
) -> None:
    here, late = scene
    ledger = MemoryLedger()
    late.lost.add("*")
    loop = decided(here, here.broker(), ledger)
    assert held(here) == 0
    loop.kill("Ada", "enough", here.at + 1)
    late.arrive()
    assert held(here) != 0
    if between_bars:
        loop.tend()
        assert held(here) == 0
    loop.absorb(here.next_bar())
    assert held(here) == 0
    loop.absorb(here.next_bar())
    assert list(loop.portfolio(here.at).positions) == []
    assert loop.open_orders() == []
    [refused] = [row for _, row in ledger.records(Refusal)]
    assert (refused.intent, refused.code) == ("entry", Reason.KILLED)
    agreed(here, ledger, modes=["KILLED"])


def test_an_entry_that_is_killed_in_doubt_is_closed_by_the_process_that_comes_after(
    scene: tuple[Stage, Late],
) -> None:
    here, late = scene
    ledger = MemoryLedger()
    late.lost.add("*")
    loop = decided(here, here.broker(), ledger)
    loop.kill("Ada", "enough", here.at + 1)
    late.arrive()
    again = live_loop(ledger, Turning(), here.broker(), here)
    again.resume()
    again.absorb(here.next_bar())
    assert held(here) == 0
    again.absorb(here.next_bar())
    assert list(again.portfolio(here.at).positions) == []
    agreed(here, ledger, modes=["KILLED"])


def test_an_entry_that_arrives_late_has_its_stop_before_the_next_bar(
    scene: tuple[Stage, Late],
) -> None:
    here, late = scene
    ledger = MemoryLedger()
    late.lost.add("*")
    loop = decided(here, here.broker(), ledger, turn=2)
    late.arrive()
    assert (held(here) != 0, resting(here)) == (True, [])
    loop.tend()
    assert len(resting(here)) == 2
    before = len(here.account.orders)
    loop.tend()
    assert len(here.account.orders) == before
    assert list(loop.portfolio(here.at).positions) == []  # its bar tells of it
    loop.absorb(here.next_bar())
    assert len(list(loop.portfolio(here.at).positions)) == 1 or not held(here)
    agreed(here, ledger)
    events = [row for _, row in ledger.records(RiskEvent) if row.kind == "in_flight"]
    assert [row.subject.split(" ")[1] for row in events] in (["sent", "filled"], ["sent", "done"])


def test_a_stop_that_never_arrived_is_sent_again_before_the_next_bar(
    scene: tuple[Stage, Late],
) -> None:
    here, late = scene
    broker = opened(here)
    broker.submit(order_at(here, "e"))
    late.lost.add("s")
    broker.submit(stop_at(here, broker, "s", Side.SELL, "d1"))
    late.held.clear()  # it is lost for good
    broker.tend()
    assert resting(here) == []  # it might still arrive
    here.skew[0] += QUICK.window
    broker.tend()
    assert resting(here) == ["s"]


def test_what_the_exchange_never_had_is_not_asked_after_without_end(
    scene: tuple[Stage, Late],
) -> None:
    here, late = scene
    broker, asked = opened(here), list[str]()
    late.lost.add("e")
    with pytest.raises(AmbiguousOutcome):
        broker.submit(order_at(here, "e"))
    find = broker._courier.find

    def counted(tracked: Tracked) -> bool:
        asked.append(tracked.order.id)
        return find(tracked)

    broker._courier.find = counted  # type: ignore[method-assign]
    for _ in range(12):
        here.skew[0] += 2.0
        broker.tend()
    assert 3 <= len(asked) <= 6


def test_stop_of_a_position_when_another_is_entered_then_it_is_off(
    scene: tuple[Stage, Late],
) -> None:
    here, _ = scene
    broker = opened(here)
    broker.submit(order_at(here, "e1"))
    broker.submit(stop_at(here, broker, "s1", Side.SELL, "d1"))
    broker.on_bar(here.next_bar())
    assert resting(here) == ["s1"]
    broker.submit(order_at(here, "x1", Side.SELL, "horizon"))
    assert broker.submit(order_at(here, "e2", Side.SELL, decision="d2")) is None
    broker.submit(stop_at(here, broker, "s2", Side.BUY, "d2"))
    assert resting(here) == ["s2"]
    broker.on_bar(here.next_bar())
    broker.submit(order_at(here, "x2", Side.BUY, "horizon", decision="d2"))
    assert broker.submit(order_at(here, "e3", decision="d3")) is None
    broker.submit(stop_at(here, broker, "s3", Side.SELL, "d3"))
    assert resting(here) == ["s3"]
    assert [order.id for order in broker.open_orders() if order.intent == "stop"] == ["s3"]
    broker.on_bar(here.next_bar())
    assert (held(here), resting(here)) == (Decimal("0.010"), ["s3"])


def test_entry_when_the_stop_before_it_cannot_be_taken_off_then_it_does_not_leave() -> None:
    refuse = [False]

    async def passage(request: Any, call: Any, take: Any) -> Any:
        if refuse[0] and request.method == "DELETE":
            raise Refused(503, -1008, "Server is currently overloaded.")
        return take()

    with stage(passage=passage) as here:
        broker = opened(here)
        broker.submit(order_at(here, "e1"))
        broker.submit(stop_at(here, broker, "s1", Side.SELL, "d1"))
        broker.on_bar(here.next_bar())
        broker.submit(order_at(here, "x1", Side.SELL, "horizon"))
        refuse[0] = True
        refused = broker.submit(order_at(here, "e2", decision="d2"))
        assert refused is not None
        assert refused.code == Reason.NOT_PLACED
        broker.submit(stop_at(here, broker, "s2", Side.SELL, "d2"))
        refuse[0] = False
        here.skew[0] += broker._gateway.left_alone()
        broker.on_bar(here.next_bar())
        assert (held(here), resting(here)) == (0, [])


def test_stop_of_a_position_when_the_process_fell_before_the_next_entry_left_then_it_is_off(
    scene: tuple[Stage, Late],
) -> None:
    here, _ = scene
    broker, rows = opened(here), [*books.opening("live", "USDT", CASH, here.at)]
    sent = [order_at(here, "e1"), stop_at(here, broker, "s1", Side.SELL, "d1")]
    for order in sent:
        broker.submit(order)
    filled = [row for row in broker.on_bar(here.next_bar()) if isinstance(row, Fill)]
    out = order_at(here, "x1", Side.SELL, "horizon")
    broker.submit(out)
    # on the ledger, and never sent
    lost = [
        order_at(here, "e2", decision="d2"), stop_at(here, broker, "s2", Side.SELL, "d2"),
    ]  # fmt: skip
    again = here.broker()
    again.restore([*rows, *sent, *filled, broker._last[PERP], out, *lost])
    again.on_bar(here.next_bar())
    assert (held(here), resting(here)) == (0, [])


def test_entry_that_is_refused_sends_no_stop(scene: tuple[Stage, Late]) -> None:
    here, _ = scene
    broker = opened(here)
    broker.submit(order_at(here, "e1"))
    broker.on_bar(here.next_bar())
    refused = broker.submit(order_at(here, "e2", decision="d2"))
    assert refused is not None  # something is held
    broker.submit(stop_at(here, broker, "s2", Side.SELL, "d2"))
    assert resting(here) == []
    broker.on_bar(here.next_bar())
    assert (resting(here), broker.open_orders()) == ([], [])


def test_what_closes_a_withdrawn_entry_goes_on_until_nothing_is_left(
    scene: tuple[Stage, Late],
) -> None:
    here, late = scene
    broker = opened(here)
    late.quantities = {"e-x": "0.004", "e-x1": "0.003"}
    broker.submit(order_at(here, "e"))
    broker.cancel("e")
    assert held(here) == Decimal("0.006")
    broker.tend()
    broker.tend()
    assert held(here) == 0
    rows = [row for row in broker.on_bar(here.next_bar()) if isinstance(row, Fill)]
    assert [(row.order_id, row.qty) for row in rows] == [
        ("e", Decimal("0.010")), ("e-x", Decimal("0.004")), ("e-x1", Decimal("0.003")),
        ("e-x2", Decimal("0.003")),
    ]  # fmt: skip
    assert broker.holdings().cash == here.account.perp.balances["USDT"]


def test_an_order_that_comes_while_it_is_asked_after_is_not_given_up(
    scene: tuple[Stage, Late],
) -> None:
    here, late = scene
    broker = opened(here)
    late.lost.add("e")
    with pytest.raises(AmbiguousOutcome):
        broker.submit(order_at(here, "e"))
    here.skew[0] += QUICK.window / 2

    find = broker._courier.find

    def slow(tracked: Tracked) -> bool:
        """It is answered, and only then taken; the answer is long on its way."""
        found = find(tracked)
        late.arrive()
        here.skew[0] += QUICK.window
        return found

    broker._courier.find = slow  # type: ignore[method-assign]
    with pytest.raises(AmbiguousOutcome):
        broker.status("e")
    assert broker.status("e") is OrderStatus.FILLED


def test_entries_in_doubt_count_for_the_account(scene: tuple[Stage, Late]) -> None:
    here, late = scene
    client = here.client()
    gateway = Gateway(client, [PERP, ETH], "USDT", monotonic=here.monotonic)
    gateway.open()
    gateway.settle_on_one()
    instruments = {symbol: instrument_of(client.markets[symbol]) for symbol in (PERP, ETH)}
    bounds = replace(WIDE, account=Decimal(1_500))
    broker = CcxtBroker(
        gateway, instruments, LastGuard(bounds, str, here.monotonic), waits=QUICK,
        monotonic=here.monotonic, sleep=here.sleep,
    )  # fmt: skip
    opened(here, broker)
    eth = broker._gateway.quote(ETH).mid
    late.lost.add("e")
    with pytest.raises(AmbiguousOutcome):
        broker.submit(order_at(here, "e"))  # about a thousand
    # The price of each is its own, also where no bar of it was seen.
    seen = broker._last.pop(PERP)
    worth = broker._worth({PERP: Decimal(0), ETH: Decimal(1)})
    assert float(worth[PERP]) == pytest.approx(0.01 * seen.close, rel=0.05)
    assert float(worth[ETH]) == pytest.approx(float(eth), rel=0.05)
    broker._last |= {PERP: seen, ETH: replace(seen, symbol=ETH, close=float(eth))}
    qty = (Decimal(900) / eth).quantize(Decimal("0.01"))
    refused = broker.submit(replace(order_at(here, "f", decision="d2", qty=qty), symbol=ETH))
    assert refused is not None
    assert (refused.code, "of the account" in refused.rule) == (Reason.RISK_VETO, True)


def test_a_first_fill_is_booked_however_long_ago_the_first_order_was(
    scene: tuple[Stage, Late],
) -> None:
    here, late = scene
    broker = opened(here)
    late.lost.add("e")
    with pytest.raises(AmbiguousOutcome):
        broker.submit(order_at(here, "e"))
    late.held.clear()
    here.skew[0] += QUICK.window
    assert broker.status("e").value == "unknown"
    here.pass_to(here.at + 8 * 86_400_000)
    broker.on_bar(here.next_bar())
    assert broker.submit(order_at(here, "f", decision="d2")) is None
    assert [row.order_id for row in broker.on_bar(here.next_bar()) if isinstance(row, Fill)] == [
        "f"
    ]


def test_stop_that_fired_unheard_when_another_entry_leaves_then_both_have_what_is_theirs(
    scene: tuple[Stage, Late],
) -> None:
    here, _ = scene
    broker = opened(here)
    broker.submit(order_at(here, "e1"))
    broker.on_bar(here.next_bar())
    last = Decimal(str(broker._last[PERP].close)).quantize(Decimal("0.1"))
    near = {"type": OrderType.STOP, "trigger": last - 20}
    broker.submit(order_at(here, "s1", Side.SELL, "stop", **near))
    assert resting(here) == ["s1"]
    while held(here):  # until it fires
        here.pass_to(here.at + 2_500)
        here.accounts.exchange.now()
    broker.submit(order_at(here, "x1", Side.SELL, "horizon"))
    assert broker.submit(order_at(here, "e2", Side.SELL, decision="d2")) is None
    broker.submit(stop_at(here, broker, "s2", Side.BUY, "d2"))
    assert resting(here) == ["s2"]
    rows = [broker.on_bar(here.next_bar()) for _ in range(2)]
    told = [row.order_id for each in rows for row in each if isinstance(row, Fill)]
    assert [name for name in told if name != "e1"] == ["s1", "e2"]
    assert (held(here), resting(here)) == (Decimal("-0.010"), ["s2"])
    assert broker.holdings().cash == here.account.perp.balances["USDT"]


def test_entry_that_the_venue_has_and_has_not_filled_keeps_its_stop_and_lets_in_no_other(
    scene: tuple[Stage, Late],
) -> None:
    here, _ = scene
    broker = opened(here)
    here.accounts.exchange.fated = lambda account, order: Fate(after_ms=STEP + 60_000)
    broker.submit(order_at(here, "e1"))
    broker.submit(stop_at(here, broker, "s1", Side.SELL, "d1"))
    broker.on_bar(here.next_bar())
    assert held(here) == 0
    refused = broker.submit(order_at(here, "e2", decision="d2"))
    assert refused is not None
    assert refused.code == Reason.IN_FLIGHT
    here.accounts.exchange.fated = lambda account, order: Fate()
    broker.on_bar(here.next_bar())
    assert (held(here), resting(here)) == (Decimal("0.010"), ["s1"])


def test_stop_of_a_newer_entry_stays_known_when_an_older_ones_fills_come_after_it(
    scene: tuple[Stage, Late],
) -> None:
    here, _ = scene
    broker = here.broker()
    older, qty = order_at(here, "e1"), Decimal("0.010")
    stop = order_at(
        here, "s2", Side.BUY, "stop", type=OrderType.STOP, trigger=Decimal(200_000), decision="d2"
    )
    newer, stop = (
        replace(order, created_at=here.at + STEP)
        for order in (order_at(here, "e2", Side.SELL, decision="d2"), stop)
    )
    refused = Refusal(
        "live", PERP, here.at, Reason.UNFILLED, "fills in the next bar", "300 s", "entry", "d1"
    )

    def filled(number: int, name: str, side: Side, intent: str) -> Fill:
        zero, price = Decimal(0), Decimal(100_000)
        return Fill(fill_id("live", "BTCUSDT", number), name, "live", PERP, side, qty, price,
                    here.at, zero, zero, zero, price, maker=False, intent=intent)  # fmt: skip

    broker.restore([
        *books.opening("live", "USDT", CASH, here.at), older, refused, newer, stop,
        filled(1, "e1", Side.BUY, "entry"), filled(2, "e1-x", Side.SELL, "risk"),
        filled(3, "e2", Side.SELL, "entry"),
    ])  # fmt: skip
    assert list(broker._tracking.live) == ["s2"]
    assert broker._withdrawing.holds(stop)
