"""A request for an order, read and checked against the filters of its symbol."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from domain.market import Instrument, Market
from domain.trading import ZERO, Side
from sim.venue import order_refusals as refuse
from sim.venue import refusals
from sim.venue.asked import Asked
from sim.venue.market import Listing
from sim.venue.orders import Order

_CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
# type → (has a limit, has a trigger)
SPOT_KINDS = {
    "MARKET": (False, False), "LIMIT": (True, False), "LIMIT_MAKER": (True, False),
    "STOP_LOSS": (False, True), "STOP_LOSS_LIMIT": (True, True),
    "TAKE_PROFIT": (False, True), "TAKE_PROFIT_LIMIT": (True, True),
}  # fmt: skip
PERP_KINDS = {"MARKET": (False, False), "LIMIT": (True, False)}
ALGO_KINDS = {
    "STOP": (True, True), "STOP_MARKET": (False, True),
    "TAKE_PROFIT": (True, True), "TAKE_PROFIT_MARKET": (False, True),
}  # fmt: skip
_TIFS: Mapping[Market, tuple[str, ...]] = {
    "spot": ("GTC", "IOC", "FOK"), "perp": ("GTC", "IOC", "FOK", "GTX"),
}  # fmt: skip


def order_of(asked: Asked, number: int, at: int, *, algo: bool = False) -> Order:
    """Read a request for an order.

    Parameters
    ----------
    number : of the order if it is taken; also its client id where the request has none.
    algo : of the algo service, whose parameters have other names.

    Raises
    ------
    Refused : for what is missing or not known.
    """
    listing, query = asked.listing(), asked.query
    kind = _given(query, "type").upper()
    has_limit, has_trigger = _shape(asked.market, kind, algo)
    side = _side(query)
    closes = algo and _flag(query, "closePosition")
    order = Order(
        number, asked.market, listing.name,
        _client_id(query, "clientAlgoId" if algo else "newClientOrderId", number), side, kind,
        _tif(asked.market, query, kind, has_limit), ZERO, at, at, algo=algo, closes=closes,
        reduce_only=asked.market == "perp" and (closes or _flag(query, "reduceOnly")),
    )  # fmt: skip
    if asked.market == "perp" and query.get("positionSide", "BOTH").upper() != "BOTH":
        raise refusals.Refused(400, -4061, "Order's position side does not match user's setting.")
    if has_limit:
        order.price = number_of(query, "price")
    if has_trigger:
        order.stop = number_of(query, "triggerPrice" if algo else "stopPrice")
    if kind == "MARKET" and asked.market == "spot" and query.get("quoteOrderQty"):
        order.quote = number_of(query, "quoteOrderQty")
    elif not closes:
        order.qty = number_of(query, "quantity")
    return order


def _shape(market: Market, kind: str, algo: bool) -> tuple[bool, bool]:
    if market == "perp" and not algo and kind in ALGO_KINDS:
        raise refuse.conditional_elsewhere()
    known = SPOT_KINDS if market == "spot" else ALGO_KINDS if algo else PERP_KINDS
    if kind not in known:
        raise refuse.unknown_kind()
    return known[kind]


def _given(query: Mapping[str, str], name: str) -> str:
    value = query.get(name, "")
    if not value:
        raise refusals.missing(name)
    return value


def number_of(query: Mapping[str, str], name: str) -> Decimal:
    """Return a number above 0.

    Raises
    ------
    Refused : if it is missing, or none.
    """
    text = _given(query, name)
    if _NUMBER.fullmatch(text) is None or not Decimal(text):
        raise refusals.illegal(name)
    return Decimal(text)


def _side(query: Mapping[str, str]) -> Side:
    side = {"BUY": Side.BUY, "SELL": Side.SELL}.get(_given(query, "side").upper())
    if side is None:
        raise refusals.Refused(400, -1117, "Invalid side.")
    return side


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "false").lower()
    if value not in ("true", "false"):
        raise refuse.invalid(name)
    return value == "true"


def _client_id(query: Mapping[str, str], name: str, number: int) -> str:
    given = query.get(name) or f"venue-{number}"
    if _CLIENT_ID.fullmatch(given) is None:
        raise refusals.illegal(name)
    return given


def _tif(market: Market, query: Mapping[str, str], kind: str, has_limit: bool) -> str:
    if not has_limit or kind == "LIMIT_MAKER":
        return "GTC"
    named = query.get("timeInForce", "")
    if not named and kind in ALGO_KINDS and market == "perp":
        return "GTC"
    tif = _given(query, "timeInForce").upper()
    if tif not in _TIFS[market]:
        raise refusals.Refused(400, -1115, "Invalid timeInForce.")
    return tif


def check_filters(order: Order, listing: Listing, last: Decimal) -> None:
    """Check an order against its symbol's filters.

    Parameters
    ----------
    last : price, quote units, for the notional of an order at the market.

    Raises
    ------
    Refused : by the first filter that it fails.
    """
    rules = listing.instrument
    for price in (order.price, order.stop):
        if price is not None and price % rules.tick:
            raise _off_step(order.market, price, rules.tick, "PRICE_FILTER")
    if order.closes:
        return
    if order.quote is not None:
        if order.quote < rules.min_notional:
            raise refuse.filter_failure("NOTIONAL")
        return
    _check_lot(order, rules)
    notional = order.qty * (order.price or order.stop or last)
    if notional < rules.min_notional and not order.reduce_only:
        if order.market == "spot":
            raise refuse.filter_failure("NOTIONAL")
        raise refuse.small_notional(rules.min_notional)


def _check_lot(order: Order, rules: Instrument) -> None:
    if order.qty % rules.step:
        raise _off_step(order.market, order.qty, rules.step, "LOT_SIZE")
    if rules.min_qty <= order.qty <= rules.max_qty:
        return
    if order.market == "spot":
        raise refuse.filter_failure("LOT_SIZE")
    if order.qty < rules.min_qty:
        raise refusals.Refused(400, -4004, "Quantity less than or equal to min quantity.")
    raise refusals.Refused(400, -4005, "Quantity greater than max quantity.")


def _off_step(market: Market, value: Decimal, step: Decimal, name: str) -> refusals.Refused:
    digits = 8 if market == "spot" else _digits(step)
    if _digits(value) > digits:
        return refuse.too_precise()
    if market == "spot":
        return refuse.filter_failure(name)
    if name == "PRICE_FILTER":
        return refusals.Refused(400, -4014, "Price not increased by tick size.")
    return refusals.Refused(400, -4023, "Quantity not increased by step size.")


def _digits(value: Decimal) -> int:
    return max(-int(value.normalize().as_tuple().exponent), 0)
