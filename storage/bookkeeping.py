"""The books as one walks along the chain: what must add up, and the first row that does not.

Every entry sums to zero per asset, and so does the trial balance. For an account whose opening
capital is booked here, fills and postings tell the same story: position, fee and realised books
are the sums over its fills, and the cash on an equity mark is what the cash book holds then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from storage.kinds import EXACT

_ZERO = Decimal(0)
_CHARGES = ("fee", "liquidation")  # both hold what fills say they cost
Account = tuple[str, str]  # world, name


class BadRow(Exception):
    """A row that is not what was appended, or that the books contradict."""

    def __init__(self, seq: int, problem: str) -> None:
        self.seq, self.problem = seq, problem
        super().__init__(problem)


@dataclass(slots=True)
class Books:
    """Sums over all postings and fills so far.

    Attributes
    ----------
    totals : (world, account, book, asset) → sum of postings.
    """

    totals: dict[tuple[str, str, str, str], Decimal] = field(default_factory=dict)
    _entries: dict[tuple[str, str, str], tuple[int, Decimal]] = field(default_factory=dict)
    _currency: dict[Account, str] = field(default_factory=dict)
    _apart: dict[Account, dict[tuple[str, str], tuple[int, Decimal]]] = field(default_factory=dict)

    def take(self, seq: int, world: str, kind: str, row: dict[str, Any]) -> None:
        """Take in one row of the chain.

        Raises
        ------
        BadRow : if an equity mark contradicts the books.
        """
        if kind == "posting":
            self._posting(seq, world, row)
        elif kind == "fill":
            self._fill(seq, world, row)
        elif kind == "equity_mark":
            self._mark(seq, world, row)

    def close(self) -> None:
        """Check what only the end can tell.

        Raises
        ------
        BadRow : for an entry, an account or an asset that does not add up.
        """
        for (_, entry, asset), (seq, total) in self._entries.items():
            raise BadRow(seq, f"begins entry {entry}, whose {asset} postings sum to {total}")
        for account in self._apart:
            self._settle(account)

    def _posting(self, seq: int, world: str, row: dict[str, Any]) -> None:
        amount = Decimal(row["amount"])
        _add(self._entries, (world, row["entry"], row["asset"]), seq, amount)
        account, book, asset = (world, row["account"]), row["book"], row["asset"]
        place = (*account, book, asset)
        self.totals[place] = EXACT.add(self.totals.get(place, _ZERO), amount)
        if book == "capital":
            self._currency[account] = asset
        if book == "position" and asset != self._currency.get(account):  # spot books cost there too
            self._told(account, ("position", asset), seq, -amount)
        elif book in _CHARGES:
            self._told(account, ("fee", asset), seq, -amount)
        elif book == "realised":
            self._told(account, ("realised", asset), seq, amount)

    def _fill(self, seq: int, world: str, row: dict[str, Any]) -> None:
        account = (world, row["account"])
        currency = self._currency.get(account, "")
        qty = Decimal(row["qty"])
        signed = qty if row["side"] == "buy" else -qty
        self._told(account, ("position", row["symbol"]), seq, signed)
        self._told(account, ("fee", currency), seq, Decimal(row["fee"]))
        self._told(account, ("realised", currency), seq, Decimal(row["realised"]))

    def _told(self, account: Account, place: tuple[str, str], seq: int, amount: Decimal) -> None:
        if account in self._currency:  # others keep no books here, e.g. trades told from outside
            _add(self._apart.setdefault(account, {}), place, seq, amount)

    def _mark(self, seq: int, world: str, row: dict[str, Any]) -> None:
        account = (world, row["account"])
        if account not in self._currency:
            return
        self._settle(account)
        booked = self.totals.get((*account, "cash", self._currency[account]), _ZERO)
        if booked != Decimal(row["cash"]):
            raise BadRow(seq, f"says cash {row['cash']}, where the cash book holds {booked}")

    def _settle(self, account: Account) -> None:
        apart = self._apart.get(account, {})
        for (book, asset), (seq, amount) in sorted(apart.items(), key=lambda item: item[1][0]):
            raise BadRow(
                seq, f"begins a difference of {amount} {asset} between the {book} book "
                f"of {account[1]} and its fills",
            )  # fmt: skip


def _add(sums: dict[Any, tuple[int, Decimal]], key: Any, seq: int, amount: Decimal) -> None:
    """Add, and forget what is zero again: a sum that stays names the row where it began."""
    first, before = sums.pop(key, (seq, _ZERO))
    if total := EXACT.add(before, amount):
        sums[key] = (first, total)
