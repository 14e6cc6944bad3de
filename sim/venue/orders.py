"""Orders and fills as the venue keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from domain.market import Market
from domain.trading import ZERO, Side

NEW, PARTLY, FILLED = "NEW", "PARTIALLY_FILLED", "FILLED"
CANCELED, EXPIRED, REJECTED = "CANCELED", "EXPIRED", "REJECTED"
TRIGGERED, FINISHED = "TRIGGERED", "FINISHED"  # of conditional orders of perpetuals
_OPEN = (NEW, PARTLY)


@dataclass(slots=True)
class Order:
    """An order in whatever state it is.

    Attributes
    ----------
    number : the venue's own, growing. ``name`` : of the symbol, ``BTCUSDT``.
    kind, tif : type and time in force in the exchange's words.
    price : limit, quote units; None = at the market. ``stop`` : trigger; None = none.
    quote : quote units to spend or to get, of spot's market orders without a quantity.
    closes : takes the whole position when it is triggered.
    algo : a conditional order of perpetuals, which makes another order when it is triggered.
    filled : base units. ``paid`` : quote units, Σ price · quantity.
    locked : of the wallet, for what is left of it; spot only.
    child : number of the order that an ``algo`` made; ``parent`` : of the ``algo`` that made it.
    why : it was rejected.
    held_until : ms, market time until which nothing happens to it; 0 = it is not held.
    expires : once it is held no more.
    """

    number: int
    market: Market
    name: str
    client_id: str
    side: Side
    kind: str
    tif: str
    qty: Decimal
    placed_at: int  # ms, market time, as are the next two
    updated_at: int
    triggered_at: int = 0
    price: Decimal | None = None
    stop: Decimal | None = None
    quote: Decimal | None = None
    reduce_only: bool = False
    closes: bool = False
    algo: bool = False
    status: str = NEW
    filled: Decimal = ZERO
    paid: Decimal = ZERO
    locked: Decimal = ZERO
    child: int = 0
    parent: int = 0
    why: str = ""
    held_until: int = 0
    expires: bool = False

    @property
    def open(self) -> bool:
        """Whether anything can still become of it."""
        return self.status in _OPEN

    @property
    def left(self) -> Decimal:
        """What is not filled, base units."""
        return self.qty - self.filled

    @property
    def average(self) -> Decimal:
        """Average price of its fills, quote units; 0 without any."""
        return self.paid / self.filled if self.filled else ZERO

    @property
    def waits(self) -> bool:
        """Whether it waits for its trigger."""
        return self.stop is not None and not self.triggered_at

    @property
    def from_below(self) -> bool:
        """Whether a rising price triggers it."""
        return (self.side is Side.BUY) != self.kind.startswith("TAKE_PROFIT")

    def reached(self, price: Decimal) -> bool:
        """Return whether a price triggers it; False without a trigger."""
        if self.stop is None:
            return False
        return price >= self.stop if self.from_below else price <= self.stop


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill, with what it cost and gained.

    Attributes
    ----------
    fee : of ``fee_asset``, positive is paid. ``realised`` : before the fee, quote units.
    """

    number: int
    order: int
    market: Market
    name: str
    side: Side
    price: Decimal
    qty: Decimal
    fee: Decimal
    fee_asset: str
    at: int  # ms, market time
    maker: bool
    realised: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Income:
    """A change of a perpetuals' wallet: realised profit, fee, funding, or the insurance fund's."""

    number: int
    kind: str
    name: str
    asset: str
    amount: Decimal
    at: int  # ms, market time
    trade: int = 0
