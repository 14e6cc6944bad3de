"""Orders, fills and conditional orders in the venue's words."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from domain.trading import ZERO, Side
from sim.venue.orders import NEW, Order, Trade

Body = dict[str, Any]


def num(value: Decimal | None) -> str:
    """Write an amount, with eight digits; None = 0."""
    return f"{value or ZERO:.8f}"


def side_of(order: Order) -> str:
    """Return ``BUY`` or ``SELL``."""
    return order.side.value.upper()


def spot_order(order: Order) -> Body:
    """Return a spot order as it is told when somebody asks."""
    return {
        "symbol": order.name, "orderId": order.number, "orderListId": -1,
        "clientOrderId": order.client_id, "price": num(order.price), "origQty": num(order.qty),
        "executedQty": num(order.filled), "cummulativeQuoteQty": num(order.paid),
        "origQuoteOrderQty": num(order.quote), "status": order.status, "timeInForce": order.tif,
        "type": order.kind, "side": side_of(order), "stopPrice": num(order.stop),
        "icebergQty": "0.00000000", "time": order.placed_at, "updateTime": order.updated_at,
        "isWorking": not order.waits, "workingTime": order.triggered_at or order.placed_at,
        "selfTradePreventionMode": "NONE",
    }  # fmt: skip


def spot_placed(order: Order, trades: Iterable[Trade], how: str) -> Body:
    """Return a spot order as it is told when it is placed.

    Parameters
    ----------
    how : ``ACK``, ``RESULT`` or ``FULL``.
    """
    whole = {**spot_order(order), "transactTime": order.updated_at}
    names = ("symbol", "orderId", "orderListId", "clientOrderId", "transactTime")
    if how == "ACK":
        return {name: whole[name] for name in names}
    for name in ("time", "updateTime", "isWorking", "icebergQty"):
        del whole[name]
    if how == "FULL":
        whole["fills"] = [
            {"price": num(trade.price), "qty": num(trade.qty), "commission": num(trade.fee),
             "commissionAsset": trade.fee_asset, "tradeId": trade.number}
            for trade in trades
        ]  # fmt: skip
    return whole


def spot_cancelled(order: Order, client_id: str, at: int) -> Body:
    """Return a spot order as it is told when it is cancelled.

    Parameters
    ----------
    client_id : of the cancellation.
    """
    return {
        **spot_order(order), "origClientOrderId": order.client_id, "clientOrderId": client_id,
        "transactTime": at,
    }  # fmt: skip


def spot_trade(trade: Trade) -> Body:
    """Return a fill on spot."""
    return {
        "symbol": trade.name, "id": trade.number, "orderId": trade.order, "orderListId": -1,
        "price": num(trade.price), "qty": num(trade.qty),
        "quoteQty": num(trade.price * trade.qty), "commission": num(trade.fee),
        "commissionAsset": trade.fee_asset, "time": trade.at,
        "isBuyer": trade.side is Side.BUY, "isMaker": trade.maker, "isBestMatch": True,
    }  # fmt: skip


def perp_order(order: Order, *, acknowledged: bool = False) -> Body:
    """Return a perpetuals' order.

    Parameters
    ----------
    acknowledged : as it is told before anything became of it.
    """
    filled, paid = (ZERO, ZERO) if acknowledged else (order.filled, order.paid)
    return {
        "orderId": order.number, "symbol": order.name,
        "status": NEW if acknowledged else order.status, "clientOrderId": order.client_id,
        "price": num(order.price), "avgPrice": num(paid / filled if filled else ZERO),
        "origQty": num(order.qty), "executedQty": num(filled), "cumQty": num(filled),
        "cumQuote": num(paid), "timeInForce": order.tif, "type": order.kind,
        "reduceOnly": order.reduce_only, "closePosition": False, "side": side_of(order),
        "positionSide": "BOTH", "stopPrice": "0", "workingType": "CONTRACT_PRICE",
        "priceProtect": False, "origType": order.kind, "priceMatch": "NONE",
        "selfTradePreventionMode": "NONE", "goodTillDate": 0, "time": order.placed_at,
        "updateTime": order.updated_at,
    }  # fmt: skip


def algo_order(order: Order, child: Order | None) -> Body:
    """Return a conditional order of perpetuals.

    Parameters
    ----------
    child : the order that it made; None before it is triggered.
    """
    return {
        "algoId": order.number, "clientAlgoId": order.client_id, "algoType": "CONDITIONAL",
        "orderType": order.kind, "symbol": order.name, "side": side_of(order),
        "positionSide": "BOTH", "timeInForce": order.tif, "quantity": num(order.qty),
        "algoStatus": order.status, "actualOrderId": str(order.child or ""),
        "actualPrice": num(child.average if child else None), "triggerPrice": num(order.stop),
        "price": num(order.price), "icebergQuantity": None, "tpTriggerPrice": "0.000",
        "tpPrice": "0.000", "slTriggerPrice": "0.000", "slPrice": "0.000", "tpOrderType": "",
        "selfTradePreventionMode": "NONE", "workingType": "CONTRACT_PRICE", "priceMatch": "NONE",
        "closePosition": order.closes, "priceProtect": False, "reduceOnly": order.reduce_only,
        "createTime": order.placed_at, "updateTime": order.updated_at,
        "triggerTime": order.triggered_at, "goodTillDate": 0,
    }  # fmt: skip


def perp_trade(trade: Trade) -> Body:
    """Return a fill of a perpetual."""
    buyer = trade.side is Side.BUY
    return {
        "symbol": trade.name, "id": trade.number, "orderId": trade.order,
        "side": trade.side.value.upper(), "price": num(trade.price), "qty": num(trade.qty),
        "realizedPnl": num(trade.realised), "quoteQty": num(trade.price * trade.qty),
        "commission": num(trade.fee), "commissionAsset": trade.fee_asset, "time": trade.at,
        "positionSide": "BOTH", "buyer": buyer, "maker": trade.maker,
    }  # fmt: skip
