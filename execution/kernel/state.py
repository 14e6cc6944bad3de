"""What the compiled engine reads and writes. Prices are whole ticks, quantities whole lots."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.market import BarFrame, Instrument
from domain.times import timeframe_ms
from execution.draws import key_of, mixed
from execution.fills import CostModel
from execution.funding import FundingRate, base_rate, stamps_between
from execution.paper import Venue

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Rules(NamedTuple):
    """Venue, costs and horizon in plain numbers; fees, spread and slippage as fractions."""

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
    up_to: Floats  # of the margin tiers, as are the next two; empty = never liquidated
    rate: Floats
    deducted: Floats
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
    tiers = () if instrument.market == "spot" else instrument.tiers

    def column(values: list[Decimal]) -> Floats:
        return np.array([float(value) for value in values])

    return Rules(
        float(instrument.tick), float(instrument.step), instrument.market == "spot",
        costs.taker_bps / 1e4, costs.maker_bps / 1e4, costs.spread_bps / 2e4,
        costs.slippage_bps / 1e4, costs.impact,
        math.inf if costs.participation is None else costs.participation, costs.queue_share,
        float(venue.leverage), instrument.liquidation_bps / 1e4,
        column([tier.up_to for tier in tiers]), column([tier.rate for tier in tiers]),
        column([tier.deducted for tier in tiers]),
        np.uint64(mixed(venue.seed & (2**64 - 1)) ^ key_of(instrument.symbol, "target")),
        step_ms, horizon_bars * step_ms,
    )  # fmt: skip


def bars_of(frame: BarFrame, rate: FundingRate = base_rate, *, funded: bool = True) -> Bars:
    """Return a frame's columns with what its funding stamps cost.

    Parameters
    ----------
    funded : whether the market pays funding (a perpetual).
    """
    funding = np.zeros(len(frame))
    for t in range(1, len(frame) if funded else 0):
        opened, before = int(frame.ts[t]), int(frame.ts[t - 1])
        for stamp in stamps_between(before, opened):
            mark = frame.open[t] if stamp == opened else frame.close[t - 1]
            funding[t] += float(mark) * rate(frame.symbol, stamp)
    columns = (frame.open, frame.high, frame.low, frame.close, frame.volume)
    return Bars(frame.ts, *columns, funding)
