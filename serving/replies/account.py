"""What the account answers with: trades, orders, positions, equity, journal."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serving.replies.base import Instant, Money, OrderSide, Reply, TradeSide


class TradeView(Reply):
    """A round trip: of an account here, or told from elsewhere (``account`` is ``external``)."""

    id: str
    account: str
    symbol: str
    side: TradeSide
    qty: Money = Field(description="base units")
    opened_at: Instant
    closed_at: Instant
    entry: Money
    exit: Money
    fee: Money
    slippage: Money = Field(description="inside the prices")
    spread: Money = Field(description="inside the prices")
    funding: Money = Field(description="positive is paid")
    pnl: Money = Field(description="net of fee and funding")
    reason: str = Field(description="what closed it; `external` for one told from elsewhere")
    strategy: str
    decision_id: str = Field(description="signal that opened it; empty where there is none")
    ref: str | None = Field(None, description="external: the id it was told with")
    by: str | None = Field(None, description="external: whose token told it")
    source: str | None = Field(None, description="external: where it comes from")
    note: str | None = None


class TradeTold(Reply):
    """An external trade as it is kept, and whether it was new."""

    trade: TradeView
    new: bool = Field(description="false: the same trade had been told before")


class FillView(Reply):
    """A (part of an) order carried out."""

    id: str
    order_id: str
    account: str
    symbol: str
    side: OrderSide
    qty: Money = Field(description="base units")
    price: Money
    at: Instant
    fee: Money
    spread: Money
    slippage: Money
    reference: Money = Field(description="price before spread and slippage")
    maker: bool
    intent: str
    realised: Money = Field(description="profit realised, before the fee")


class OrderView(Reply):
    """An order with its fills."""

    id: str
    account: str
    symbol: str
    side: OrderSide
    qty: Money = Field(description="base units")
    type: Literal["market", "limit", "stop"]
    created_at: Instant
    decision_id: str
    intent: str = Field(description="entry, or the reason of an exit")
    price: Money | None
    trigger: Money | None
    reduce_only: bool
    fills: list[FillView]


class PositionView(Reply):
    """An open position."""

    account: str
    symbol: str
    side: TradeSide
    qty: Money = Field(description="base units, negative when short")
    entry_price: Money
    mark: Money | None = Field(description="last close")
    opened_at: Instant
    decision_id: str
    horizon_due: Instant
    stop: Money | None
    target: Money | None
    fee: Money
    spread: Money
    slippage: Money
    funding: Money


class AccountView(Reply):
    """An account at one instant, marked to the last closes."""

    account: str
    currency: str
    at: Instant
    cash: Money
    equity: Money
    high_water: Money
    drawdown: Money = Field(description="fraction below the high-water mark")
    positions: list[PositionView]


class EquityPoint(Reply):
    """The account's value at the close of a bar."""

    account: str
    at: Instant
    cash: Money
    equity: Money
    high_water: Money


class EquityView(Reply):
    """The account now (null before the first bar) and its value over time, oldest first."""

    account: AccountView | None
    items: list[EquityPoint]
    next: None = None


class ReflectionView(Reply):
    """What somebody makes of a trade."""

    account: str
    symbol: str
    decision_id: str
    at: Instant
    author: str
    text: str
    tags: list[str]
    draft: bool
    followed_plan: bool | None


class JournalRow(TradeView):
    """A closed trade with the newest that was written about it."""

    reflection: ReflectionView | None
    followed_plan: bool | None
    missing: bool = Field(description="no person wrote about it yet")


class DecidedBrief(Reply):
    """The decision that opened a trade, in short."""

    id: str
    reason: str
    prob_up: float | None = Field(description="probability of a higher close")
    stop: float | None = Field(description="price, quote currency")
    target: float | None = Field(description="price, quote currency")


class ExcursionView(Reply):
    """How far a trade went, fractions of its entry."""

    favourable: float = Field(description="at its best, ≥ 0")
    adverse: float = Field(description="at its worst, ≤ 0")


class JournalEntry(JournalRow):
    """A closed trade with everything written about it."""

    reflections: list[ReflectionView]
    decision: DecidedBrief | None
    excursion: ExcursionView | None


class JournalTold(Reply):
    """What was written down, and the order that closes where one was asked for."""

    reflection: ReflectionView
    new: bool | None = None
    order: str | None = None
    symbol: str | None = None
