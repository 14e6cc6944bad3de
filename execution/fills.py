"""The fill engine: what an order pays, as pure functions.

A market order decided at the close of bar t trades in bar t+1. With a fresh order book it walks its
levels, one fill each. With bars alone it trades at the open, worse by half a spread, the slippage
and the impact of its size; no more than a share of the bar's volume. A stop trades at the open if
the market gapped through it, else at its trigger, as a market order that must be filled whole. A
limit trades at its own price when the market goes through it, and by chance when it is only
touched. Backtest, paper and the gate's environment call these and nothing else;
:mod:`execution.kernel` is the same, compiled.

Impact follows the square-root law (Tóth et al., *Anomalous price impact and the critical nature of
liquidity in financial markets*, 2011): Y · (high − low)/open · √(quantity/volume) of the bar.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal

from domain.decision import Costs
from domain.errors import SettingError
from domain.market import Bar, Instrument
from domain.trading import ZERO, Side
from execution.money import BPS, dec, money, to_step, to_tick

BEYOND = 100.0  # times a bar's volume: of more nobody knows what it would do to the price
_NEAR = Decimal("0.0000005")  # of a step


@dataclass(frozen=True, slots=True, kw_only=True)
class Frictions:
    """What trading costs beside fees, with bars alone.

    Attributes
    ----------
    spread_bps : the full spread; a market order pays half of it. Basis points.
    slippage_bps : per market order, on top. Basis points.
    impact : Y of the square-root law, ≥ 0; about ½ to 1 is measured, 0 = none.
    participation : largest share of a bar's volume for one order in (0, 1]; None = no limit.
    queue_share : chance that a limit is filled where the market only touches it, in [0, 1].
    """

    spread_bps: float = 1.0
    slippage_bps: float = 1.0
    impact: float = 0.5
    participation: float | None = 0.1
    queue_share: float = 0.25

    def __post_init__(self) -> None:
        if min(self.spread_bps, self.slippage_bps, self.impact) < 0:
            raise SettingError(
                "cost model", "spread, slippage and impact must not be negative",
                (self.spread_bps, self.slippage_bps, self.impact),
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel(Frictions):
    """What trading costs: frictions, and fees per side in basis points of notional."""

    taker_bps: float
    maker_bps: float

    @classmethod
    def of(cls, instrument: Instrument, frictions: Frictions | None = None) -> CostModel:
        """Take the fees from an instrument."""
        known = frictions or Frictions()
        own = {field.name: getattr(known, field.name) for field in fields(Frictions)}
        return cls(taker_bps=instrument.taker_bps, maker_bps=instrument.maker_bps, **own)

    def round_trip(self, funding_bps: float = 0.0) -> Costs:
        """Return what entering and leaving with small market orders costs."""
        return Costs(2 * self.taker_bps, self.spread_bps, 2 * self.slippage_bps, funding_bps)

    def impact_bps(self, qty: Decimal, bar: Bar) -> float:
        """Return how far a market order moves the price, basis points; none without volume."""
        if self.impact == 0.0 or bar.volume <= 0.0:
            return 0.0
        reach = (bar.high - bar.low) / bar.open
        return self.impact * reach * math.sqrt(min(float(qty) / bar.volume, BEYOND)) * 1e4

    def most(self, qty: Decimal, volume: float, step: Decimal) -> Decimal:
        """Return how much of an order a bar can fill, on the step."""
        if self.participation is None:
            return qty
        near = step * _NEAR  # binary fractions never cost a step
        return min(qty, to_step(dec(self.participation * volume) + near, step))


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill's price and costs (quote units, positive is paid).

    ``spread + slippage = |price − reference| · qty`` exactly: impact and rounding to the tick are
    slippage.
    """

    at: int  # ms
    qty: Decimal
    price: Decimal
    reference: Decimal
    fee: Decimal
    spread: Decimal
    slippage: Decimal
    maker: bool


def at_market(
    side: Side, qty: Decimal, reference: Decimal, at: int, costs: CostModel, tick: Decimal,
    impact_bps: float = 0.0,
) -> Execution:  # fmt: skip
    """Trade as a taker around ``reference`` (quote units), rounded to the tick against us."""
    half, slip = dec(costs.spread_bps) / 2, dec(costs.slippage_bps) + dec(impact_bps)
    price = to_tick(reference * (1 + side.sign * (half + slip) / BPS), tick, side.sign)
    price = max(price, tick)  # a seller's price stays above 0, whatever the impact
    return taken(side, qty, price, reference, at, costs, reference * half / BPS)


def taken(
    side: Side, qty: Decimal, price: Decimal, reference: Decimal, at: int, costs: CostModel,
    half_spread: Decimal,
) -> Execution:  # fmt: skip
    """Account for a taker's fill: ``half_spread`` (quote units) is spread, the rest slippage."""
    paid = max((price - reference) * side.sign, ZERO) * qty
    spread = min(money(half_spread * qty), paid)
    fee = money(price * qty * dec(costs.taker_bps) / BPS)
    return Execution(at, qty, price, reference, fee, spread, paid - spread, maker=False)


