"""The fill engine on bars: what an order pays, as pure functions.

A market order decided at the close of bar t trades at the open of bar t+1, half a spread and the
slippage worse. A stop trades at the open if the market gapped through it, else at its trigger,
both as market orders. A limit trades only when the market goes through it, at its own price.
Backtest and paper call these and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from domain.decision import Costs
from domain.errors import SettingError
from domain.market import Bar, Instrument
from domain.trading import ZERO, Side
from execution.money import BPS, dec, money, to_tick


@dataclass(frozen=True, slots=True)
class CostModel:
    """What trading costs, in basis points of notional.

    Attributes
    ----------
    taker_bps, maker_bps : fee per side.
    spread_bps : the full spread; a market order pays half of it.
    slippage_bps : per market order, on top.
    """

    taker_bps: float
    maker_bps: float
    spread_bps: float = 1.0
    slippage_bps: float = 1.0

    def __post_init__(self) -> None:
        if min(self.spread_bps, self.slippage_bps) < 0:
            raise SettingError(
                "cost model", "spread and slippage must not be negative", self.spread_bps
            )

    @classmethod
    def of(
        cls, instrument: Instrument, spread_bps: float = 1.0, slippage_bps: float = 1.0
    ) -> CostModel:
        """Take the fees from an instrument."""
        return cls(instrument.taker_bps, instrument.maker_bps, spread_bps, slippage_bps)

    def round_trip(self, funding_bps: float = 0.0) -> Costs:
        """Return what entering and leaving with market orders costs."""
        return Costs(2 * self.taker_bps, self.spread_bps, 2 * self.slippage_bps, funding_bps)


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill's price and costs (quote units, positive is paid).

    ``spread + slippage = |price − reference| · qty`` exactly: rounding to the tick is slippage.
    """

    at: int  # ms
    price: Decimal
    reference: Decimal
    fee: Decimal
    spread: Decimal
    slippage: Decimal
    maker: bool


def at_market(
    side: Side, qty: Decimal, reference: Decimal, at: int, costs: CostModel, tick: Decimal
) -> Execution:
    """Trade as a taker around ``reference`` (quote units), rounded to the tick against us."""
    half, slip = dec(costs.spread_bps) / 2, dec(costs.slippage_bps)
    price = to_tick(reference * (1 + side.sign * (half + slip) / BPS), tick, side.sign)
    paid = abs(price - reference) * qty
    spread = min(money(reference * qty * half / BPS), paid)
    fee = money(price * qty * dec(costs.taker_bps) / BPS)
    return Execution(at, price, reference, fee, spread, paid - spread, maker=False)


def at_limit(qty: Decimal, limit: Decimal, at: int, costs: CostModel) -> Execution:
    """Trade at the limit price as the maker of a rested order."""
    fee = money(limit * qty * dec(costs.maker_bps) / BPS)
    return Execution(at, limit, limit, fee, ZERO, ZERO, maker=True)


def market_fill(
    side: Side, qty: Decimal, bar: Bar, costs: CostModel, instrument: Instrument
) -> Execution:
    """Fill a market order at the open of the first bar after its decision."""
    return at_market(side, qty, dec(bar.open), bar.open_ms, costs, instrument.tick)


def stop_fill(
    side: Side, qty: Decimal, trigger: Decimal, bar: Bar, costs: CostModel, instrument: Instrument
) -> Execution | None:
    """Fill a stop within a bar, or return None if it was not touched.

    Gap through it → the open; touched → the trigger; both pay spread, slippage and taker fee.
    """
    opened = dec(bar.open)
    if (opened - trigger) * side.sign >= 0:
        return at_market(side, qty, opened, bar.open_ms, costs, instrument.tick)
    extreme = dec(bar.high if side is Side.BUY else bar.low)
    if (extreme - trigger) * side.sign >= 0:
        return at_market(side, qty, trigger, bar.close_ms, costs, instrument.tick)
    return None


def limit_fill(
    side: Side,
    qty: Decimal,
    limit: Decimal,
    bar: Bar,
    costs: CostModel,
    instrument: Instrument,
    *,
    rested: bool,
) -> Execution | None:
    """Fill a limit within a bar, or return None if the market did not trade through it.

    Parameters
    ----------
    rested : whether it was in the book before the bar opened. An order that meets the market at
        once is a taker, at the market's price but never beyond its limit.
    """
    opened = dec(bar.open)
    if not rested and (limit - opened) * side.sign >= 0:
        taken = at_market(side, qty, opened, bar.open_ms, costs, instrument.tick)
        return (
            taken if (limit - taken.price) * side.sign >= 0 else _capped(taken, limit, qty, costs)
        )
    extreme = dec(bar.low if side is Side.BUY else bar.high)
    if (limit - extreme) * side.sign > 0:
        return at_limit(qty, limit, bar.close_ms, costs)
    return None


def _capped(taken: Execution, limit: Decimal, qty: Decimal, costs: CostModel) -> Execution:
    paid = abs(limit - taken.reference) * qty
    spread = min(taken.spread, paid)
    fee = money(limit * qty * dec(costs.taker_bps) / BPS)
    return Execution(taken.at, limit, taken.reference, fee, spread, paid - spread, maker=False)
