"""What the market showed, and what was knowable when."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from domain.errors import DataRefused, UsageError
from domain.times import HOUR_MS, timeframe_ms

Floats = NDArray[np.float64]
Market = Literal["spot", "perp"]

_QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "USD", "EUR", "BTC", "ETH")
_UNIFIED = re.compile(r"[A-Z0-9]{1,20}/[A-Z0-9]{1,20}(:[A-Z0-9]{1,20})?")


def parse_symbol(text: str) -> str:
    """Return the ccxt-unified symbol for ``BTC/USDT``, ``BTC-USDT`` or ``BTCUSDT``.

    Raises
    ------
    UsageError : if no base and quote can be told apart.
    """
    upper = text.strip().upper().replace("-", "/", 1)
    if _UNIFIED.fullmatch(upper):
        return upper
    for quote in _QUOTES:
        if upper.isalnum() and upper.endswith(quote) and len(upper) > len(quote):
            return f"{upper[: -len(quote)]}/{quote}"
    raise UsageError(
        "symbol",
        "must name base and quote",
        text,
        "Try BTC/USDT, or BTC/USDT:USDT for a perpetual.",
    )


def market_of(symbol: str) -> Market:
    """Return ``perp`` for ``BTC/USDT:USDT``, else ``spot``."""
    return "perp" if ":" in symbol else "spot"


def symbol_on(symbol: str, market: Market) -> str:
    """Return the same pair on another market: ``BTC/USDT`` ↔ ``BTC/USDT:USDT``."""
    pair = symbol.split(":")[0]
    return f"{pair}:{pair.split('/')[1]}" if market == "perp" else pair


@dataclass(frozen=True, slots=True)
class Bar:
    """One closed bar. Stamped by its open, known at its close. Prices in quote, volume in base."""

    symbol: str
    timeframe: str
    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def identity(self) -> tuple[str, str, int]:
        """One bar per symbol, timeframe and open."""
        return self.symbol, self.timeframe, self.open_ms

    @property
    def close_ms(self) -> int:
        """The instant at which the bar is known."""
        return self.open_ms + timeframe_ms(self.timeframe)


@dataclass(frozen=True, slots=True, eq=False)
class BarFrame:
    """A run of bars as columns, ordered by time; there may be holes.

    Attributes
    ----------
    ts : (n,) int64, bar open, UTC ms.
    open, high, low, close, volume : (n,) float64.
    """

    symbol: str
    timeframe: str
    ts: NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    @classmethod
    def of(cls, bars: Sequence[Bar]) -> Self:
        """Build from bars of one symbol and timeframe (at least one)."""
        if not bars:
            raise DataRefused("bars", "need at least one")
        columns = [
            np.array([getattr(bar, name) for bar in bars], dtype=np.float64)
            for name in ("open", "high", "low", "close", "volume")
        ]
        ts = np.array([bar.open_ms for bar in bars], dtype=np.int64)
        return cls(bars[0].symbol, bars[0].timeframe, ts, *columns)

    @classmethod
    def join(cls, symbol: str, timeframe: str, parts: Sequence[BarFrame]) -> Self:
        """Put frames behind one another, none at all included."""
        columns = [
            np.concatenate([np.empty(0), *(getattr(part, name) for part in parts)])
            for name in ("open", "high", "low", "close", "volume")
        ]
        ts = np.concatenate([np.empty(0, np.int64), *(part.ts for part in parts)])
        return cls(symbol, timeframe, ts, *columns)

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def step_ms(self) -> int:
        """The length of one bar in ms."""
        return timeframe_ms(self.timeframe)

    def slice(self, start: int, stop: int) -> Self:
        """Return bars [start, stop) as views."""
        cut = slice(start, stop)
        return type(self)(
            self.symbol, self.timeframe, self.ts[cut], self.open[cut], self.high[cut],
            self.low[cut], self.close[cut], self.volume[cut],
        )  # fmt: skip

    def between(self, start_ms: int | None, end_ms: int | None) -> Self:
        """Return the bars that open in [start, end)."""
        a = 0 if start_ms is None else int(np.searchsorted(self.ts, start_ms))
        b = len(self) if end_ms is None else int(np.searchsorted(self.ts, end_ms))
        return self.slice(a, b)

    def bar(self, i: int) -> Bar:
        """Return bar i (negative counts from the end)."""
        return Bar(
            self.symbol, self.timeframe, int(self.ts[i]), float(self.open[i]), float(self.high[i]),
            float(self.low[i]), float(self.close[i]), float(self.volume[i]),
        )  # fmt: skip

    def bars(self) -> Iterator[Bar]:
        """Iterate over single bars."""
        return (self.bar(i) for i in range(len(self)))

    def bars_since_gap(self) -> NDArray[np.int64]:
        """Return how many contiguous bars end in each bar (1 for the first after a gap), (n,)."""
        index = np.arange(len(self))
        starts = np.concatenate(([True], np.diff(self.ts) != self.step_ms))
        return index - np.maximum.accumulate(np.where(starts, index, 0)) + 1


@dataclass(frozen=True, slots=True)
class BookSnapshot:
    """Top of the order book at one instant: (price, quantity) pairs, best first."""

    symbol: str
    at: int  # ms
    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]

    @property
    def two_sided(self) -> bool:
        """Whether both sides have a price; without, there is neither a mid nor a spread."""
        return bool(self.bids and self.asks)

    @property
    def mid(self) -> float:
        """Midpoint in quote units."""
        return (self.bids[0][0] + self.asks[0][0]) / 2.0

    @property
    def spread_bps(self) -> float:
        """(ask − bid) / mid in basis points."""
        return (self.asks[0][0] - self.bids[0][0]) / self.mid * 1e4

    def liquidity(self, levels: int = 5) -> float:
        """Sum of price × quantity over the top levels of both sides, quote units."""
        return sum(price * qty for side in (self.bids, self.asks) for price, qty in side[:levels])


@dataclass(frozen=True, slots=True)
class Trade:
    """One public trade print."""

    at: int  # ms
    price: float
    qty: float
    buyer_is_maker: bool


@dataclass(frozen=True, slots=True)
class OrderFlow:
    """What the best quotes did over [start, end), added up from snapshot to snapshot.

    Attributes
    ----------
    ofi : order-flow imbalance Σe (:func:`data.flow.flow_event`), base units; > 0: buyers press.
    gross : Σ|e|, base units: |ofi| is never more.
    updates : snapshots that were added up.
    """

    start: int  # ms
    end: int  # ms
    ofi: float
    gross: float
    updates: int


@dataclass(frozen=True, slots=True)
class BookView:
    """What somebody who watches order book and trades could see at one instant.

    Attributes
    ----------
    book : the newest snapshot.
    trades : the newest prints, oldest first.
    flow : of the last seconds; None where nobody watched the book move.
    """

    book: BookSnapshot | None = None
    trades: tuple[Trade, ...] = ()
    flow: OrderFlow | None = None


@dataclass(frozen=True, slots=True)
class SeenBook:
    """What was seen of a symbol's book and trades by an instant: what a decision, or a fill, used.

    Attributes
    ----------
    at : UTC ms; nothing in ``view`` is later.
    """

    symbol: str
    at: int
    view: BookView

    @property
    def key(self) -> str:
        """What makes two of them the same."""
        return f"{self.symbol} {self.at}"

    @property
    def identity(self) -> tuple[str, int]:
        """Cheaper than the key to compare."""
        return self.symbol, self.at


@dataclass(frozen=True, slots=True)
class SettledFunding:
    """What a perpetual's funding stamp pays.

    Attributes
    ----------
    at : the stamp, UTC ms.
    rate : fraction of notional; positive: longs pay.
    published : by the venue; else it did not say in time, and the usual rate was taken.
    """

    symbol: str
    at: int
    rate: float
    published: bool = True

    @property
    def key(self) -> str:
        """What makes two of them the same."""
        return f"{self.symbol} {self.at}"

    @property
    def identity(self) -> tuple[str, int]:
        """Cheaper than the key to compare."""
        return self.symbol, self.at


@dataclass(frozen=True, slots=True)
class Instant:
    """What an exchange tells of one close.

    Attributes
    ----------
    bars : of forecast symbols, by symbol.
    executed : forecast symbol → bar of the same span where it is executed, if that is elsewhere;
        without the symbol's own it is one that came late.
    seen : books at the close, where somebody watched.
    """

    bars: tuple[Bar, ...]
    executed: Mapping[str, Bar] = field(default_factory=dict)
    seen: tuple[SeenBook, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFrame:
    """Feature rows aligned with the last rows of the bars they were made from.

    Attributes
    ----------
    names : column names, in the order of :data:`schema`.
    values : (n, len(names)) float64; NaN where the past is too short.
    schema : hash of names and their definitions; a model refuses another schema.
    """

    names: tuple[str, ...]
    values: Floats
    schema: str

    def last(self) -> Floats:
        """Return the newest row, (len(names),)."""
        return np.asarray(self.values[-1])

    def column(self, name: str) -> Floats:
        """Return one column, (n,)."""
        return np.asarray(self.values[:, self.names.index(name)])


@dataclass(frozen=True, slots=True, eq=False)
class MarketState:
    """Everything that was knowable about one symbol at ``as_of``, and nothing later.

    Attributes
    ----------
    as_of : close of the last bar, UTC ms.
    bars : base-timeframe bars, the last one closes at ``as_of``; no gap among them.
    features : rows aligned with the end of ``bars``.
    bars_since_gap : contiguous bars up to the last one, also those no longer in ``bars``.
    frames : closed bars of other timeframes, by name.
    book, trades, flow : as in :class:`BookView`; without them where nobody watched the book.
    """

    symbol: str
    timeframe: str
    as_of: int
    bars: BarFrame
    features: FeatureFrame
    bars_since_gap: int
    frames: Mapping[str, BarFrame] = field(default_factory=dict)
    book: BookSnapshot | None = None
    trades: tuple[Trade, ...] = ()
    flow: OrderFlow | None = None
    funding_rate: float | None = None  # fraction per funding interval

    def feature(self, name: str) -> float:
        """Return one feature of the newest row."""
        return float(self.features.values[-1, self.features.names.index(name)])


@dataclass(frozen=True, slots=True)
class MarginTier:
    """What a venue asks of positions up to a notional.

    Attributes
    ----------
    up_to : largest notional of the tier, quote units.
    rate : of maintenance margin, fraction of the notional.
    max_leverage : largest leverage.
    deducted : from rate × notional, quote units, so that the margin has no jump between tiers.
    """

    up_to: Decimal
    rate: Decimal
    max_leverage: int
    deducted: Decimal


@dataclass(frozen=True, slots=True)
class Instrument:
    """A tradable symbol with its venue filters (quote units, base units, fractions).

    Attributes
    ----------
    tiers : of maintenance margin, by notional; empty on spot.
    liquidation_bps : fee of a liquidation, basis points of its notional.
    funding_hours : between two funding stamps of a perpetual, which are multiples of it from 00:00
        UTC on; divides 24.
    """

    symbol: str
    tick: Decimal
    step: Decimal
    min_qty: Decimal
    max_qty: Decimal
    min_notional: Decimal
    taker_bps: float
    maker_bps: float
    tiers: tuple[MarginTier, ...] = ()
    liquidation_bps: float = 120.0
    funding_hours: int = 8

    @property
    def funding_ms(self) -> int:
        """Milliseconds between two funding stamps."""
        return self.funding_hours * HOUR_MS

    @property
    def market(self) -> Market:
        """``spot`` or ``perp``."""
        return market_of(self.symbol)
