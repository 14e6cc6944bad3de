"""Fills and settlements that a venue tells of late, or not in one answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import ccxt
import pytest
from structlog.testing import capture_logs

from domain.errors import AmbiguousOutcome
from domain.trading import Fill, OrderStatus, OrderType, Posting, Side
from execution import books
from execution.adapters.ccxt_broker import CcxtBroker
from execution.adapters.gateway import Gateway
from execution.adapters.guard import LastGuard
from sim.venue.orders import Income
from sim.venue.refusals import Refused
from tests.live_scenes import CASH, PERP, QUICK, STEP, WIDE, Stage, order_at, stage
from tests.venue_server import ETH, Faults

HOUR = 3_600_000
OTHER = f"{ETH}:USDT"


@pytest.fixture
def here() -> Iterator[Stage]:
    with stage() as made:
        yield made


def opened(here: Stage) -> CcxtBroker:
    broker = here.broker()
    broker.restore(books.opening("live", "USDT", CASH, here.at))
    broker.on_bar(here.next_bar())
    return broker


def settled(
    here: Stage, at: int, number: int, name: str = "BTCUSDT", asset: str = "USDT"
) -> Income:
    row = Income(number, "FUNDING_FEE", name, asset, Decimal(-number), at)
    here.account.income.append(row)
    here.account.income.sort(key=lambda each: each.at)
    if asset == "USDT":
        here.account.perp.balances["USDT"] += row.amount
    return row


def paid(lines: list[Posting]) -> list[Decimal]:
    return [line.amount for line in lines if line.book == "funding"]


def until(here: Stage, broker: CcxtBroker, at: int) -> list[Posting]:
    """Funding of the bars up to the one that closes after an instant."""
    lines: list[Posting] = []
    while here.at <= at:
        bar = here.next_bar()
        lines += broker.funding(bar)
        broker.on_bar(bar)
    return lines


def test_settlement_when_it_is_written_late_then_it_is_booked_once(here: Stage) -> None:
    broker = opened(here)
    at = (here.at // HOUR + 1) * HOUR
    settled(here, at, 2)
    first = until(here, broker, at + STEP)
    assert paid(first) == [2]
    settled(here, at - 60_000, 1)  # older than one that is known
    settled(here, at, 3)  # and one of the same instant
    later = until(here, broker, at + HOUR + STEP)
    assert paid(later) == [1, 3]
    assert paid(until(here, broker, at + 2 * HOUR + STEP)) == []
    assert broker.holdings().cash == here.account.perp.balances["USDT"]

    again = here.broker()
    again.restore([*books.opening("live", "USDT", CASH, at - HOUR), *first, *later])
    assert paid(until(here, again, here.at + HOUR)) == []
    assert again.holdings().cash == here.account.perp.balances["USDT"]


def test_settlement_when_it_was_booked_without_its_number_then_it_is_known_all_the_same(
    here: Stage,
) -> None:
    at = (here.at // HOUR + 1) * HOUR
    settled(here, at, 2)
    old = books.of_funding("live", "USDT", PERP, at, Decimal(2))
    broker = here.broker()
    broker.restore([*books.opening("live", "USDT", CASH, here.at), *old])
    assert paid(until(here, broker, at + STEP)) == []


def test_settlement_when_it_is_older_than_the_account_then_it_is_not_booked(here: Stage) -> None:
    settled(here, here.at - 60_000, 1)
    here.account.perp.balances["USDT"] = CASH  # the account was opened with what was there
    broker = opened(here)
    at = (here.at // HOUR + 1) * HOUR
    settled(here, at, 2)
    assert paid(until(here, broker, at + STEP)) == [2]


def test_settlements_when_a_page_ends_with_what_is_not_ours_then_the_next_is_asked_for(
    here: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("execution.adapters.gateway.PAGE", 3)
    gateway, at = here.gateway(), here.at
    for number, (name, asset) in enumerate(
        [("BTCUSDT", "USDT"), ("ETHUSDT", "USDT"), ("BTCUSDT", "BNB"), ("BTCUSDT", "USDT"),
         ("BTCUSDT", "USDT"), ("BTCUSDT", "USDT")], start=1,
    ):  # fmt: skip
        # the fourth shares its instant with the last of the first page
        settled(here, at + (number - (number > 3)) * 1_000, number, name, asset)
    here.pass_to(at + HOUR)
    assert [row.number for row in gateway.funding(at)] == ["1", "4", "5", "6"]


def test_difference_when_it_is_asked_about_again_then_nobody_waits_after_the_last_time(
    here: Stage,
) -> None:
    broker = opened(here)
    here.client().create_order(PERP, "market", "buy", 0.003)  # by somebody else
    slept: list[float] = []
    broker._statement._sleep = slept.append
    assert broker.holdings().quantities[PERP] == Decimal("0.003")
    assert slept == [0.0, QUICK.pause, 2 * QUICK.pause]


def test_entry_when_it_is_withdrawn_then_the_fills_of_its_symbol_alone_are_asked_for() -> None:
    faults = Faults()
    with stage(faults=faults) as here:
        gateway = Gateway(here.client(), [PERP, OTHER], "USDT", monotonic=here.monotonic)
        gateway.open()
        listed = {PERP: here.instrument(), OTHER: replace(here.instrument(), symbol=OTHER)}
        guard = LastGuard(WIDE, str, here.monotonic)
        broker = CcxtBroker(gateway, listed, guard, waits=QUICK, monotonic=here.monotonic)
        broker.restore(books.opening("live", "USDT", CASH, here.at))
        broker.on_bar(here.next_bar())
        for symbol in (PERP, OTHER):
            broker._statement.begin(symbol, here.at)
        broker.submit(order_at(here, "e"))
        faults.seen.clear()
        broker.cancel("e")
        asked = [path for path in faults.seen if "userTrades" in path]
        assert len(asked) == 1
        assert "symbol=BTCUSDT" in asked[0]


async def lost(request: Any, call: Any, take: Any) -> Any:
    """Take orders, and lose the answers."""
    answer = take()
    if request.method == "POST":
        raise Refused(503, -1007, "Timeout waiting for response from backend server.")
    return answer


def unknown(*words: Any) -> Any:
    raise ccxt.OrderNotFound('binance {"code":-2013,"msg":"Order does not exist."}')


def test_fill_when_the_venue_does_not_tell_whose_it_is_while_ours_is_in_doubt_then_it_waits(
    here: Stage,
) -> None:
    broker = opened(here)
    here.accounts.passage = lost
    client = broker._gateway._client
    straight, client.fetch_order = client.fetch_order, unknown
    with pytest.raises(AmbiguousOutcome):
        broker.submit(order_at(here, "cv1"))
    with capture_logs() as logs:
        assert broker.on_bar(here.next_bar()) == []
        held = broker.holdings()
    assert (held.cash, held.quantities) == (None, {})  # nothing that could differ
    assert "foreign_fill" not in [line["event"] for line in logs]
    client.fetch_order = straight
    assert broker.status("cv1") is OrderStatus.FILLED
    [fill] = broker.on_bar(here.next_bar())
    assert isinstance(fill, Fill)
    assert fill.order_id == "cv1"
    assert broker.holdings().cash == here.account.perp.balances["USDT"]


def test_fill_when_a_stop_whose_answer_was_lost_made_it_then_it_is_the_stops(here: Stage) -> None:
    broker = opened(here)
    broker.submit(order_at(here, "e"))
    broker.on_bar(here.next_bar())
    here.accounts.passage = lost
    client = broker._gateway._client
    straight, client.fetch_order = client.fetch_order, unknown
    last = Decimal(str(broker._last[PERP].close)).quantize(Decimal("0.1"))
    stop = order_at(here, "s", Side.SELL, "stop", type=OrderType.STOP, trigger=last - 5)
    assert broker.submit(stop) is None  # nobody waits for it
    while here.account.perp.of("BTCUSDT").qty:
        assert broker.on_bar(here.next_bar()) == []
        here.skew[0] -= 6.0  # what it waits is not what is looked at here
    client.fetch_order = straight
    rows = [row for _ in range(2) for row in broker.on_bar(here.next_bar())]
    assert [row.order_id for row in rows if isinstance(row, Fill)] == ["s"]
    assert broker.holdings().cash == here.account.perp.balances["USDT"]


def test_fill_when_a_stranger_trades_then_it_is_one_as_soon_as_nothing_of_ours_is_in_doubt(
    here: Stage,
) -> None:
    broker = opened(here)
    broker.submit(order_at(here, "e"))
    broker.on_bar(here.next_bar())
    here.client().create_order(PERP, "market", "buy", 0.003)  # by somebody else
    before = here.accounts.passage

    async def never(request: Any, call: Any, take: Any) -> Any:
        if request.method == "POST":
            raise Refused(503, -1007, "Timeout waiting for response from backend server.")
        return take()

    here.accounts.passage = never
    with pytest.raises(AmbiguousOutcome):
        broker.submit(order_at(here, "x", Side.SELL, "manual"))
    here.accounts.passage = before
    assert broker.on_bar(here.next_bar()) == []
    assert broker.holdings().cash is None  # not known yet
    here.skew[0] += 6.0
    assert broker.status("x") is OrderStatus.HELD  # it never arrived
    assert broker.on_bar(here.next_bar()) == []  # it leaves
    assert broker.holdings().quantities[PERP] == Decimal("0.013")  # a difference, which halts
    [fill] = broker.on_bar(here.next_bar())
    assert isinstance(fill, Fill)
    assert fill.order_id == "x"
    assert here.account.perp.of("BTCUSDT").qty == Decimal("0.003")  # the stranger's
