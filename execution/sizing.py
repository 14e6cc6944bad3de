"""How much to trade."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from domain.decision import Reason
from domain.errors import SettingError
from domain.market import Instrument
from domain.trading import ZERO
from execution.money import dec, to_step


@dataclass(frozen=True, slots=True)
class SizingSettings:
    """How an order's notional is found.

    Attributes
    ----------
    mode : ``risk`` loses ``risk_fraction`` of equity at the stop; ``fixed`` is a fixed notional,
        ``quantity`` a fixed quantity.
    risk_fraction : fraction of equity.
    fixed_notional, min_notional, max_notional : quote units.
    fixed_quantity : base units.
    default_stop : distance assumed for a decision without a stop, fraction of price.
    """

    mode: Literal["risk", "fixed", "quantity"] = "risk"
    risk_fraction: float = 0.0025
    fixed_notional: float = 500.0
    fixed_quantity: float = 1.0
    min_notional: float = 10.0
    max_notional: float = 1000.0
    default_stop: float = 0.01

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
    """

    qty: Decimal
    notional: Decimal
    floor: Decimal
    reason: Reason | None = None


def size(
    settings: SizingSettings,
    equity: Decimal,
    price: Decimal,
    stop: Decimal | None,
    instrument: Instrument,
    factor: float = 1.0,
    risk_cap: float | None = None,
) -> Sized:
    """Return the quantity for an entry.

    Parameters
    ----------
    equity : of the account, quote units.
    price, stop : the price it was decided at and its stop, quote units.
    factor : the share of gate and drawdown in [0, 1].
    risk_cap : largest loss at the stop in every mode, fraction of equity; None = no cap.
    """
    distance = dec(settings.default_stop) if stop is None else abs(price - stop) / price
    most, share = dec(settings.max_notional), dec(factor)
    if risk_cap is not None and distance > 0:
        most = min(most, equity * dec(risk_cap) / distance)
    if settings.mode == "quantity":  # not by way of a notional: its rounding could cost a step
        wanted = min(dec(settings.fixed_quantity) * share, most / price)
    elif settings.mode == "fixed":
        wanted = min(dec(settings.fixed_notional) * share, most) / price
    else:
        at_risk = equity * dec(settings.risk_fraction)
        wanted = min((most if distance == 0 else at_risk / distance) * share, most) / price
    floor = max(dec(settings.min_notional), instrument.min_notional)
    qty = min(to_step(wanted, instrument.step), instrument.max_qty)
    if qty * price < floor or qty < instrument.min_qty:
        return Sized(ZERO, max(qty * price, ZERO), floor, Reason.BELOW_MIN_NOTIONAL)
    return Sized(qty, qty * price, floor)
