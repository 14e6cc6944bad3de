"""How much to trade."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Literal

from domain.decision import Reason
from domain.errors import SettingError
from domain.market import Instrument
from domain.trading import ZERO
from execution.kelly import KellySettings, Stake
from execution.money import dec, to_step

_BY_RISK = ("kelly", "risk")


@dataclass(frozen=True, slots=True)
class SizingSettings:
    """How an order's notional is found.

    Attributes
    ----------
    mode : ``kelly`` loses at the stop what the last trades allow (:mod:`execution.kelly`), ``risk``
        always ``risk_fraction``; ``fixed`` is a fixed notional, ``quantity`` a fixed quantity.
    risk_fraction : fraction of equity; by ``kelly`` until there are trades enough.
    fixed_notional, min_notional, max_notional : quote units.
    fixed_quantity : base units.
    default_stop : distance assumed for a decision without a stop, fraction of price.
    """

    mode: Literal["kelly", "risk", "fixed", "quantity"] = "kelly"
    risk_fraction: float = 0.0025
    fixed_notional: float = 500.0
    fixed_quantity: float = 1.0
    min_notional: float = 10.0
    max_notional: float = 1000.0
    default_stop: float = 0.01
    kelly: KellySettings = field(default_factory=KellySettings)

    def __post_init__(self) -> None:
        if not 0 < self.min_notional <= self.max_notional:
            raise SettingError("max_notional", "must be at least min_notional", self.max_notional)


@dataclass(frozen=True, slots=True)
class Sized:
    """An order's size, or why there is none.

    Attributes
    ----------
    qty : base units on the step; 0 when refused.
    notional : quote units at the price given, also when refused.
    floor : the smallest notional allowed, quote units.
    smallest : whether it is the smallest order the venue accepts, for want of an edge.
    """

    qty: Decimal
    notional: Decimal
    floor: Decimal
    reason: Reason | None = None
    smallest: bool = False


def size(
    settings: SizingSettings,
    equity: Decimal,
    price: Decimal,
    stop: Decimal | None,
    instrument: Instrument,
    factor: float = 1.0,
    risk_cap: float | None = None,
    stake: Stake | None = None,
) -> Sized:
    """Return the quantity for an entry.

    Parameters
    ----------
    equity : of the account, quote units.
    price, stop : the price it was decided at and its stop, quote units.
    factor : the share of gate and drawdown in [0, 1].
    risk_cap : largest loss at the stop in every mode, fraction of equity; None = no cap.
    stake : what ``kelly`` may lose at the stop; None = ``risk_fraction``. One without an edge, or
        too small for the venue, is the smallest order, so that there is a next trade to learn from.
    """
    distance = dec(settings.default_stop) if stop is None else abs(price - stop) / price
    most, share = _most(settings, equity, distance, risk_cap), dec(factor)
    floor = max(dec(settings.min_notional), instrument.min_notional)
    if settings.mode == "quantity":  # not by way of a notional: its rounding could cost a step
        wanted, smallest = min(dec(settings.fixed_quantity) * share, most / price), False
    else:
        notional = _notional(settings, equity, distance, stake)
        wanted, smallest = (
            min(notional * share, most) / price,
            _without_edge(stake, notional, floor),
        )
    qty = min(to_step(wanted, instrument.step), instrument.max_qty)
    if smallest and share > 0:
        qty = _up(max(floor / price, instrument.min_qty), instrument.step)
        qty = ZERO if qty * price > most or qty > instrument.max_qty else qty
    if qty * price < floor or qty < instrument.min_qty:
        return Sized(ZERO, max(qty * price, ZERO), floor, Reason.BELOW_MIN_NOTIONAL)
    return Sized(qty, qty * price, floor, smallest=smallest)


def _most(
    settings: SizingSettings, equity: Decimal, distance: Decimal, risk_cap: float | None
) -> Decimal:
    # The largest notional by every limit on one order.
    caps = [] if risk_cap is None else [risk_cap]
    if settings.mode in _BY_RISK:
        caps.append(settings.kelly.max_risk)
    most = dec(settings.max_notional)
    return min([most, *(equity * dec(cap) / distance for cap in caps if distance > 0)])


def _notional(
    settings: SizingSettings, equity: Decimal, distance: Decimal, stake: Stake | None
) -> Decimal:
    if settings.mode == "fixed":
        return dec(settings.fixed_notional)
    if distance == 0:
        return dec(settings.max_notional)
    fraction = settings.risk_fraction if stake is None else stake.fraction
    return equity * dec(fraction) / distance


def _without_edge(stake: Stake | None, notional: Decimal, floor: Decimal) -> bool:
    return stake is not None and (stake.smallest or (stake.p is not None and notional < floor))


def _up(qty: Decimal, step: Decimal) -> Decimal:
    return (qty / step).to_integral_value(rounding=ROUND_CEILING) * step
