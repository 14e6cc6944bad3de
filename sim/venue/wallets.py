"""What an account of the venue holds: coins on spot, money and positions of perpetuals."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from domain.trading import ZERO
from execution.money import money

LEVERAGE = 20  # of a symbol until somebody changes it


@dataclass(slots=True)
class Balance:
    """One asset; what is locked backs orders."""

    free: Decimal = ZERO
    locked: Decimal = ZERO


@dataclass(slots=True)
class SpotWallet:
    """Balances by asset, never negative."""

    balances: dict[str, Balance] = field(default_factory=dict)

    def of(self, asset: str) -> Balance:
        """Return the balance of an asset."""
        return self.balances.setdefault(asset, Balance())

    def lock(self, asset: str, amount: Decimal) -> None:
        """Set aside for an order; a negative amount gives back."""
        balance = self.of(asset)
        balance.free -= amount
        balance.locked += amount

    def add(self, asset: str, amount: Decimal) -> None:
        """Put in; a negative amount takes out."""
        self.of(asset).free += amount


@dataclass(slots=True)
class Held:
    """A position of a perpetual.

    Attributes
    ----------
    qty : signed, base units. ``cost`` : Σ price · signed quantity of what is held, quote units.
    realised : profit so far, before fees, quote units.
    """

    qty: Decimal = ZERO
    cost: Decimal = ZERO
    leverage: int = LEVERAGE
    realised: Decimal = ZERO
    updated_at: int = 0  # ms

    @property
    def entry(self) -> Decimal:
        """Average price, quote units; 0 when flat."""
        return self.cost / self.qty if self.qty else ZERO

    def closable(self, sign: int) -> Decimal:
        """Return how much an order of a side (±1) can close, base units."""
        return abs(self.qty) if self.qty * sign < 0 else ZERO

    def worth(self, mark: Decimal) -> Decimal:
        """Return the profit that is not realised, quote units."""
        return mark * self.qty - self.cost

    def trade(self, sign: int, qty: Decimal, price: Decimal) -> Decimal:
        """Take in a fill and return the profit it realises, quote units; may turn the position."""
        closing = min(qty, self.closable(sign))
        profit = ZERO
        if closing:
            size = abs(self.qty)
            # the last part takes whatever cost rounding left
            share = self.cost if closing == size else money(self.cost * closing / size)
            profit = -sign * closing * price - share
            self.cost -= share
        self.qty += sign * qty
        self.cost += sign * (qty - closing) * price
        self.realised += profit
        return profit


@dataclass(slots=True)
class PerpWallet:
    """Money by settlement asset, and positions by symbol."""

    balances: dict[str, Decimal] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)

    def of(self, name: str) -> Held:
        """Return the position of a symbol, which may be flat."""
        return self.held.setdefault(name, Held())

    def add(self, asset: str, amount: Decimal) -> None:
        """Put in; a negative amount takes out."""
        self.balances[asset] = self.balances.get(asset, ZERO) + amount
