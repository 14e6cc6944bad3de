"""What a user's stream says of orders and wallets."""

from __future__ import annotations

from sim.venue.accounts import Account
from sim.venue.margins import Margins
from sim.venue.market import Listing, Markets
from sim.venue.orders import Order, Trade
from sim.venue.reports import Body, num, side_of


def spot_report(order: Order, what: str, at: int, trade: Trade | None) -> Body:
    """Return an ``executionReport``."""
    return {
        "e": "executionReport", "E": at, "s": order.name, "c": order.client_id,
        "S": side_of(order), "o": order.kind, "f": order.tif, "q": num(order.qty),
        "p": num(order.price), "P": num(order.stop), "F": "0.00000000", "g": -1, "C": "",
        "x": what, "X": order.status, "r": "NONE", "i": order.number,
        "l": num(trade.qty if trade else None), "z": num(order.filled),
        "L": num(trade.price if trade else None), "n": num(trade.fee if trade else None),
        "N": trade.fee_asset if trade else None, "T": at, "t": trade.number if trade else -1,
        "w": order.open and not order.waits, "m": trade is not None and trade.maker,
        "M": False, "O": order.placed_at, "Z": num(order.paid),
        "Y": num(trade.price * trade.qty if trade else None), "Q": num(order.quote),
        "W": order.triggered_at or order.placed_at, "V": "NONE",
    }  # fmt: skip


def spot_balances(account: Account, listing: Listing, at: int) -> Body:
    """Return an ``outboundAccountPosition`` of a symbol's two assets."""
    rows = [
        {"a": asset, "f": num(account.spot.of(asset).free), "l": num(account.spot.of(asset).locked)}
        for asset in (listing.base, listing.quote)
    ]
    return {"e": "outboundAccountPosition", "E": at, "u": at, "B": rows}


def perp_report(order: Order, what: str, at: int, trade: Trade | None) -> Body:
    """Return an ``ORDER_TRADE_UPDATE``."""
    told = {
        "s": order.name, "c": order.client_id, "S": side_of(order), "o": order.kind,
        "f": order.tif, "q": num(order.qty), "p": num(order.price), "ap": num(order.average),
        "sp": "0", "x": what, "X": order.status, "i": order.number,
        "l": num(trade.qty if trade else None), "z": num(order.filled),
        "L": num(trade.price if trade else None), "T": at, "t": trade.number if trade else 0,
        "b": "0", "a": "0", "m": trade is not None and trade.maker, "R": order.reduce_only,
        "wt": "CONTRACT_PRICE", "ot": order.kind, "ps": "BOTH", "cp": False,
        "rp": num(trade.realised if trade else None), "pP": False, "si": 0, "ss": 0,
        "V": "NONE", "pm": "NONE", "gtd": 0,
    }  # fmt: skip
    if trade is not None:
        told |= {"n": num(trade.fee), "N": trade.fee_asset}
    return {"e": "ORDER_TRADE_UPDATE", "E": at, "T": at, "o": told}


def algo_report(order: Order, child: Order | None, at: int) -> Body:
    """Return an ``ALGO_UPDATE``."""
    told = {
        "caid": order.client_id, "aid": order.number, "at": "CONDITIONAL", "o": order.kind,
        "s": order.name, "S": side_of(order), "ps": "BOTH", "f": order.tif, "q": num(order.qty),
        "X": order.status, "ai": str(order.child or ""),
        "ap": num(child.average if child else None), "aq": num(child.filled if child else None),
        "act": child.kind if child else "0", "tp": num(order.stop), "p": num(order.price),
        "V": "NONE", "wt": "CONTRACT_PRICE", "pm": "NONE", "cp": order.closes, "pP": False,
        "R": order.reduce_only, "tt": order.triggered_at, "gtd": 0, "rm": order.why,
    }  # fmt: skip
    return {"e": "ALGO_UPDATE", "E": at, "T": at, "o": told}


def perp_account(markets: Markets, account: Account, listing: Listing, why: str, at: int) -> Body:
    """Return an ``ACCOUNT_UPDATE`` of a symbol's position and its settlement asset."""
    held, wallet = account.perp.of(listing.name), num(account.perp.balances.get(listing.quote))
    position = {
        "s": listing.name, "pa": num(held.qty), "ep": num(held.entry), "bep": num(held.entry),
        "cr": num(held.realised), "up": num(Margins(markets, account, at).profit(listing)),
        "mt": "cross", "iw": "0", "ps": "BOTH", "ma": listing.quote,
    }  # fmt: skip
    balances = [{"a": listing.quote, "wb": wallet, "cw": wallet, "bc": "0"}]
    return {"e": "ACCOUNT_UPDATE", "E": at, "T": at,
            "a": {"m": why, "B": balances, "P": [position]}}  # fmt: skip
