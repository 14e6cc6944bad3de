"""The live broker at the local exchange, by ccxt as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import ccxt
import pytest
from structlog.testing import capture_logs

from data.instruments import instrument_for
from domain.decision import Reason
from domain.errors import AmbiguousOutcome, ServiceUnreachable, SettingError
from domain.market import MarginTier
from domain.trading import Fill, OrderStatus, OrderType, Posting, Refusal, Side
from execution import books
from execution.adapters.answers import verdict, words_of
from execution.adapters.ccxt_broker import CcxtBroker
from execution.adapters.guard import Bounds
from execution.checks import check_broker
from execution.funding import INTERVAL_MS
from sim.venue.orders import Trade
from sim.venue.refusals import Refused
from storage.memory import MemoryLedger
from tests.live_scenes import (
    CASH,
    PERP,
    STEP,
    WIDE,
    Stage,
    Turning,
    agreed,
    live_loop,
    live_states,
    order_at,
    stage,
    wait_for,
)
from tests.live_scenes import live_checks as laws


@pytest.fixture
def here() -> Iterator[Stage]:
    with stage() as made:
        yield made


def opened(here: Stage, **more: Any) -> CcxtBroker:
    """A broker with its account opened, that has seen a bar."""
    broker = here.broker(**more)
    broker.restore(books.opening("live", "USDT", CASH, here.at))
    broker.on_bar(here.next_bar())
    return broker


def near(here: Stage, broker: CcxtBroker) -> Decimal:
    """The last close, on the tick."""
    return Decimal(str(broker._last[PERP].close)).quantize(Decimal("0.1"))


def filled(rows: list[Fill | Refusal]) -> list[tuple[str, str]]:
    return [(row.order_id, row.intent) for row in rows if isinstance(row, Fill)]


def test_a_market_order_becomes_a_fill_and_the_ledgers_cash_is_the_exchanges(here: Stage) -> None:
    broker = opened(here)
    order = order_at(here, "cv1")
    for _ in range(2):
        assert broker.submit(order) is None
    assert broker.status("cv1") is OrderStatus.FILLED
    assert (broker.holdings().quantities[PERP], broker.holdings().cash) == (0, CASH)
    [fill] = broker.on_bar(here.next_bar())
    assert isinstance(fill, Fill)
    assert (fill.qty, fill.order_id, fill.intent, fill.maker) == (order.qty, "cv1", "entry", False)
    assert fill.price > fill.reference
    assert fill.spread + fill.slippage == (fill.price - fill.reference) * fill.qty
    held = broker.holdings()
    assert held.cash == here.account.perp.balances["USDT"] == CASH - fill.fee
    assert held.quantities == {PERP: Decimal("0.010")}
    assert (broker.status("cv1"), broker.open_orders()) == (OrderStatus.DONE, [])
    assert len(here.account.orders) == 1


def test_stop_and_target_follow_their_entry_and_leave_with_the_position(here: Stage) -> None:
    broker = opened(here)
    last = near(here, broker)
    for intent, more in (
        ("stop", {"type": OrderType.STOP, "trigger": last - 40}),
        ("target", {"type": OrderType.LIMIT, "price": last + 40}),
    ):
        early = order_at(here, f"early-{intent}", Side.SELL, intent, decision="d0", **more)
        assert broker.submit(early) is None
        assert here.account.orders == {}  # the exchange takes nothing that reduces nothing
    assert broker.submit(order_at(here, "e")) is None
    broker.submit(order_at(here, "s", Side.SELL, "stop", type=OrderType.STOP, trigger=last - 40))
    broker.submit(order_at(here, "t", Side.SELL, "target", type=OrderType.LIMIT, price=last + 40))
    assert [order.client_id for order in here.account.open_orders()] == ["s", "t"]
    rows = [row for _ in range(60) for row in broker.on_bar(here.next_bar())]
    assert filled(rows) in ([("e", "entry"), ("s", "stop")], [("e", "entry"), ("t", "target")])
    assert broker.open_orders() == []
    assert here.account.open_orders() == []
    assert broker.holdings().cash == here.account.perp.balances["USDT"]


def test_a_stop_whose_price_is_passed_closes_at_once(here: Stage) -> None:
    broker = opened(here)
    broker.submit(order_at(here, "e"))
    beyond = near(here, broker) + 300
    stop = order_at(here, "s", Side.SELL, "stop", type=OrderType.STOP, trigger=beyond)
    assert broker.submit(stop) is None
    assert filled(broker.on_bar(here.next_bar())) == [("e", "entry"), ("s", "stop")]
    assert here.account.perp.of("BTCUSDT").qty == 0


def test_an_entry_that_is_withdrawn_after_it_filled_is_closed_at_once(here: Stage) -> None:
    broker = opened(here)
    broker.submit(order_at(here, "e"))
    trigger = near(here, broker) - 300
    broker.submit(order_at(here, "s", Side.SELL, "stop", type=OrderType.STOP, trigger=trigger))
    broker.cancel("e")
    assert here.account.perp.of("BTCUSDT").qty == 0
    assert here.account.open_orders() == []
    assert broker.open_orders() == []
    assert filled(broker.on_bar(here.next_bar())) == [("e", "entry"), ("e-x", "risk")]
    assert broker.holdings().cash == here.account.perp.balances["USDT"]
    broker.cancel("never heard of")


def test_what_an_exit_left_open_goes_on_under_a_name_of_its_own() -> None:
    async def passage(request: Any, call: Any, take: Any) -> Any:
        if call.query.get("newClientOrderId") == "x":
            call.query["quantity"] = "0.004"
        return take()

    with stage(passage=passage) as here:
        broker = opened(here)
        broker.submit(order_at(here, "e"))
        broker.on_bar(here.next_bar())
        broker.submit(order_at(here, "x", Side.SELL, "horizon"))
        rows = [row for _ in range(3) for row in broker.on_bar(here.next_bar())]
        assert filled(rows) == [("x", "horizon"), ("x", "horizon")]
        assert [order.client_id for order in here.account.orders.values()] == ["e", "x", "x-1"]
        assert here.account.perp.of("BTCUSDT").qty == 0
        assert broker.open_orders() == []


@pytest.mark.parametrize(
    ("change", "code", "rule"),
    [
        ({"bounds": replace(WIDE, order=Decimal(1_000))}, Reason.RISK_VETO, "of the order"),
        ({"bounds": replace(WIDE, symbol=Decimal(900))}, Reason.RISK_VETO, "of the symbol"),
        ({"bounds": replace(WIDE, account=Decimal(900))}, Reason.RISK_VETO, "of the account"),
        ({"bounds": replace(WIDE, per_minute=0)}, Reason.RISK_VETO, "entries a minute"),
        ({"allowed": lambda: "disabled by Ada"}, Reason.RISK_VETO, "live trading must be enabled"),
    ],
)  # fmt: skip
def test_the_last_guard_refuses_what_is_too_much_and_closes_all_the_same(
    here: Stage, change: dict[str, Any], code: Reason, rule: str
) -> None:
    broker = opened(here, **change)
    refusal = broker.submit(order_at(here, "cv1"))
    assert refusal is not None
    assert (refusal.code, rule in refusal.rule) == (code, True)
    assert here.account.orders == {}
    here.client().create_order(PERP, "market", "buy", 0.01)
    assert broker.submit(order_at(here, "out", Side.SELL, "kill")) is None
    assert here.account.perp.of("BTCUSDT").qty == 0


def test_a_market_far_from_the_last_bar_is_not_entered(here: Stage) -> None:
    broker = opened(here, bounds=replace(WIDE, band_bps=Decimal(5)))
    seen = broker._last[PERP]
    wrong = replace(seen, open=seen.close / 2, high=seen.close, low=seen.close / 2,
                    close=seen.close / 2)  # fmt: skip
    broker.restore([wrong])
    refusal = broker.submit(order_at(here, "cv1", qty=Decimal("0.020")))
    assert refusal is not None
    assert (refusal.code, "within 5 bps" in refusal.rule) == (Reason.RISK_VETO, True)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"qty": Decimal("0.0105")}, Reason.RISK_VETO),
        ({"qty": Decimal("0.0005")}, Reason.RISK_VETO),
        ({"id": "x" * 33}, Reason.RISK_VETO),
        ({"id": "käse"}, Reason.RISK_VETO),
        ({"type": OrderType.LIMIT, "price": Decimal("90000.05")}, Reason.RISK_VETO),
    ],
)
def test_what_the_exchange_would_not_take_is_not_sent(
    here: Stage, change: dict[str, Any], code: Reason
) -> None:
    broker = opened(here)
    refusal = broker.submit(replace(order_at(here, "cv1"), **change))
    assert refusal is not None
    assert refusal.code == code
    assert here.account.orders == {}


def test_a_position_is_entered_only_where_the_exchange_says_that_nothing_is_held(
    here: Stage,
) -> None:
    broker = opened(here)
    here.client().create_order(PERP, "market", "buy", 0.01)  # by somebody else
    refusal = broker.submit(order_at(here, "cv1"))
    assert refusal is not None
    assert refusal.code == Reason.UNFILLED
    assert broker.on_bar(here.next_bar()) == []  # what is not ours is not booked
    held = broker.holdings()
    assert held.quantities[PERP] == Decimal("0.01")  # and shows as a difference
    assert held.cash != CASH


def test_funding_is_booked_as_the_exchange_charged_it(here: Stage) -> None:
    broker = opened(here)
    broker.submit(order_at(here, "cv1"))
    lines: list[Posting] = []
    fills: list[Any] = []
    for _ in range(INTERVAL_MS // STEP):
        bar = here.next_bar()
        lines += broker.funding(bar)
        fills += broker.on_bar(bar)
    [row] = [row for row in here.account.income if row.kind == "FUNDING_FEE"]
    assert [line.amount for line in lines if line.book == "funding"] == [-row.amount]
    assert sum(line.amount for line in lines) == 0
    assert broker.holdings().cash == CASH - fills[0].fee + row.amount


def test_a_fee_in_another_asset_is_converted_and_said(here: Stage) -> None:
    broker = opened(here)
    broker.submit(order_at(here, "cv1"))
    [trade] = here.account.trades
    paid = Decimal("0.001")  # as if the account paid in another coin
    here.account.trades[0] = replace_trade(trade, fee=paid, fee_asset="BTC")
    here.account.perp.balances["USDT"] += trade.fee
    with capture_logs() as logs:
        [fill] = broker.on_bar(here.next_bar())
    assert isinstance(fill, Fill)
    assert fill.fee == pytest.approx(paid * trade.price, rel=Decimal("0.01"))
    assert "fee_in_another_asset" in [line["event"] for line in logs]
    held = broker.holdings()
    assert held.cash == CASH - fill.fee  # the ledger's view: the fee is a cost all the same
    again = here.broker()
    again.restore([*books.opening("live", "USDT", CASH, 0), fill])
    assert again.holdings().cash == CASH - fill.fee


def replace_trade(trade: Trade, **changes: Any) -> Trade:
    return replace(trade, **changes)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (ccxt.RequestTimeout("binance POST https://x/order?signature=abc"), "unknown", "in_flight"),
        (ccxt.OperationFailed('binance {"code":-1006,"msg":"?"}'), "unknown", "in_flight"),
        (ccxt.ExchangeNotAvailable("binance 502 Bad Gateway"), "unknown", "in_flight"),
        (ccxt.BadResponse("unreadable"), "unknown", "in_flight"),
        (ccxt.ExchangeError('binance {"code":-1000,"msg":"?"}'), "unknown", "in_flight"),
        (ccxt.InvalidOrder('binance {"code":-4116,"msg":"?"}'), "duplicate", "in_flight"),
        (ccxt.InvalidOrder('binance {"code":-2010,"msg":"Duplicate order sent."}'),
         "duplicate", "in_flight"),
        (ccxt.OrderImmediatelyFillable('{"code":-2021}'), "triggers", "risk_veto"),
        (ccxt.InsufficientFunds('{"code":-2019}'), "refused", "insufficient_margin"),
        (ccxt.InvalidOrder('{"code":-4164}'), "refused", "below_min_notional"),
        (ccxt.InvalidOrder('{"code":-2022}'), "refused", "unfilled"),
        (ccxt.RateLimitExceeded('429 {"code":-1003}'), "refused", "not_placed"),
        (ccxt.DDoSProtection('418 {"code":-1003}'), "refused", "not_placed"),
        (ccxt.MarketClosed("binance Market is closed."), "refused", "not_placed"),
        (ccxt.InvalidNonce('{"code":-1021}'), "refused", "not_placed"),
        (ccxt.AuthenticationError('{"code":-2015}'), "refused", "not_placed"),
        (ccxt.BadRequest('{"code":-1102}'), "refused", "risk_veto"),
        (ccxt.InvalidOrder("amount must be greater"), "invalid", "risk_veto"),
    ],
)  # fmt: skip
def test_an_error_means_what_it_says_of_the_order(
    error: ccxt.BaseError, kind: str, code: str
) -> None:
    said = verdict(error)
    assert (said.kind, said.code) == (kind, code)
    assert "signature" not in words_of(error)


def test_an_order_that_may_still_arrive_is_not_given_up(here: Stage) -> None:
    lost = [True]

    async def passage(request: Any, call: Any, take: Any) -> Any:
        if lost[0] and request.method == "POST" and "newClientOrderId" in call.query:
            raise Refused(503, -1007, "Timeout waiting for response from backend server.")
        return take()

    here.accounts.passage = passage
    broker = opened(here)
    order = order_at(here, "cv1")
    with pytest.raises(AmbiguousOutcome):
        broker.submit(order)
    assert broker.submit(order) is None  # it is not sent again
    assert broker.open_orders() == []
    other = broker.submit(order_at(here, "cv2"))
    assert other is not None
    assert other.code == Reason.IN_FLIGHT
    with pytest.raises(AmbiguousOutcome, match="may still arrive"):
        broker.status("cv1")
    here.skew[0] += 6.0
    assert broker.status("cv1") is OrderStatus.UNKNOWN
    assert here.account.orders == {}
    lost[0] = False
    assert broker.submit(order_at(here, "cv3")) is None


def test_what_the_exchange_does_not_answer_is_asked_later(here: Stage) -> None:
    broker = opened(here)
    broker.submit(order_at(here, "cv1"))
    bar = here.next_bar()
    gateway = broker._gateway
    url, gateway._client.urls = gateway._client.urls, {"api": dict.fromkeys(
        gateway._client.urls["api"], "http://127.0.0.1:1")}  # fmt: skip
    assert broker.on_bar(bar) == []
    assert broker.holdings().cash is None
    refused = broker.submit(order_at(here, "cv2", decision="d2"))
    assert refused is not None
    assert refused.code == Reason.NOT_PLACED
    gateway._client.urls = url
    here.skew[0] += gateway.left_alone()
    assert filled(broker.on_bar(here.next_bar())) == [("cv1", "entry")]


def test_a_liquidation_is_booked_as_one(here: Stage) -> None:
    broker = opened(here)
    broker.submit(order_at(here, "cv1"))
    broker.on_bar(here.next_bar())
    here.account.perp.balances["USDT"] = Decimal("-1100")  # as after a loss
    broker.restore([])
    rows = broker.on_bar(here.next_bar())
    assert [row.intent for row in rows] == ["liquidation"]


@pytest.mark.parametrize("in_the_ledger", [True, False])
def test_a_kill_closes_everything_at_the_exchange_also_what_no_bar_has_told_of(
    here: Stage, in_the_ledger: bool
) -> None:
    ledger = MemoryLedger()
    loop = live_loop(ledger, Turning(), here.broker(), here)
    turn = 0 if in_the_ledger else 2  # without stop and target, or with both
    while (here.at // STEP + 1) % 4 != turn:
        here.next_bar()
    bars = [here.next_bar()]
    loop.absorb(bars[-1])
    loop.decide(live_states(bars)[-1], [], {}, here.at)
    assert here.account.perp.of("BTCUSDT").qty != 0
    if in_the_ledger:
        loop.absorb(here.next_bar())
        assert here.account.perp.of("BTCUSDT").qty != 0
    loop.kill("Ada", "enough", here.at + 1)
    assert here.account.perp.of("BTCUSDT").qty == 0
    assert here.account.open_orders() == []
    loop.absorb(here.next_bar())
    assert list(loop.portfolio(here.at).positions) == []
    agreed(here, ledger, modes=["KILLED"])


def test_an_account_that_hedges_is_refused(here: Stage) -> None:
    gateway = here.gateway()
    gateway._client.fetch_position_mode = lambda: {"hedged": True}
    with pytest.raises(SettingError, match="one-way"):
        gateway.settle_on_one()
    assert here.account.perp.of("BTCUSDT").leverage != 1
    here.gateway().settle_on_one()
    assert here.account.perp.of("BTCUSDT").leverage == 1


@pytest.mark.long
def test_the_stream_tells_of_a_fill_by_itself_and_comes_back(here: Stage) -> None:
    stream = here.stream()
    stream.start()
    try:
        wait_for(lambda: here.accounts.users.listening("perp", "main") == 1)
        for n in (1, 2):
            here.client().create_order(
                PERP, "market", "buy", 0.01, params={"clientOrderId": f"o{n}"}
            )
            heard: list[Any] = []
            wait_for(lambda heard=heard: heard.extend(stream.news()) or heard)
            [trade] = heard
            assert (trade.client_id, trade.qty) == (f"o{n}", Decimal("0.01"))
            told = here.gateway().trades(PERP, since=here.at - STEP)
            assert trade == replace(told[-1], client_id=f"o{n}")
            key = here.gateway().listen_key()
            here.accounts.users.closed("perp", "main", key)
            wait_for(lambda: stream.health.connects > n and  # noqa: B023
                     here.accounts.users.listening("perp", "main") == 1)  # fmt: skip
    finally:
        stream.stop()
    assert not stream._thread.is_alive()


@pytest.mark.long
def test_the_live_broker_when_checked_then_it_keeps_the_laws_that_a_venue_can_keep() -> None:
    with laws() as (make, instrument, price, kept):
        check_broker(make, instrument, price, kept)


def test_a_gateway_says_which_symbol_is_not_listed(here: Stage) -> None:
    gateway = here.gateway()
    gateway.symbols = ("DOGE/USDT:USDT",)
    with pytest.raises(SettingError, match="SYMBOLS"):
        gateway.open()
    gateway._client.fetch_time = lambda: (_ for _ in ()).throw(ccxt.NetworkError("down"))
    with pytest.raises(ServiceUnreachable):
        gateway.time()


FEES = {"symbol": "BTCUSDT", "makerCommissionRate": "0.0002", "takerCommissionRate": "0.0005"}
TIER = {
    "bracket": 1, "initialLeverage": 100, "notionalCap": 50_000, "notionalFloor": 0,
    "maintMarginRatio": 0.0045, "cum": 0,
}  # fmt: skip
TIERS = [{"symbol": "BTCUSDT", "brackets": [TIER]}]


def bracket(**other: object) -> list[dict[str, object]]:
    return [{"symbol": "BTCUSDT", "brackets": [TIER | other]}]


def test_terms_are_the_account_s_fees_and_the_venue_s_tiers(here: Stage) -> None:
    listed = here.accounts.exchange.markets.listings
    listing, usual = listed["perp", "BTCUSDT"], instrument_for(PERP)
    tiers = (
        MarginTier(Decimal(50_000), Decimal("0.0045"), 100, Decimal(0)),
        MarginTier(Decimal(9_000_000), Decimal("0.02"), 25, Decimal("775.5")),
    )
    vip = replace(listing.instrument, maker_bps=-0.5, taker_bps=3.2, tiers=tiers)
    listed["perp", "BTCUSDT"] = replace(listing, instrument=vip)
    try:
        told = list(here.gateway().terms([usual]))
    finally:
        listed["perp", "BTCUSDT"] = listing
    assert told == [replace(usual, maker_bps=-0.5, taker_bps=3.2, tiers=tiers)]
    assert list(here.gateway().terms([])) == []


@pytest.mark.parametrize(
    ("fees", "tiers"),
    [
        (FEES | {"symbol": "ETHUSDT"}, TIERS), (FEES | {"takerCommissionRate": "NaN"}, TIERS),
        (FEES | {"takerCommissionRate": "-1"}, TIERS), ({}, TIERS), (None, TIERS),
        (FEES, []), (FEES, None), (FEES, [{"symbol": "BTCUSDT", "brackets": []}]),
        (FEES, [{"symbol": "ETHUSDT", "brackets": [TIER]}]), (FEES, TIERS * 2),
        (FEES, bracket(notionalCap=-5)), (FEES, bracket(notionalCap="NaN")),
        (FEES, bracket(maintMarginRatio=0)), (FEES, bracket(maintMarginRatio=1.5)),
        (FEES, bracket(initialLeverage=0)), (FEES, bracket(cum=-1)), (FEES, bracket(cum=50_000)),
        (FEES, [{"symbol": "BTCUSDT", "brackets": [TIER, TIER | {"bracket": 2}]}]),
    ],
)  # fmt: skip
def test_terms_that_cannot_be_are_none(here: Stage, fees: Any, tiers: Any) -> None:
    gateway = here.gateway()
    gateway._client.fapiPrivateGetCommissionRate = lambda *_: fees
    gateway._client.fapiPrivateGetLeverageBracket = lambda *_: tiers
    with pytest.raises(ServiceUnreachable, match="unreadable"):
        list(gateway.terms([instrument_for(PERP)]))


def test_bounds_when_nothing_is_set_then_they_are_small() -> None:
    assert (Bounds().order, Bounds().symbol, Bounds().account) == (250, 250, 500)
