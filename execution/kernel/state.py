"""What the compiled engine reads and writes. Prices are whole ticks, quantities whole lots."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.market import BarFrame, Instrument
from domain.times import timeframe_ms
from execution.draws import key_of, mixed
from execution.fills import CostModel
from execution.funding import INTERVAL_MS, FundingRate, base_rate, stamps_between
from execution.paper import Venue

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Rules(NamedTuple):
    """Venue, costs and horizon in plain numbers; fees, spread and slippage as fractions.

    Numbers only: an array in it would be counted as used and unused with every call.
    """

    tick: float  # quote units
    step: float  # base units of a lot
    spot: bool
    taker: float
    maker: float
    half_spread: float
    slippage: float
    impact: float
    participation: float  # infinite for no limit
    queue_share: float
    leverage: float
    liquidation: float
    draw: np.uint64  # of a touched target, before its instant
    bar_ms: int
    horizon_ms: int


class Bars(NamedTuple):
    """n bars; ``funding`` is Σ mark × rate of the stamps up to the open, quote units per unit."""

    open_ms: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    funding: Floats


class Moment(NamedTuple):
    """One row of :class:`Bars`, and its number ``t``."""

    t: int
    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    funding: float


class Account:
    """One account on one market: a row of :data:`ROW`, changed in place.

    A record, not an array: compiled code would count each use of an array.

    Attributes
    ----------
    lots : signed. ``cost`` : lots × ticks. ``entry`` : average price, quote units.
    stop, target, level : whole ticks, NaN for none; ``level`` is where it is liquidated, ``margin``
        what is then left of the position's (quote units).
    due : horizon exit, ms, 0 for none. ``opened`` : number of the bar in which it was.
    leave, enter : lots of orders on their way; ``side``, ``sent`` (ms), ``its_stop`` and
        ``its_target`` belong to ``enter``.
    """

    cash: float
    lots: float
    cost: float
    entry: float
    stop: float
    target: float
    level: float
    margin: float
    due: int
    opened: int
    leave: float
    enter: float
    side: float
    sent: int
    its_stop: float
    its_target: float
    fees: float
    spread: float
    slippage: float
    funding: float
    liquidation: float
    fills: int
    trades: int


ROW = np.dtype(list(Account.__annotations__.items()))


class Wishes(NamedTuple):
    """What is decided at each close, (n,).

    Attributes
    ----------
    side : +1, −1 or 0. ``lots`` : of an entry, 0 = none.
    stop, target : whole ticks, NaN for none.
    """

    side: NDArray[np.int8]
    lots: Floats
    stop: Floats
    target: Floats


class Played(NamedTuple):
    """What became of it.

    Attributes
    ----------
    equity : at each close, quote units (n,). ``lots`` : signed position at each close (n,).
    fees, spread, slippage, funding, liquidation : quote units in all, positive is paid.
    fills, trades : how many; a trade is a position that was closed.
    """

    equity: Floats
    lots: Floats
    fees: float
    spread: float
    slippage: float
    funding: float
    liquidation: float
    fills: int
    trades: int


def rules_of(
    instrument: Instrument, costs: CostModel, venue: Venue, timeframe: str, horizon_bars: int
) -> Rules:
    """Translate the reference's settings."""
    step_ms = timeframe_ms(timeframe)
    return Rules(
        float(instrument.tick), float(instrument.step), instrument.market == "spot",
        costs.taker_bps / 1e4, costs.maker_bps / 1e4, costs.spread_bps / 2e4,
        costs.slippage_bps / 1e4, costs.impact,
        math.inf if costs.participation is None else costs.participation, costs.queue_share,
        float(venue.leverage), instrument.liquidation_bps / 1e4,
        np.uint64(mixed(venue.seed & (2**64 - 1)) ^ key_of(instrument.symbol, "target")),
        step_ms, horizon_bars * step_ms,
    )  # fmt: skip


def tiers_of(instrument: Instrument) -> Floats:
    """Return the margin tiers, (3, n): up to a notional, rate, deducted; n = 0 on spot."""
    tiers = () if instrument.market == "spot" else instrument.tiers
    columns = [[float(x) for x in (tier.up_to, tier.rate, tier.deducted)] for tier in tiers]
    return np.ascontiguousarray(np.array(columns).reshape(len(tiers), 3).T)


def bars_of(
    frame: BarFrame, rate: FundingRate = base_rate, *, funded: bool = True,
    every_ms: int = INTERVAL_MS,
) -> Bars:  # fmt: skip
    """Return a frame's columns with what its funding stamps cost.

    Parameters
    ----------
    funded : whether the market pays funding (a perpetual). ``every_ms`` : between its stamps.
    """
    funding = np.zeros(len(frame))
    if funded and len(frame):
        between = stamps_between(int(frame.ts[0]), int(frame.ts[-1]), every_ms)
        stamps = np.fromiter(between, dtype=np.int64)
        at = np.searchsorted(frame.ts, stamps)  # the first bar that opens at the stamp or later
        mark = np.where(frame.ts[at] == stamps, frame.open[at], frame.close[at - 1])
        rates = [rate(frame.symbol, stamp) for stamp in stamps.tolist()]
        np.add.at(funding, at, mark * np.array(rates, dtype=np.float64))
    columns = (frame.open, frame.high, frame.low, frame.close, frame.volume)
    return Bars(frame.ts, *columns, funding)
