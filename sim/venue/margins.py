"""Cross margin of perpetuals: what positions and orders tie up, and what is left of a wallet.

An asset's margin balance is its wallet and what its positions have gained. With P the signed
notional of a symbol's position, B and A those of its open buys and sells, a symbol ties up
max(|P|, |P + B|, |P − A|) / leverage; orders that only reduce tie up nothing.
"""

from __future__ import annotations

from decimal import Decimal

from domain.trading import ZERO, Side
from execution.margin import liquidation_price, maintenance, tier_of
from execution.money import dec
from sim.venue.accounts import Account
from sim.venue.market import Listing, Markets
from sim.venue.orders import Order


class Margins:
    """The margins of one account at an instant.

    Parameters
    ----------
    at : ms, market time; marks are the last prices then.
    """

    def __init__(self, markets: Markets, account: Account, at: int) -> None:
        self._markets, self._account, self._at = markets, account, at
        self._marks: dict[str, Decimal] = {}

    def mark(self, listing: Listing) -> Decimal:
        """Return the mark price, quote units."""
        if listing.name not in self._marks:
            self._marks[listing.name] = dec(self._markets.mark(listing, self._at))
        return self._marks[listing.name]

    def unrealised(self, asset: str) -> Decimal:
        """Return what the positions settled in an asset have gained."""
        return sum((self.profit(listing) for listing in self._listings(asset)), ZERO)

    def profit(self, listing: Listing) -> Decimal:
        """Return what a position has gained and not realised, quote units."""
        held = self._account.perp.held.get(listing.name)
        return held.worth(self.mark(listing)) if held is not None and held.qty else ZERO

    def notional(self, listing: Listing) -> Decimal:
        """Return the signed notional of a position at the mark, quote units."""
        held = self._account.perp.held.get(listing.name)
        return held.qty * self.mark(listing) if held is not None else ZERO

    def position_margin(self, listing: Listing) -> Decimal:
        """Return what a position alone ties up, quote units."""
        return abs(self.notional(listing)) / self._account.perp.of(listing.name).leverage

    def largest(
        self, listing: Listing, added: Order | None = None, price: Decimal = ZERO
    ) -> Decimal:
        """Return the largest notional that position and orders can come to, quote units.

        Parameters
        ----------
        added : an order that is not open yet, at ``price``.
        """
        sums = {Side.BUY: ZERO, Side.SELL: ZERO}
        for order in self._account.open_orders("perp", listing.name):
            if not order.reduce_only and not order.algo and order.price is not None:
                sums[order.side] += order.left * order.price
        if added is not None and not added.reduce_only:
            sums[added.side] += added.left * price
        now = self.notional(listing)
        return max(abs(now), abs(now + sums[Side.BUY]), abs(now - sums[Side.SELL]))

    def tied(self, listing: Listing, added: Order | None = None, price: Decimal = ZERO) -> Decimal:
        """Return what a symbol ties up, quote units."""
        return self.largest(listing, added, price) / self._account.perp.of(listing.name).leverage

    def balance(self, asset: str) -> Decimal:
        """Return the margin balance of an asset."""
        return self._account.perp.balances.get(asset, ZERO) + self.unrealised(asset)

    def tied_all(self, asset: str) -> Decimal:
        """Return what all symbols of an asset tie up."""
        return sum((self.tied(listing) for listing in self._listings(asset)), ZERO)

    def available(self, asset: str) -> Decimal:
        """Return what new orders can use, ≥ 0."""
        return max(self.balance(asset) - self.tied_all(asset), ZERO)

    def maintenance(self, listing: Listing) -> Decimal:
        """Return the maintenance margin of a position, quote units."""
        size = abs(self.notional(listing))
        return maintenance(listing.instrument.tiers, size) if size else ZERO

    def maintenance_all(self, asset: str) -> Decimal:
        """Return the maintenance margin of an asset's positions."""
        return sum((self.maintenance(listing) for listing in self._listings(asset)), ZERO)

    def liquidation(self, listing: Listing) -> Decimal:
        """Return the price at which the account is liquidated if others stay; 0 = nowhere."""
        held, asset = self._account.perp.of(listing.name), listing.quote
        if not held.qty:
            return ZERO
        others = self.unrealised(asset) - self.profit(listing)
        others -= self.maintenance_all(asset) - self.maintenance(listing)
        wallet = self._account.perp.balances.get(asset, ZERO) + others
        found = liquidation_price(held.qty, held.entry, wallet, listing.instrument.tiers)
        return found or ZERO

    def leverage_allows(self, listing: Listing, added: Order, price: Decimal) -> bool:
        """Return whether the tier of the notional allows the symbol's leverage."""
        size, tiers = self.largest(listing, added, price), listing.instrument.tiers
        if not tiers:
            return True
        leverage = self._account.perp.of(listing.name).leverage
        return size <= tiers[-1].up_to and leverage <= tier_of(tiers, size).max_leverage

    def _listings(self, asset: str) -> list[Listing]:
        names = {name for name, held in self._account.perp.held.items() if held.qty}
        names |= {order.name for order in self._account.open_orders("perp")}
        found = (self._markets.listings["perp", name] for name in sorted(names))
        return [listing for listing in found if listing.quote == asset]
