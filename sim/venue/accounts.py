"""Accounts of the venue, as one value that can be written down and read back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any

from pydantic import TypeAdapter, ValidationError

from domain.errors import UsageError
from domain.market import Market
from sim.venue.orders import Income, Order, Trade
from sim.venue.wallets import Balance, PerpWallet, SpotWallet

KEPT = 10_000  # orders, fills and payments that are kept, however old they are
KEPT_MS = 86_400_000  # market time for which all are
_SLACK = 1_000  # beyond, before they are looked through


@dataclass(slots=True)
class Account:
    """One account's wallets, orders and fills; those that are old and many are forgotten.

    Attributes
    ----------
    working : numbers of the orders that are open, oldest first.
    clients : (market, conditional or not, client id) as text → number of the newest order.
    """

    name: str
    spot: SpotWallet = field(default_factory=SpotWallet)
    perp: PerpWallet = field(default_factory=PerpWallet)
    orders: dict[int, Order] = field(default_factory=dict)
    working: list[int] = field(default_factory=list)
    clients: dict[str, int] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    income: list[Income] = field(default_factory=list)

    @classmethod
    def funded(cls, name: str, balances: Mapping[str, Decimal], settled: Iterable[str]) -> Account:
        """Return an account with the same balances in both wallets.

        Parameters
        ----------
        settled : assets that perpetuals are settled in; others are on spot only.
        """
        account = cls(name)
        account.spot.balances = {asset: Balance(amount) for asset, amount in balances.items()}
        of_perps = set(settled)
        account.perp.balances = {a: amount for a, amount in balances.items() if a in of_perps}
        return account

    def add(self, order: Order) -> None:
        """Take in a new order."""
        self.orders[order.number] = order
        self.clients[_client(order.market, order.algo, order.client_id)] = order.number
        if order.open:
            self.working.append(order.number)
        if max(map(len, (self.orders, self.trades, self.income))) > KEPT + _SLACK:
            self._forget(order.placed_at - KEPT_MS)

    def done(self, order: Order) -> None:
        """Take an order that is not open any more from the working ones."""
        if order.number in self.working:
            self.working.remove(order.number)

    def _forget(self, before: int) -> None:
        for number in list(islice(self.orders, max(len(self.orders) - KEPT, 0))):
            order = self.orders[number]
            if order.placed_at >= before:
                break
            if order.open or order.updated_at >= before:
                continue
            del self.orders[number]
            client = _client(order.market, order.algo, order.client_id)
            if self.clients.get(client) == number:
                del self.clients[client]
        for rows in (self.trades, self.income):
            old = bisect_left(rows, before, key=lambda row: row.at)
            del rows[: max(min(old, len(rows) - KEPT), 0)]

    def open_orders(self, market: Market | None = None, name: str | None = None) -> list[Order]:
        """Return the open orders, oldest first; None = all."""
        found = (self.orders[number] for number in self.working)
        return [
            order
            for order in found
            if market in (None, order.market) and name in (None, order.name)
        ]

    def by_client(self, market: Market, client_id: str, *, algo: bool = False) -> Order | None:
        """Return the newest order with a client id."""
        number = self.clients.get(_client(market, algo, client_id))
        return None if number is None else self.orders[number]

    def of(self, market: Market, name: str | None, *, algo: bool = False) -> Iterator[Order]:
        """Iterate over all orders of a symbol, None = of the market, oldest first."""
        return (
            order
            for order in self.orders.values()
            if order.market == market and order.algo == algo and name in (None, order.name)
        )


@dataclass(slots=True)
class Ledger:
    """All accounts, how far they have come, and what is counted.

    Attributes
    ----------
    at : market time up to which everything has happened, ms.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    at: int = 0
    last_order: int = 0
    last_trade: int = 0
    last_income: int = 0

    def state(self) -> dict[str, Any]:
        """Return everything in JSON's types."""
        found: dict[str, Any] = _LEDGER.dump_python(self, mode="json")
        return found

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Ledger:
        """Return what :meth:`state` wrote.

        Raises
        ------
        UsageError : if it did not.
        """
        try:
            found: Ledger = _LEDGER.validate_python(dict(state))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UsageError(
                "venue state", f"must be what the venue wrote ({where}: {first['msg']})"
            ) from error
        return found


_LEDGER = TypeAdapter(Ledger)


def _client(market: Market, algo: bool, client_id: str) -> str:
    return f"{market}:{'algo' if algo else 'order'}:{client_id}"