def at_limit(qty: Decimal, limit: Decimal, at: int, costs: CostModel) -> Execution:
    """Trade at the limit price as the maker of a rested order."""
    fee = money(limit * qty * dec(costs.maker_bps) / BPS)
    return Execution(at, qty, limit, limit, fee, ZERO, ZERO, maker=True)


def market_fill(
    side: Side, qty: Decimal, bar: Bar, costs: CostModel, instrument: Instrument, wait_ms: int = 0
) -> Execution | None:
    """Fill what the bar can of a market order, at its open; None if that is nothing.

    Parameters
    ----------
    wait_ms : latency; with bars alone it moves the stamp, not the price.
    """
    part = costs.most(qty, bar.volume, instrument.step)
    if part <= 0:
        return None
    impact = costs.impact_bps(part, bar)
    return at_market(
        side, part, dec(bar.open), bar.open_ms + wait_ms, costs, instrument.tick, impact
    )


def book_fills(
    side: Side, qty: Decimal, levels: Sequence[tuple[float, float]], mid: float, at: int,
    costs: CostModel, instrument: Instrument,
) -> Iterator[Execution]:  # fmt: skip
    """Walk a side of the book, best level first, until the order or the levels are used up.

    Parameters
    ----------
    levels : (price, quantity), quote and base units, of the side that is hit.
    mid : midpoint of the book, quote units: the reference.
    """
    left, reference = qty, dec(mid)
    half = abs(dec(levels[0][0]) - reference) if levels else ZERO
    for price, size in levels:
        part = min(left, to_step(dec(size), instrument.step))
        if part <= 0:
            continue
        yield taken(side, part, dec(price), reference, at, costs, half)
        left -= part
        if left <= 0:
            return


def stop_fill(
    side: Side, qty: Decimal, trigger: Decimal, bar: Bar, costs: CostModel, instrument: Instrument
) -> Execution | None:
    """Fill a stop within a bar, or return None if it was not touched.

    Gap through it → the open; touched → the trigger; both pay spread, slippage, impact and the
    taker fee.
    """
    opened, impact = dec(bar.open), costs.impact_bps(qty, bar)
    if (opened - trigger) * side.sign >= 0:
        return at_market(side, qty, opened, bar.open_ms, costs, instrument.tick, impact)
    extreme = dec(bar.high if side is Side.BUY else bar.low)
    if (extreme - trigger) * side.sign >= 0:
        return at_market(side, qty, trigger, bar.close_ms, costs, instrument.tick, impact)
    return None


def limit_fill(
    side: Side, qty: Decimal, limit: Decimal, bar: Bar, costs: CostModel, instrument: Instrument,
    *, rested: bool, draw: float = 1.0,
) -> Execution | None:  # fmt: skip
    """Fill what the bar can of a limit, or return None if nothing traded against it.

    Parameters
    ----------
    rested : whether it was in the book before the bar opened. An order that meets the market at
        once is a taker, at the market's price but never beyond its limit.
    draw : in (0, 1); below ``queue_share``, an order that is only touched is filled.
    """
    part = costs.most(qty, bar.volume, instrument.step)
    if part <= 0:
        return None
    opened = dec(bar.open)
    if not rested and (limit - opened) * side.sign >= 0:
        met = at_market(side, part, opened, bar.open_ms, costs, instrument.tick)
        if (limit - met.price) * side.sign >= 0:
            return met
        half = opened * dec(costs.spread_bps) / 2 / BPS
        return taken(side, part, limit, opened, bar.open_ms, costs, half)
    extreme = dec(bar.low if side is Side.BUY else bar.high)
    beyond = (limit - extreme) * side.sign
    if beyond > 0 or (beyond == 0 and draw < costs.queue_share):
        return at_limit(part, limit, bar.close_ms, costs)
    return None


def liquidation_fill(
    side: Side, qty: Decimal, level: Decimal, margin: Decimal, bar: Bar, instrument: Instrument
) -> Execution | None:
    """Close a position whose margin is used up, or return None if the bar did not reach there.

    The venue takes it over at the liquidation price, or at the open where the market gapped through
    it, and charges its fee, at most what is then left of the margin: more than the margin is never
    lost.

    Parameters
    ----------
    side : that closes. ``qty`` : unsigned. ``level`` : liquidation price, on the tick.
    margin : isolated margin less what the position has lost at ``level``, quote units.
    """
    opened = dec(bar.open)
    gapped = (opened - level) * side.sign >= 0
    extreme = dec(bar.high if side is Side.BUY else bar.low)
    if not gapped and (extreme - level) * side.sign < 0:
        return None
    at = bar.open_ms if gapped else bar.close_ms
    left = margin
    price = level
    if gapped:  # the loss beyond the margin is the venue's: its insurance fund pays
        worst = level + side.sign * margin / qty
        price = to_tick(min(opened * side.sign, worst * side.sign) * side.sign, instrument.tick,
                        -side.sign)  # fmt: skip
        left = margin - (price - level) * side.sign * qty
    fee = max(min(money(price * qty * dec(instrument.liquidation_bps) / BPS), left), ZERO)
    return Execution(at, qty, price, price, money(fee), ZERO, ZERO, maker=False)
