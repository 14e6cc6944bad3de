"""What Binance USDT-M answers to orders and to questions about them."""

from __future__ import annotations

from typing import Any

from domain.times import DAY_MS
from sim.venue import order_refusals as refuse
from sim.venue.orders import Order
from sim.venue.reports import algo_order, num, perp_order, perp_trade
from sim.venue.trading import Call, Endpoint, Endpoints

_TRADES_MS = 7 * DAY_MS  # told of at once, from startTime on
_DONE = {"code": 200, "msg": "The operation of cancel all open order is done."}


def _algo(call: Call, order: Order) -> Any:
    return algo_order(order, call.account.orders.get(order.child))


def _place(call: Call) -> Any:
    order = call.placed()
    return perp_order(order, acknowledged=call.query.get("newOrderRespType") != "RESULT")


def _test(call: Call) -> Any:
    call.placed(test=True)
    return {}


def _place_algo(call: Call) -> Any:
    if call.query.get("algoType", "").upper() != "CONDITIONAL":
        raise refuse.invalid("algoType")
    return _algo(call, call.placed(algo=True))


def _query(call: Call) -> Any:
    return perp_order(call.order(refuse.no_such_order()))


def _query_open(call: Call) -> Any:
    order = call.order(refuse.no_such_order())
    if not order.open:
        raise refuse.no_such_order()
    return perp_order(order)


def _query_algo(call: Call) -> Any:
    return _algo(call, call.order(refuse.no_such_order(), algo=True))


def _cancel(call: Call) -> Any:
    order = call.order(refuse.nothing_to_cancel())
    call.exchange.cancel(call.account, order, call.at)
    return perp_order(order)


def _cancel_algo(call: Call) -> Any:
    order = call.order(refuse.nothing_to_cancel(), algo=True)
    call.exchange.cancel(call.account, order, call.at)
    return {"algoId": order.number, "clientAlgoId": order.client_id, "code": "200",
            "msg": "success"}  # fmt: skip


def _open(call: Call, *, algo: bool) -> list[Order]:
    name = call.listing().name if "symbol" in call.query else None
    return [order for order in call.account.open_orders("perp", name) if order.algo == algo]


def _cancel_all(call: Call, *, algo: bool = False) -> Any:
    call.listing()
    for order in _open(call, algo=algo):
        call.exchange.cancel(call.account, order, call.at)
    return _DONE


def _all(call: Call, *, algo: bool) -> list[Order]:
    first, n = call.number("algoId" if algo else "orderId") or 0, call.limit(500, 1_000)
    found = [
        order for order in call.account.of("perp", call.listing().name, algo=algo)
        if order.number >= first and call.within(order.placed_at)
    ]  # fmt: skip
    return found[:n] if first else found[-n:]


def _trades(call: Call) -> Any:
    name = call.listing().name if "symbol" in call.query else None
    of, first = call.number("orderId"), call.number("fromId")
    found = [
        trade for trade in call.account.trades
        if trade.market == "perp" and name in (None, trade.name) and of in (None, trade.order)
        and trade.number >= (first or 0) and call.within(trade.at, _TRADES_MS)
    ]  # fmt: skip
    n = call.limit(500, 1_000)
    oldest_first = first is not None or "startTime" in call.query
    return [perp_trade(trade) for trade in (found[:n] if oldest_first else found[-n:])]


def _income(call: Call) -> Any:
    name, kind = call.query.get("symbol"), call.query.get("incomeType")
    found = [
        row for row in call.account.income
        if name in (None, row.name) and kind in (None, row.kind) and call.within(row.at)
    ]  # fmt: skip
    n = call.limit(100, 1_000)
    return [
        {"symbol": row.name, "incomeType": row.kind, "income": num(row.amount),
         "asset": row.asset, "info": row.kind, "time": row.at, "tranId": row.number,
         "tradeId": str(row.trade or "")}
        for row in (found[:n] if "startTime" in call.query else found[-n:])
    ]  # fmt: skip


def _listen(call: Call) -> Any:
    return {"listenKey": call.users.opened("perp", call.key.account)}


def _renew(call: Call) -> Any:
    return {"listenKey": call.users.renewed("perp", call.key.account, None)}


def _close(call: Call) -> Any:
    call.users.closed("perp", call.key.account, None)
    return {}


PERP_ORDERS: Endpoints = {
    ("POST", "/fapi/v1/order"): Endpoint(_place, 1, "trade", counts=True),
    ("POST", "/fapi/v1/order/test"): Endpoint(_test, 1),
    ("GET", "/fapi/v1/order"): Endpoint(_query),
    ("DELETE", "/fapi/v1/order"): Endpoint(_cancel, 1, "trade"),
    ("DELETE", "/fapi/v1/allOpenOrders"): Endpoint(_cancel_all, 1, "trade"),
    ("GET", "/fapi/v1/openOrder"): Endpoint(_query_open),
    ("GET", "/fapi/v1/openOrders"): Endpoint(
        lambda call: [perp_order(order) for order in _open(call, algo=False)], 1),
    ("GET", "/fapi/v1/allOrders"): Endpoint(
        lambda call: [perp_order(order) for order in _all(call, algo=False)], 5),
    ("POST", "/fapi/v1/algoOrder"): Endpoint(_place_algo, 1, "trade", counts=True),
    ("GET", "/fapi/v1/algoOrder"): Endpoint(_query_algo),
    ("DELETE", "/fapi/v1/algoOrder"): Endpoint(_cancel_algo, 1, "trade"),
    ("DELETE", "/fapi/v1/algoOpenOrders"): Endpoint(
        lambda call: _cancel_all(call, algo=True), 1, "trade"),
    ("GET", "/fapi/v1/openAlgoOrders"): Endpoint(
        lambda call: [_algo(call, order) for order in _open(call, algo=True)], 1),
    ("GET", "/fapi/v1/allAlgoOrders"): Endpoint(
        lambda call: [_algo(call, order) for order in _all(call, algo=True)], 5),
    ("GET", "/fapi/v1/userTrades"): Endpoint(_trades, 5),
    ("GET", "/fapi/v1/income"): Endpoint(_income, 30),
    ("POST", "/fapi/v1/listenKey"): Endpoint(_listen, 1, "key"),
    ("PUT", "/fapi/v1/listenKey"): Endpoint(_renew, 1, "key"),
    ("DELETE", "/fapi/v1/listenKey"): Endpoint(_close, 1, "key"),
}  # fmt: skip
