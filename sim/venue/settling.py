"""Fills, fees and funding on their way into the wallets."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from domain.market import Market
from domain.trading import ZERO, Position, Side
from execution.fills import Execution
from execution.funding import payment
from execution.money import money
from sim.venue.accounts import Account, Ledger
from sim.venue.margins import Margins
from sim.venue.market import Listing, Markets
from sim.venue.orders import CANCELED, FILLED, FINISHED, PARTLY, Income, Order, Trade


class Teller(Protocol):
    """Who is told of everything that happens to an account."""

    def order(
        self, account: Account, order: Order, what: str, at: int, trade: Trade | None = None
    ) -> None:
        """Tell of an order: NEW, TRADE, CANCELED, EXPIRED, …; conditional orders by their state."""

    def wallet(self, account: Account, market: Market, listing: Listing, why: str, at: int) -> None:
        """Tell what a symbol's assets and position have become."""


class Nobody:
    """Hears nothing."""

    def order(
        self, account: Account, order: Order, what: str, at: int, trade: Trade | None = None
    ) -> None:
        """Hear nothing."""

    def wallet(self, account: Account, market: Market, listing: Listing, why: str, at: int) -> None:
        """Hear nothing."""


class Settlement:
    """Books what happens, and tells of it.

    Parameters
    ----------
    ledger : of all accounts; changed in place.
    """

    def __init__(self, markets: Markets, ledger: Ledger, teller: Teller) -> None:
        self._markets, self._ledger, self.teller = markets, ledger, teller

    def fill(self, account: Account, order: Order, listing: Listing, done: Execution) -> None:
        """Book one fill of an open order."""
        order.filled += done.qty
        order.paid += done.qty * done.price
        order.updated_at = done.at
        order.status = PARTLY if order.left else FILLED
        settle = self._on_spot if order.market == "spot" else self._on_perp
        trade = settle(account, order, listing, done)
        account.trades.append(trade)
        if order.status == FILLED:
            self._left(account, order, listing)
        self.teller.order(account, order, "TRADE", done.at, trade)
        if order.status == FILLED:
            self._ended(account, order, done.at)

    def end(
        self, account: Account, order: Order, listing: Listing, status: str, at: int, why: str = ""
    ) -> None:
        """Take an order off before it is filled: CANCELED, EXPIRED or REJECTED."""
        order.status, order.updated_at, order.why = status, at, why
        self._left(account, order, listing)
        self.teller.order(account, order, status, at)
        self._ended(account, order, at)

    def reserve(self, account: Account, order: Order, listing: Listing, amount: Decimal) -> None:
        """Lock what a spot order may need; a negative amount gives back."""
        asset = listing.quote if order.side is Side.BUY else listing.base
        account.spot.lock(asset, amount)
        order.locked += amount

    def _left(self, account: Account, order: Order, listing: Listing) -> None:
        if order.market == "spot":
            self.reserve(account, order, listing, -order.locked)
        account.done(order)

    def _ended(self, account: Account, order: Order, at: int) -> None:
        parent = account.orders.get(order.parent)
        if parent is not None:
            parent.status, parent.updated_at = FINISHED, at
            self.teller.order(account, parent, FINISHED, at)

    def _on_spot(self, account: Account, order: Order, listing: Listing, done: Execution) -> Trade:
        """The exchange takes its fee from what is bought: base units of a buy, quote of a sale."""
        spot, cost = account.spot, money(done.qty * done.price)
        if order.side is Side.BUY:
            if order.locked:
                limit = order.price or done.price
                self.reserve(account, order, listing, -min(limit * done.qty, order.locked))
            fee, asset = money(done.fee / done.price), listing.base
            spot.add(listing.quote, -cost)
            spot.add(listing.base, done.qty - fee)
        else:
            self.reserve(account, order, listing, -min(done.qty, order.locked))
            fee, asset = done.fee, listing.quote
            spot.add(listing.base, -done.qty)
            spot.add(listing.quote, cost - fee)
        return self._trade(order, done, fee, asset, ZERO)

    def _on_perp(self, account: Account, order: Order, listing: Listing, done: Execution) -> Trade:
        held, asset = account.perp.of(order.name), listing.quote
        profit = held.trade(order.side.sign, done.qty, done.price)
        held.updated_at = done.at
        trade = self._trade(order, done, done.fee, asset, profit)
        for kind, amount in (("REALIZED_PNL", profit), ("COMMISSION", -done.fee)):
            self.pay(account, listing, kind, amount, done.at, trade.number)
        return trade

    def _trade(
        self, order: Order, done: Execution, fee: Decimal, asset: str, realised: Decimal
    ) -> Trade:
        self._ledger.last_trade += 1
        return Trade(
            self._ledger.last_trade, order.number, order.market, order.name, order.side,
            done.price, done.qty, fee, asset, done.at, done.maker, realised,
        )  # fmt: skip

    def pay(
        self, account: Account, listing: Listing, kind: str, amount: Decimal, at: int,
        trade: int = 0,
    ) -> None:  # fmt: skip
        """Book money into a perpetuals' wallet, with its reason; 0 is no booking."""
        if not amount:
            return
        self._ledger.last_income += 1
        row = (self._ledger.last_income, kind, listing.name, listing.quote, amount, at, trade)
        account.perp.add(listing.quote, amount)
        account.income.append(Income(*row))

    def fund(self, account: Account, at: int) -> None:
        """Pay the funding of an hour for every open position whose stamp it is."""
        margins = Margins(self._markets, account, at)
        for name, held in sorted(account.perp.held.items()):
            if not held.qty:
                continue
            listing = self._markets.listings["perp", name]
            if at % listing.instrument.funding_ms:
                continue
            position = Position(account.name, listing.symbol, held.qty, held.entry, at, "", at)
            rate = self._markets.funding_rate(listing, at)
            owed = payment(position, margins.mark(listing), rate)
            self.pay(account, listing, "FUNDING_FEE", -owed, at)
            self.teller.wallet(account, "perp", listing, "FUNDING_FEE", at)

    def cancel_all(self, account: Account, at: int) -> None:
        """Cancel every open order of perpetuals."""
        for order in account.open_orders("perp"):
            listing = self._markets.listings["perp", order.name]
            self.end(account, order, listing, CANCELED, at)
