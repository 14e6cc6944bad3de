"""How much to risk: a share of Kelly's fraction of the last trades, less in a wild market."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from domain.market import Bar
from domain.times import DAY_MS
from domain.trading import ClosedTrade


@dataclass(frozen=True, slots=True)
class KellySettings:
    """How the last trades and the market's volatility set the risk of the next trade.

    Attributes
    ----------
    window : closed trades that are looked at; before there are so many the risk is fixed.
    share : of f*, fraction.
    max_risk : largest loss at the stop, fraction of equity.
    target_vol : daily volatility up to which nothing is taken off, log return.
    vol_days : UTC days in the realised volatility.
    """

    window: int = 50
    share: float = 0.25
    max_risk: float = 0.015
    target_vol: float = 0.02
    vol_days: int = 20


@dataclass(frozen=True, slots=True)
class Stake:
    """The risk of the next trade and what it was worked out from.

    Attributes
    ----------
    fraction : of equity, to be lost at the stop.
    smallest : whether nothing but the smallest order is due, as the trades had no edge.
    trades : closed trades looked at.
    p : share of them that won. ``b`` : mean win over mean loss. ``f`` : f* = (b·p − q)/b. None
        before the window is full; b also without a loss, f without a win.
    vol : realised daily volatility, log return; None before two days.
    vol_factor : min(1, target / vol); 1 while vol is not known.
    """

    fraction: float
    smallest: bool = False
    trades: int = 0
    p: float | None = None
    b: float | None = None
    f: float | None = None
    vol: float | None = None
    vol_factor: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Record:
    """What a full window of trades says."""

    p: float
    b: float | None
    f: float | None


class TrackRecord:
    """Kelly's inputs as a fold over closed trades and bars, a few operations a row.

    A trade counts by what it earned on its notional, net of all costs, so that a large one weighs
    no more than a small one: the odds are per unit staked.

    Parameters
    ----------
    account : whose trades count.
    symbols : what is forecast: its bars are there before the first trade, warm-up included.
    fixed : risk of a trade before the window is full, fraction of equity.
    """

    def __init__(
        self, settings: KellySettings, account: str, symbols: Iterable[str], fixed: float
    ) -> None:
        self._settings, self._account, self._fixed = settings, account, fixed
        self._returns: deque[float] = deque(maxlen=settings.window)
        self._record: _Record | None = None
        self._vols = {symbol: DailyVolatility(settings.vol_days) for symbol in symbols}

    def fold(self, record: Any) -> None:
        """Take in one ledger row; rows of no interest pass."""
        if isinstance(record, Bar):
            vol = self._vols.get(record.symbol)
            if vol is not None:
                vol.add(record)
        elif isinstance(record, ClosedTrade) and record.account == self._account:
            self._returns.append(float(record.pnl / (record.qty * record.entry)))
            if len(self._returns) == self._settings.window:
                self._record = _record(self._returns)

    def stake(self, symbol: str) -> Stake:
        """Return the risk of the next trade on a forecast symbol."""
        settings, trades = self._settings, len(self._returns)
        known = self._vols.get(symbol)
        vol = None if known is None else known.value
        factor = 1.0 if vol is None or vol <= settings.target_vol else settings.target_vol / vol
        record = self._record
        if record is None:
            fixed = min(self._fixed, settings.max_risk)
            return Stake(fixed, trades=trades, vol=vol, vol_factor=factor)
        edge = record.f is not None and record.f > 0.0
        fraction = settings.share * record.f * factor if edge and record.f is not None else 0.0
        return Stake(
            min(settings.max_risk, fraction), not edge, trades, record.p, record.b, record.f, vol,
            factor,
        )  # fmt: skip


def _record(returns: Iterable[float]) -> _Record:
    # f* = p − q/b with 1/b = loss/win, which holds without a loss as well.
    earned = list(returns)
    wins = [x for x in earned if x > 0.0]
    p = len(wins) / len(earned)
    if not wins:
        return _Record(p, 0.0, None)
    win = math.fsum(wins) / len(wins)
    losses = [x for x in earned if x <= 0.0]
    loss = -math.fsum(losses) / len(losses) if losses else 0.0
    return _Record(p, win / loss if loss else None, p - (1.0 - p) * loss / win)


class DailyVolatility:
    """Root mean square of the last log returns from one UTC day's close to the next.

    A day's close is that of its last bar; only returns between neighbouring days count.

    Parameters
    ----------
    days : how many returns at most.
    """

    def __init__(self, days: int) -> None:
        self._squares: deque[float] = deque(maxlen=days)
        self._day = -1  # the day that the newest bar closed in; its end belongs to the next
        self._last = 0.0
        self._closed, self._close = -2, 0.0  # the last day that is over, and its close
        self.value: float | None = None
        """Log return per day; None before two returns."""

    def add(self, bar: Bar) -> None:
        """Take in the next bar."""
        at = bar.close_ms
        day = at // DAY_MS
        if day != self._day:
            if at % DAY_MS == 0:
                self._end(day - 1, bar.close)
            elif self._day >= 0:
                self._end(self._day, self._last)
            self._day = day
        self._last = bar.close

    def _end(self, day: int, close: float) -> None:
        if day == self._closed + 1:
            self._squares.append(math.log(close / self._close) ** 2)
            if len(self._squares) >= 2:
                self.value = math.sqrt(math.fsum(self._squares) / len(self._squares))
        self._closed, self._close = day, close
