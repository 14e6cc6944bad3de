"""Orders, fills and what they add up to. Money and quantities are Decimal, prices quote units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from domain.canonical import short_hash

ZERO = Decimal(0)


class Side(StrEnum):
    """Side of an order."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for buy, −1 for sell."""
        return 1 if self is Side.BUY else -1


class OrderType(StrEnum):
    """How an order wants to be filled."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"


class OrderStatus(StrEnum):
    """What a broker says of an order: on the book; filled, which the next bar will tell; kept to be
    sent; over; never seen.
    """

    WORKING = "working"
    FILLED = "filled"
    HELD = "held"
    DONE = "done"
    UNKNOWN = "unknown"


class RiskMode(StrEnum):
    """What risk allows: everything; closing only; nothing new until armed; nothing at all."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"
    KILLED = "KILLED"


def client_order_id(
    account: str, symbol: str, strategy: str, as_of: int, intent: str, attempt: int = 0
) -> str:
    """Return the deterministic id of an order, ≤ 36 characters: sending it twice is one order."""
    return "cv" + short_hash([account, symbol, strategy, as_of, intent, attempt], 30)


@dataclass(frozen=True, slots=True)
class Order:
    """An instruction to the broker.

    ``intent`` is ``entry`` or an exit reason; ``bracket`` orders (stop, target) rest until the
    position closes.
    """

    id: str  # client_order_id
    account: str
    symbol: str
    side: Side
    qty: Decimal
    type: OrderType
    created_at: int  # ms, market time
    decision_id: str
    intent: str
    price: Decimal | None = None  # limit price
    trigger: Decimal | None = None  # stop trigger
    reduce_only: bool = False

    @property
    def closes(self) -> bool:
        """Whether it closes at the market; stop and target, which wait for a price, do not."""
        return self.reduce_only and self.type is OrderType.MARKET


@dataclass(frozen=True, slots=True)
class Fill:
    """A (part of an) order carried out. Costs are quote units, positive is paid.

    ``spread`` and ``slippage`` are already inside ``price``; they are shown so that each cost
    has its own line. ``reference`` is the price before both.
    """

    id: str
    order_id: str
    account: str
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    at: int  # ms, market time
    fee: Decimal
    spread: Decimal
    slippage: Decimal
    reference: Decimal
    maker: bool
    intent: str
    realised: Decimal = ZERO  # profit realised by this fill, before its fee


@dataclass(frozen=True, slots=True)
class Refusal:
    """An order or intent that was not carried out: a value, not an exception."""

    account: str
    symbol: str
    at: int  # ms
    code: str  # a Reason
    rule: str
    value: str
    intent: str
    decision_id: str

    @property
    def identity(self) -> tuple[str | int, ...]:
        """One refusal per decision, intent and code."""
        return self.account, self.symbol, self.at, self.code, self.intent, self.decision_id

    @property
    def key(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)


@dataclass(frozen=True, slots=True)
class Posting:
    """One line of a double-entry booking; per ``entry`` and asset the amounts sum to zero."""

    entry: str  # id of what caused it, e.g. a fill's
    account: str  # e.g. "paper"
    book: str  # cash, position, market, fee, liquidation, funding, realised, capital
    asset: str  # USDT, or a symbol for contracts
    amount: Decimal
    at: int
    memo: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """One line per entry, book and asset."""
        return self.entry, self.account, self.book, self.asset

    @property
    def key(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)


@dataclass(frozen=True, slots=True)
class Position:
    """An open position of one symbol and account; qty is signed."""

    account: str
    symbol: str
    qty: Decimal
    entry_price: Decimal  # average
    opened_at: int
    decision_id: str
    horizon_due: int  # ms; the horizon exit
    stop: Decimal | None = None
    target: Decimal | None = None
    fee: Decimal = ZERO  # paid so far, as are the next three
    spread: Decimal = ZERO
    slippage: Decimal = ZERO
    funding: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """A round trip. pnl is net of fee and funding; spread and slippage are inside the prices."""

    symbol: str
    side: Literal["LONG", "SHORT"]
    qty: Decimal
    opened_at: int
    closed_at: int
    entry: Decimal
    exit: Decimal
    fee: Decimal
    slippage: Decimal
    spread: Decimal
    funding: Decimal
    pnl: Decimal
    reason: str
    account: str = "paper"
    strategy: str = ""
    decision_id: str = ""

    @property
    def identity(self) -> tuple[str | int, ...]:
        """One trade per account, symbol, opening and closing instant."""
        return self.account, self.symbol, self.opened_at, self.closed_at, self.decision_id

    @property
    def id(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)


@dataclass(frozen=True, slots=True)
class Portfolio:
    """An account at one instant, marked to market (quote units)."""

    account: str
    currency: str
    at: int
    cash: Decimal
    equity: Decimal
    high_water: Decimal
    positions: Mapping[str, Position] = field(default_factory=dict)
    marks: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def drawdown(self) -> Decimal:
        """1 − equity / high-water mark, in [0, 1]."""
        return max(ZERO, 1 - self.equity / self.high_water) if self.high_water > 0 else ZERO


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a broker says an account holds.

    Attributes
    ----------
    cash : in the account's currency; None while the broker cannot say what there is.
    quantities : signed base units by symbol; flat ones may be left out.
    """

    cash: Decimal | None
    quantities: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class EquityMark:
    """Account value at the close of a bar, as stored."""

    account: str
    at: int
    cash: Decimal
    equity: Decimal
    high_water: Decimal

    @property
    def identity(self) -> tuple[str, int]:
        """One mark per account and instant."""
        return self.account, self.at

    @property
    def key(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)


@dataclass(frozen=True, slots=True)
class ModeChange:
    """A change of :class:`RiskMode`, by whom and why; the newest one holds."""

    account: str
    at: int
    mode: RiskMode
    by: str
    why: str

    @property
    def identity(self) -> tuple[str | int, ...]:
        """One change per instant, mode and cause."""
        return self.account, self.at, self.mode, self.by, self.why

    @property
    def key(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)


@dataclass(frozen=True, slots=True)
class Event:
    """Something people may want to be told: the stream, the dashboard and messages read these."""

    kind: str  # decision, fill, trade, risk, data, job, desk, …
    at: int  # ms, market time
    body: Mapping[str, Any]
    level: Literal["info", "warning", "error"] = "info"
