"""What the venue says to orders and keys that it refuses, in Binance's codes and words."""

from __future__ import annotations

from decimal import Decimal

from domain.market import Market
from sim.venue.refusals import Refused


def bad_key() -> Refused:
    """Return the refusal of something that cannot be a key."""
    return Refused(401, -2014, "API-key format invalid.")


def unknown_key() -> Refused:
    """Return the refusal of a key that is unknown or may not do this."""
    return Refused(401, -2015, "Invalid API-key, IP, or permissions for action.")


def bad_signature() -> Refused:
    """Return the refusal of a signature that is not the question's."""
    return Refused(400, -1022, "Signature for this request is not valid.")


def early(ahead_ms: int) -> Refused:
    """Return the refusal of a timestamp from the future."""
    text = f"Timestamp for this request was {ahead_ms}ms ahead of the server's time."
    return Refused(400, -1021, text)


def late() -> Refused:
    """Return the refusal of a timestamp that is too old."""
    return Refused(400, -1021, "Timestamp for this request is outside of the recvWindow.")


def wide_window() -> Refused:
    """Return the refusal of a recvWindow that is too long."""
    return Refused(400, -1131, "recvWindow must be less than 60000.")


def invalid(name: str) -> Refused:
    """Return the refusal of a value that the venue does not know."""
    return Refused(400, -1130, f"Data sent for parameter '{name}' is not valid.")


def unknown_kind() -> Refused:
    """Return the refusal of a type of orders that there is not."""
    return Refused(400, -1116, "Invalid orderType.")


def too_many_orders(most: int) -> Refused:
    """Return the refusal of an order beyond the limit."""
    text = f"Too many new orders; current limit is {most} orders per 10 SECOND."
    return Refused(429, -1015, text)


def filter_failure(name: str) -> Refused:
    """Return the refusal by one of a symbol's filters."""
    return Refused(400, -1013, f"Filter failure: {name}")


def too_precise() -> Refused:
    """Return the refusal of more digits than a symbol has."""
    return Refused(400, -1111, "Precision is over the maximum defined for this asset.")


def small_notional(least: Decimal) -> Refused:
    """Return the refusal of a perpetual's order that is worth too little."""
    text = f"Order's notional must be no smaller than {least:f} (unless you choose reduce only)."
    return Refused(400, -4164, text)


def duplicate(market: Market) -> Refused:
    """Return the refusal of a client order id that was used."""
    if market == "spot":
        return Refused(400, -2010, "Duplicate order sent.")
    return Refused(400, -4116, "ClientOrderId is duplicated.")


def poor(market: Market) -> Refused:
    """Return the refusal of an order that the account cannot pay."""
    if market == "spot":
        return Refused(400, -2010, "Account has insufficient balance for requested action.")
    return Refused(400, -2019, "Margin is insufficient.")


def crosses(market: Market) -> Refused:
    """Return the refusal of a maker's order that would take."""
    if market == "spot":
        return Refused(400, -2010, "Order would immediately match and take.")
    text = ("Due to the order could not be executed as maker, the Post Only order will be "
            "rejected. The order will not be recorded in the order history.")  # fmt: skip
    return Refused(400, -5022, text)


def not_at_once() -> Refused:
    """Return a perpetuals' refusal of a fill-or-kill order that cannot be filled."""
    text = ("Due to the order could not be filled immediately, the FOK order has been rejected. "
            "The order will not be recorded in the order history.")  # fmt: skip
    return Refused(400, -5021, text)


def triggers_now(market: Market) -> Refused:
    """Return the refusal of a trigger that the price is beyond already."""
    if market == "spot":
        return Refused(400, -2010, "Stop price would trigger immediately.")
    return Refused(400, -2021, "Order would immediately trigger.")


def not_reducing() -> Refused:
    """Return the refusal of a reduce-only order that has nothing to reduce."""
    return Refused(400, -2022, "ReduceOnly Order is rejected.")


def too_large() -> Refused:
    """Return the refusal of a position larger than the leverage allows."""
    return Refused(400, -2027, "Exceeded the maximum allowable position at current leverage.")


def conditional_elsewhere() -> Refused:
    """Return the refusal of a conditional order that was not sent to the algo service."""
    text = ("Order type not supported for this endpoint. Please use the Algo Order API endpoints "
            "instead.")  # fmt: skip
    return Refused(400, -4120, text)


def no_such_order() -> Refused:
    """Return the refusal of a question about an order that there is not."""
    return Refused(400, -2013, "Order does not exist.")


def nothing_to_cancel() -> Refused:
    """Return the refusal to cancel what is not open."""
    return Refused(400, -2011, "Unknown order sent.")


def market_closed(market: Market) -> Refused:
    """Return the refusal of an order while its symbol is not traded."""
    if market == "spot":
        return Refused(400, -1013, "Market is closed.")
    return Refused(400, -4140, "Invalid symbol status for opening position.")
