"""What Binance spot answers to the questions of an account."""

from __future__ import annotations

from typing import Any

from sim.venue import order_refusals as refuse
from sim.venue.reports import num, spot_cancelled, spot_order, spot_placed, spot_trade
from sim.venue.trading import Call, Endpoint, Endpoints


def _place(call: Call) -> Any:
    order = call.placed()
    how = call.query.get("newOrderRespType", "")
    if how not in ("ACK", "RESULT", "FULL"):
        how = "FULL" if order.kind in ("MARKET", "LIMIT") else "ACK"
    trades = [trade for trade in call.account.trades if trade.order == order.number]
    return spot_placed(order, trades, how)


def _test(call: Call) -> Any:
    call.placed(test=True)
    return {}


def _query(call: Call) -> Any:
    return spot_order(call.order(refuse.no_such_order()))


def _cancel(call: Call) -> Any:
    order = call.order(refuse.nothing_to_cancel())
    call.exchange.cancel(call.account, order, call.at)
    return spot_cancelled(order, call.query.get("newClientOrderId") or f"cancel-{order.number}",
                          call.at)  # fmt: skip


def _cancel_all(call: Call) -> Any:
    orders = call.account.open_orders("spot", call.listing().name)
    if not orders:
        raise refuse.nothing_to_cancel()
    for order in orders:
        call.exchange.cancel(call.account, order, call.at)
    return [spot_cancelled(order, f"cancel-{order.number}", call.at) for order in orders]


def _open_orders(call: Call) -> Any:
    name = call.listing().name if "symbol" in call.query else None
    return [spot_order(order) for order in call.account.open_orders("spot", name)]


def _all_orders(call: Call) -> Any:
    first, n = call.number("orderId") or 0, call.limit(500, 1_000)
    found = [
        order for order in call.account.of("spot", call.listing().name)
        if order.number >= first and call.within(order.placed_at)
    ]  # fmt: skip
    return [spot_order(order) for order in (found[:n] if first else found[-n:])]


def _trades(call: Call) -> Any:
    name, of, first = call.listing().name, call.number("orderId"), call.number("fromId")
    found = [
        trade for trade in call.account.trades
        if (trade.market, trade.name) == ("spot", name) and of in (None, trade.order)
        and trade.number >= (first or 0) and call.within(trade.at)
    ]  # fmt: skip
    n = call.limit(500, 1_000)
    oldest_first = first is not None or "startTime" in call.query
    return [spot_trade(trade) for trade in (found[:n] if oldest_first else found[-n:])]


def _account(call: Call) -> Any:
    fees = next(iter(call.listings())).instrument
    maker, taker = round(fees.maker_bps), round(fees.taker_bps)
    balances = sorted(call.account.spot.balances.items())
    return {
        "makerCommission": maker, "takerCommission": taker, "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": f"{fees.maker_bps / 1e4:.8f}",
                            "taker": f"{fees.taker_bps / 1e4:.8f}",
                            "buyer": "0.00000000", "seller": "0.00000000"},
        "canTrade": call.key.trades, "canWithdraw": call.key.withdraws, "canDeposit": True,
        "brokered": False, "requireSelfTradePrevention": False, "preventSor": False,
        "updateTime": call.at, "accountType": "SPOT", "permissions": ["SPOT"], "uid": 1,
        "balances": [
            {"asset": asset, "free": num(balance.free), "locked": num(balance.locked)}
            for asset, balance in balances
        ],
    }  # fmt: skip


def _restrictions(call: Call) -> Any:
    trades = call.key.trades
    return {
        "ipRestrict": False, "createTime": 0, "enableReading": True,
        "enableWithdrawals": call.key.withdraws, "enableInternalTransfer": False,
        "enableMargin": False, "enableFutures": trades, "permitsUniversalTransfer": False,
        "enableVanillaOptions": False, "enableFixApiTrade": False, "enableFixReadOnly": False,
        "enableSpotAndMarginTrading": trades, "enablePortfolioMarginTrading": False,
    }  # fmt: skip


def _fees(call: Call) -> Any:
    return [
        {"symbol": listing.name,
         "makerCommission": f"{listing.instrument.maker_bps / 1e4:g}",
         "takerCommission": f"{listing.instrument.taker_bps / 1e4:g}"}
        for listing in call.listings()
    ]  # fmt: skip


def _listen(call: Call) -> Any:
    return {"listenKey": call.users.opened("spot", call.key.account)}


def _renew(call: Call) -> Any:
    call.users.renewed("spot", call.key.account, call.query.get("listenKey"))
    return {}


def _close(call: Call) -> Any:
    call.users.closed("spot", call.key.account, call.query.get("listenKey"))
    return {}


SPOT: Endpoints = {
    ("POST", "/api/v3/order"): Endpoint(_place, 1, "trade", counts=True),
    ("POST", "/api/v3/order/test"): Endpoint(_test, 1),
    ("GET", "/api/v3/order"): Endpoint(_query, 4),
    ("DELETE", "/api/v3/order"): Endpoint(_cancel, 1, "trade"),
    ("GET", "/api/v3/openOrders"): Endpoint(_open_orders, 6),
    ("DELETE", "/api/v3/openOrders"): Endpoint(_cancel_all, 1, "trade"),
    ("GET", "/api/v3/allOrders"): Endpoint(_all_orders, 20),
    ("GET", "/api/v3/myTrades"): Endpoint(_trades, 20),
    ("GET", "/api/v3/account"): Endpoint(_account, 20),
    ("POST", "/api/v3/userDataStream"): Endpoint(_listen, 2, "key"),
    ("PUT", "/api/v3/userDataStream"): Endpoint(_renew, 2, "key"),
    ("DELETE", "/api/v3/userDataStream"): Endpoint(_close, 2, "key"),
    ("GET", "/sapi/v1/account/apiRestrictions"): Endpoint(_restrictions, 1),
    ("GET", "/sapi/v1/asset/tradeFee"): Endpoint(_fees, 1),
    ("GET", "/sapi/v1/margin/allPairs"): Endpoint(lambda _: [], 1),  # nothing is lent here
    ("GET", "/sapi/v1/margin/isolated/allPairs"): Endpoint(lambda _: [], 1),
}
