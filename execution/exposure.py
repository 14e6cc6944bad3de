"""What is held, against equity: a symbol, those that move with it, everything."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from domain.decision import Reason
from domain.trading import ZERO, Portfolio
from execution.correlation import Correlations
from execution.limits import NOT_MEASURED, Check, RiskLimits


def exposures(portfolio: Portfolio) -> dict[str, Decimal]:
    """Return what each position is worth, without its side, quote units."""
    return {
        symbol: abs(position.qty) * portfolio.marks.get(symbol, position.entry_price)
        for symbol, position in portfolio.positions.items()
    }


def exposure_checks(
    limits: RiskLimits,
    correlations: Correlations,
    equity: Decimal,
    symbol: str,
    notional: Decimal,
    held: Mapping[str, Decimal],
) -> list[Check]:
    """Return the checks on a symbol, on those that move with it and on the whole account.

    Parameters
    ----------
    notional : to be added to ``symbol``, quote units.
    held : symbol → what is held or on its way, quote units, without sides.
    """
    if equity <= 0:
        return [Check("equity", Reason.RISK_VETO, float(equity), 0.0, -1.0)]
    one = held.get(symbol, ZERO) + notional
    every = sum(held.values(), ZERO) + notional
    checks = [
        _check(name, float(amount / equity), limit)
        for name, amount, limit in (
            ("symbol_exposure", one, limits.max_symbol_exposure),
            ("total_exposure", every, limits.max_total_exposure),
        )
        if limit is not None
    ]
    if correlations.several and limits.max_symbol_exposure is not None:
        checks.append(_together(limits, correlations, equity, symbol, one, held))
    return checks


def _together(
    limits: RiskLimits,
    correlations: Correlations,
    equity: Decimal,
    symbol: str,
    one: Decimal,
    held: Mapping[str, Decimal],
) -> Check:
    # Sides are not looked at, so neither is the sign of a correlation.
    limit, most = limits.max_symbol_exposure or 0.0, limits.max_correlation or 0.0
    unknown, group = False, one
    for other, exposure in held.items():
        if other == symbol or not exposure:
            continue
        rho = correlations.between(symbol, other)
        unknown |= rho is None
        group += exposure if rho is not None and abs(rho) > most else ZERO
    check = _check("correlated_exposure", float(group / equity), limit)
    if unknown and check.passed:
        return Check(check.name, check.code, NOT_MEASURED, limit, None)
    return check


def _check(name: str, value: float, limit: float) -> Check:
    return Check(name, Reason.RISK_VETO, value, limit, limit - value)
