"""Matching at the venue: money moves only by fills, fees and funding, whenever somebody looks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.errors import UsageError
from domain.market import Market
from domain.trading import ZERO, Side
from execution.funding import INTERVAL_MS
from execution.money import dec, money, to_tick
from sim.venue.accounts import Account, Ledger
from sim.venue.market import Markets, VenueClock, next_funding
from sim.venue.matching import Exchange
from sim.venue.orders import CANCELED, EXPIRED, FILLED, FINISHED, REJECTED, Order
from sim.venue.refusals import Refused
from sim.venue.tape import STEP_MS
from sim.worlds import DemoMarket
from tests.venue_server import markets

START = {"USDT": Decimal(100_000), "BTC": Decimal(1)}
MADE = markets(speed=0.0)  # time is what each test's exchange says
BEGAN = MADE.clock.now()
Step = tuple[int, str, int, int, int]

STEPS = st.lists(
    st.tuples(
        st.integers(0, 1_500_000),  # ms until it
        st.sampled_from(["market", "limit", "ioc", "stop", "aim", "reduce", "cancel", "sell"]),
        st.integers(1, 60),  # lots
        st.integers(-60, 60),  # ticks of a basis point from the price
        st.sampled_from([0, 1]),
    ),
    min_size=1, max_size=14,
)  # fmt: skip


_CONDITIONAL = {
    "stop": ("STOP_LOSS", "STOP_MARKET"), "aim": ("TAKE_PROFIT_LIMIT", "TAKE_PROFIT"),
}  # fmt: skip


def exchange(account: Account | None = None, made: Markets = MADE) -> Exchange:
    return Exchange(made, Ledger({"main": account or Account.funded("main", START, ["USDT"])}))


def price_of(at: int) -> Decimal:
    return dec(MADE.tape(MADE.listing("spot", "BTCUSDT")).last(at)[1])


def order(
    venue: Exchange, at: int, market: Market, side: Side, kind: str, qty: str | Decimal, **more: Any
) -> Order:
    venue.advance(at)
    tif = more.pop("tif", "GTC")
    made = Order(venue.next_number(), market, "BTCUSDT", more.pop("client", ""), side, kind, tif,
                 Decimal(qty), at, at, **more)  # fmt: skip
    made.client_id = made.client_id or f"c{made.number}"
    return made


def placed(venue: Exchange, *words: Any, **named: Any) -> Order:
    made = order(venue, *words, **named)
    venue.place(venue.ledger.accounts["main"], made)
    return made


def act(venue: Exchange, at: int, market: Market, step: Step) -> None:
    _, what, lots, away, side_at = step
    side, account = (Side.BUY, Side.SELL)[side_at], venue.ledger.accounts["main"]
    rules = MADE.listing(market, "BTCUSDT").instrument
    qty, spot = Decimal(lots) / 1_000, market == "spot"
    level = to_tick(price_of(at) * (1 + Decimal(away) / 10_000), rules.tick)
    if what == "cancel":
        venue.advance(at)
        for each in account.open_orders()[:1]:
            venue.cancel(account, each, at)
        return
    kind, more = "MARKET", dict[str, Any]()
    if what in ("limit", "ioc"):
        kind, more = "LIMIT", {"price": level, "tif": "IOC" if what == "ioc" else "GTC"}
    elif what in ("stop", "aim"):
        on_spot, on_perp = _CONDITIONAL[what]
        kind, more = on_spot if spot else on_perp, {"stop": level, "algo": not spot}
        if what == "aim":
            more["price"] = level
    elif what == "reduce" and not spot:
        kind, more = "LIMIT", {"price": level, "reduce_only": True}
    with contextlib.suppress(Refused):
        placed(venue, at, market, side, kind, qty, **more)


def played(
    market: Market, steps: Sequence[Step], look: Callable[[Exchange, int], None]
) -> Exchange:
    venue, at = exchange(), BEGAN
    for step in steps:
        for instant in range(at, at + step[0], 60_001):
            look(venue, instant)
        at += step[0]
        act(venue, at, market, step)
        check(venue)
    venue.advance(at + 2 * 3_600_000)
    check(venue)
    return venue


def check(venue: Exchange) -> None:
    account = venue.ledger.accounts["main"]
    check_spot(account)
    check_perp(account)
    by_order: dict[int, Decimal] = {}
    for trade in account.trades:
        by_order[trade.order] = by_order.get(trade.order, ZERO) + trade.qty
    for each in account.orders.values():
        assert by_order.get(each.number, ZERO) == each.filled <= each.qty
        assert each.open == (each.number in account.working)
        ended = {CANCELED, EXPIRED, FILLED, FINISHED, REJECTED, "TRIGGERED"}
        assert each.open or each.status in ended
        assert (each.status == FILLED) == (each.left == 0)


def check_spot(account: Account) -> None:
    expected = dict(START)
    for trade in account.trades:
        if trade.market == "spot":
            cost = money(trade.qty * trade.price)
            expected["BTC"] += trade.side.sign * trade.qty
            expected["USDT"] -= trade.side.sign * cost
            expected[trade.fee_asset] -= trade.fee
            rate = Decimal("0.001") * (trade.qty if trade.fee_asset == "BTC" else cost)
            assert abs(trade.fee - rate) <= Decimal("2e-8")
    locked = dict.fromkeys(START, ZERO)
    for each in account.open_orders("spot"):
        locked["USDT" if each.side is Side.BUY else "BTC"] += each.locked
    for asset, balance in account.spot.balances.items():
        assert balance.free >= 0
        assert balance.locked == locked[asset]
        assert balance.free + balance.locked == expected[asset]


def check_perp(account: Account) -> None:
    trades = [trade for trade in account.trades if trade.market == "perp"]
    held = account.perp.of("BTCUSDT")
    paid = sum((trade.side.sign * trade.qty * trade.price for trade in trades), ZERO)
    realised = sum((trade.realised for trade in trades), ZERO)
    fees = sum((trade.fee for trade in trades), ZERO)
    funding = sum((row.amount for row in account.income if row.kind == "FUNDING_FEE"), ZERO)
    saved = sum((row.amount for row in account.income if row.kind == "INSURANCE_CLEAR"), ZERO)
    assert held.qty == sum((trade.side.sign * trade.qty for trade in trades), ZERO)
    assert held.cost == paid + realised
    assert account.perp.balances["USDT"] == START["USDT"] + realised - fees + funding + saved
    assert (
        sum((row.amount for row in account.income), START["USDT"])
        == (account.perp.balances["USDT"])
    )


SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.long
@pytest.mark.parametrize("market", ["spot", "perp"])
@SLOW
@given(steps=STEPS)
def test_money_is_kept_and_nothing_depends_on_when_somebody_looks(
    market: Market, steps: list[Step]
) -> None:
    asked_often = played(market, steps, lambda venue, at: venue.advance(at))
    asked_rarely = played(market, steps, lambda venue, at: None)
    assert asked_often.ledger == asked_rarely.ledger
    state = json.loads(json.dumps(asked_often.ledger.state()))
    assert Ledger.restored(state) == asked_often.ledger


def test_a_limit_is_filled_by_prints_beyond_it_only() -> None:
    venue, tape = exchange(), MADE.tape(MADE.listing("spot", "BTCUSDT"))
    prints = tape.prints(BEGAN + 1, BEGAN + 3_600_000)
    low = dec(float(prints.price.min()))
    touched = placed(venue, BEGAN, "spot", Side.BUY, "LIMIT", "0.01", price=low)
    beyond = placed(venue, BEGAN, "spot", Side.BUY, "LIMIT", "0.0001", price=low + Decimal("0.01"))
    venue.advance(BEGAN + 3_600_000)
    assert touched.status == "NEW"
    assert beyond.status == FILLED
    first = int(prints.at[(prints.price < float(low) + 0.009).argmax()])
    assert beyond.updated_at == first
    [trade] = venue.ledger.accounts["main"].trades
    assert (trade.price, trade.maker) == (low + Decimal("0.01"), True)


def test_orders_share_what_was_printed() -> None:
    venue = exchange()
    level = to_tick(price_of(BEGAN) * Decimal("1.001"), Decimal("0.01"))
    for _ in range(2):
        placed(venue, BEGAN, "spot", Side.SELL, "LIMIT", "0.5", price=level)
    venue.advance(BEGAN + 12 * 3_600_000)
    filled: dict[int, Decimal] = {}
    for trade in venue.ledger.accounts["main"].trades:
        filled[trade.at] = filled.get(trade.at, ZERO) + trade.qty
    assert sum(filled.values()) == 1
    tape = MADE.tape(MADE.listing("spot", "BTCUSDT"))
    for at, qty in filled.items():
        assert qty <= dec(float(tape.prints(at, at + 1).qty[0]))


@pytest.mark.parametrize(
    ("side", "kind", "low", "at", "high"),
    [
        (Side.SELL, "STOP_LOSS", True, True, False), (Side.BUY, "STOP_MARKET", False, True, True),
        (Side.SELL, "TAKE_PROFIT", False, True, True),
        (Side.BUY, "TAKE_PROFIT_MARKET", True, True, False),
    ],
)  # fmt: skip
def test_a_trigger_is_reached_from_its_side_and_at_its_price(
    side: Side, kind: str, low: bool, at: bool, high: bool
) -> None:
    stop = Order(1, "spot", "BTCUSDT", "c", side, kind, "GTC", Decimal(1), 0, 0, stop=Decimal(100))
    reached = [stop.reached(Decimal(price)) for price in ("99.9", "100", "100.1")]
    assert reached == [low, at, high]


def test_a_stop_is_triggered_by_the_first_print_beyond_it_and_pays_the_book() -> None:
    account = Account.funded("main", START, ["USDT"])
    venue = exchange(account)
    placed(venue, BEGAN, "perp", Side.BUY, "MARKET", "0.02")
    level = to_tick(price_of(BEGAN) - 40, Decimal("0.1"))
    stop = placed(venue, BEGAN, "perp", Side.SELL, "STOP_MARKET", "0.02", stop=level, algo=True,
                  reduce_only=True)  # fmt: skip
    venue.advance(BEGAN + 6 * 3_600_000)
    tape = MADE.tape(MADE.listing("perp", "BTCUSDT"))
    prints = tape.prints(BEGAN + 1, BEGAN + 6 * 3_600_000)
    at = int(prints.at[(prints.price <= float(level)).argmax()])
    child = account.orders[stop.child]
    assert (stop.status, stop.triggered_at, child.placed_at) == (FINISHED, at, at)
    assert child.average == dec(MADE.book(MADE.listing("perp", "BTCUSDT"), 5, at).bids[0][0])
    assert not account.perp.of("BTCUSDT").qty
    level = to_tick(price_of(venue.ledger.at) - 10, Decimal("0.1"))
    late = placed(venue, venue.ledger.at, "perp", Side.SELL, "STOP_MARKET", "0.02", stop=level,
                  algo=True, reduce_only=True)  # fmt: skip
    venue.advance(venue.ledger.at + 6 * 3_600_000)
    assert (late.status, late.why) == (REJECTED, "ReduceOnly Order is rejected.")


def test_funding_is_paid_at_its_stamps_by_what_is_then_held() -> None:
    venue = exchange()
    account = venue.ledger.accounts["main"]
    stamp = (BEGAN // INTERVAL_MS + 1) * INTERVAL_MS
    placed(venue, stamp - STEP_MS, "perp", Side.SELL, "MARKET", "0.1")
    venue.advance(stamp - 1)
    assert not [row for row in account.income if row.kind == "FUNDING_FEE"]
    placed(venue, stamp, "perp", Side.SELL, "MARKET", "0.1")  # after the stamp
    venue.advance(stamp + INTERVAL_MS)
    paid = [row for row in account.income if row.kind == "FUNDING_FEE"]
    listing = MADE.listing("perp", "BTCUSDT")
    for row, qty, at in zip(paid, ("0.1", "0.2"), (stamp, stamp + INTERVAL_MS), strict=True):
        rate = dec(MADE.funding_rate(listing, at))
        assert (row.at, row.amount) == (at, money(price_of(at) * Decimal(qty) * rate))


def test_funding_of_a_contract_that_is_settled_every_four_hours_is_paid_then() -> None:
    four = 4 * 3_600_000
    made = Markets({"BTC/USDT": DemoMarket(7)}, VenueClock(BEGAN, lambda: 0, 0.0), funding_hours=4)
    listing = made.listing("perp", "BTCUSDT")
    venue = exchange(made=made)
    first = (BEGAN // four + 1) * four
    placed(venue, first - STEP_MS, "perp", Side.SELL, "MARKET", "0.1")
    venue.advance(first + 2 * four)
    paid = [row for row in venue.ledger.accounts["main"].income if row.kind == "FUNDING_FEE"]
    assert [row.at for row in paid] == [first, first + four, first + 2 * four]
    assert next_funding(listing, first) == first + four


def test_an_account_whose_margin_is_used_up_is_closed_and_owes_nothing() -> None:
    account = Account.funded("main", {"USDT": Decimal(60)}, ["USDT"])
    venue = exchange(account)
    account.perp.of("BTCUSDT").leverage = 150
    placed(venue, BEGAN, "perp", Side.BUY, "MARKET", "0.06")
    rests = placed(venue, BEGAN, "perp", Side.SELL, "LIMIT", "0.06", reduce_only=True,
                   price=to_tick(price_of(BEGAN) * 2, Decimal("0.1")))  # fmt: skip
    venue.advance(BEGAN + 12 * 3_600_000)
    closing = list(account.orders.values())[-1]
    assert closing.client_id.startswith("autoclose-")
    assert (rests.status, account.perp.of("BTCUSDT").qty) == (CANCELED, 0)
    assert account.perp.balances["USDT"] >= 0
    fees = [trade.fee / (trade.qty * trade.price) for trade in account.trades]
    assert float(fees[-1]) == pytest.approx(0.012, rel=1e-6)
    assert (
        sum((row.amount for row in account.income), Decimal(60)) == (account.perp.balances["USDT"])
    )


def test_margin_is_tied_up_by_the_larger_side() -> None:
    account = Account.funded("main", {"USDT": Decimal(1_000)}, ["USDT"])
    venue = exchange(account)
    level = to_tick(price_of(BEGAN) * Decimal("0.9"), Decimal("0.1"))
    high = to_tick(price_of(BEGAN) * Decimal("1.1"), Decimal("0.1"))
    placed(venue, BEGAN, "perp", Side.BUY, "LIMIT", "0.15", price=level)
    placed(venue, BEGAN, "perp", Side.SELL, "LIMIT", "0.1", price=high)  # costs nothing more
    with pytest.raises(Refused) as told:
        placed(venue, BEGAN, "perp", Side.BUY, "LIMIT", "0.1", price=level)
    assert told.value.code == -2019
    account.perp.of("BTCUSDT").leverage = 100
    with pytest.raises(Refused) as told:
        placed(venue, BEGAN, "perp", Side.BUY, "LIMIT", "12", price=level)
    assert told.value.code == -2027


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="venue state"):
        Ledger.restored({"accounts": {"main": {"name": 1}}})
    account = Account.funded("main", START, ["USDT"])
    account.perp.of("XUSDT").qty = Decimal(1)
    with pytest.raises(UsageError, match="XUSDT"):
        exchange(account)


def test_a_stop_limit_that_must_be_filled_whole_is_filled_whole_or_not_at_all() -> None:
    venue, level = exchange(), to_tick(price_of(BEGAN) - 20, Decimal("0.01"))
    small, large = (
        placed(venue, BEGAN, "spot", Side.SELL, "STOP_LOSS_LIMIT", qty, stop=level,
               price=level - 40, tif="FOK")
        for qty in ("0.001", "0.99")
    )  # fmt: skip
    thin = placed(venue, BEGAN, "spot", Side.BUY, "STOP_LOSS_LIMIT", "0.5", tif="FOK",
                  stop=price_of(BEGAN) + 20, price=price_of(BEGAN) + 20)  # fmt: skip
    venue.advance(BEGAN + 12 * 3_600_000)
    assert small.status == FILLED
    assert large.filled in (0, large.qty)
    assert (thin.status, thin.filled) == (EXPIRED, 0)
    assert venue.ledger.accounts["main"].spot.of("USDT").locked == 0
