"""Double entry: what each fill, funding payment and deposit moves between the books.

Per entry and asset the amounts sum to zero. In the currency: ``cash`` against ``fee``,
``liquidation``, ``funding``, ``realised``, ``capital`` and, on spot, ``position`` (at cost). In
contracts: ``position`` against ``market``.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from domain.canonical import short_hash
from domain.decision import ExitReason
from domain.market import market_of
from domain.trading import ZERO, Fill, Posting, Side


def _lines(
    entry: str, account: str, asset: str, at: int, memo: str, amounts: dict[str, Decimal]
) -> list[Posting]:
    return [
        Posting(entry, account, book, asset, amount, at, memo)
        for book, amount in amounts.items()
        if amount != 0
    ]


def opening(account: str, currency: str, amount: Decimal, at: int) -> list[Posting]:
    """Book the opening capital; once per account."""
    entry = short_hash([account, currency, "capital"])
    amounts = {"cash": amount, "capital": -amount}
    return _lines(entry, account, currency, at, "opening capital", amounts)


def of_fill(fill: Fill, currency: str) -> list[Posting]:
    """Book a fill: contracts against the market, money against fee, profit and (spot) cost."""
    signed = fill.qty * fill.side.sign
    cash = fill.realised - fill.fee
    cost = ZERO
    if market_of(fill.symbol) == "spot":
        notional = fill.price * fill.qty
        cost = notional if fill.side is Side.BUY else fill.realised - notional
        cash -= cost
    charge = "liquidation" if fill.intent == ExitReason.LIQUIDATION else "fee"
    amounts = {"cash": cash, charge: fill.fee, "realised": -fill.realised, "position": cost}
    memo = f"{fill.symbol} {fill.intent}"
    return [
        *_lines(fill.id, fill.account, currency, fill.at, memo, amounts),
        *_lines(fill.id, fill.account, fill.symbol, fill.at, memo,
                {"position": signed, "market": -signed}),
    ]  # fmt: skip


def of_funding(
    account: str, currency: str, symbol: str, at: int, amount: Decimal, entry: str = ""
) -> list[Posting]:
    """Book one funding payment (positive is paid by us); the memo starts with the symbol.

    Parameters
    ----------
    entry : id of the payment; by default there is one of a symbol at an instant.
    """
    entry = entry or short_hash([account, symbol, "funding", at])
    amounts = {"cash": -amount, "funding": amount}
    return _lines(entry, account, currency, at, f"{symbol} funding", amounts)


def balances(postings: Iterable[Posting]) -> dict[tuple[str, str], Decimal]:
    """Return the sum of each (book, asset)."""
    sums: dict[tuple[str, str], Decimal] = {}
    for line in postings:
        key = (line.book, line.asset)
        sums[key] = sums.get(key, ZERO) + line.amount
    return sums


def unbalanced(postings: Iterable[Posting]) -> dict[tuple[str, str], Decimal]:
    """Return the (entry, asset) pairs whose lines do not sum to zero; empty is right."""
    sums: dict[tuple[str, str], Decimal] = {}
    for line in postings:
        key = (line.entry, line.asset)
        sums[key] = sums.get(key, ZERO) + line.amount
    return {key: amount for key, amount in sums.items() if amount != 0}
