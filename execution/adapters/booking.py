"""From the venue's bookings to ours: real fees, in quote units, under ids that are the venue's."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from domain.trading import ZERO, Fill
from execution.adapters.gateway import Trade
from execution.money import money

_FUNDING = "funding"  # where a fill's id has the venue's name of its symbol

Worth = Callable[[str], Decimal]
"""Asset → its price in the account's currency."""


def fill_id(account: str, name: str, number: int, fee_asset: str = "") -> str:
    """Return the id of a fill: the same trade is the same fill, whoever tells of it.

    Parameters
    ----------
    name : the venue's name of the symbol.
    fee_asset : in which the fee was paid, where that is not the account's currency.
    """
    return ":".join((account, name, str(number), *([fee_asset] if fee_asset else [])))


def read_id(text: str) -> tuple[int, str]:
    """Return (number, asset of the fee or empty) of a fill's id; (0, "") if it is another's."""
    parts = text.split(":")
    if len(parts) not in (3, 4) or not parts[2].isdecimal():
        return 0, ""
    return int(parts[2]), parts[3] if len(parts) == 4 else ""


def settlement_id(account: str, number: str) -> str:
    """Return the id of a settlement of funding, by the venue's number of it."""
    return f"{account}:{_FUNDING}:{number}"


def read_settlement(text: str) -> str:
    """Return the venue's number in such an id; empty if it is another's."""
    parts = text.split(":")
    return parts[2] if len(parts) == 3 and parts[1] == _FUNDING else ""


def fill_of(
    trade: Trade, name: str, account: str, currency: str, owner: tuple[str, str],
    reference: Decimal | None, quoted: Decimal | None, worth: Worth,
) -> Fill:  # fmt: skip
    """Return what a trade is on our ledger.

    Parameters
    ----------
    name : the venue's name of the symbol.
    owner : id and intent of its order.
    reference : middle of the book when the order was sent; None = not known, then what the price
        cost beside the fee is not known either and shown as 0.
    quoted : half the spread then, quote units.
    """
    fee, elsewhere = trade.fee, ""
    if fee and trade.fee_asset != currency:
        fee, elsewhere = money(fee * worth(trade.fee_asset)), trade.fee_asset
    spread = slippage = ZERO
    if reference is not None:
        # a price better than the middle costs less than nothing
        worse = (trade.price - reference) * trade.side.sign
        half = min(quoted or ZERO, abs(worse)).copy_sign(worse)
        spread, slippage = half * trade.qty, (worse - half) * trade.qty
    return Fill(
        fill_id(account, name, trade.number, elsewhere), owner[0], account, trade.symbol,
        trade.side, trade.qty, trade.price, trade.at, fee, spread, slippage,
        trade.price if reference is None else reference, trade.maker, owner[1], trade.realised,
    )  # fmt: skip
