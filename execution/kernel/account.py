"""One account on one market: how a bar moves it, and what a side asks of it."""

from __future__ import annotations

import math

from data.jit import jit
from execution.kernel.pricing import (
    impact,
    liquidation_level,
    maintenance,
    most,
    on_tick,
    taken_at,
    uniform,
)
from execution.kernel.state import Floats, Moment, Rules

# Where an account's numbers are, (FIELDS,)
CASH, LOTS, COST, ENTRY, STOP, TARGET, LEVEL, DUE = range(8)
LEAVE, SIDE, ENTER, SENT, ENTER_STOP, ENTER_TARGET, AGE = range(8, 15)
FEES, SPREAD, SLIPPAGE, FUNDING, LIQUIDATION, FILLS, TRADES = range(15, 22)
FIELDS = 22
# COST is lots × ticks; LEAVE and ENTER are lots of orders on their way, SENT their instant; AGE is
# when the position was opened.


@jit
def equity(account: Floats, rules: Rules, price: float) -> float:
    """Return cash plus what the position is worth, quote units."""
    paid = 0.0 if rules.spot else account[COST] * rules.step * rules.tick
    return float(account[CASH] + account[LOTS] * rules.step * price - paid)


@jit
def _pay(
    account: Floats, tiers: Floats, rules: Rules, side: float, lots: float, ticks: float,
    reference: float, half: float, fee_rate: float,
) -> None:  # fmt: skip
    """Carry a fill out: ``reference`` in ticks, ``half`` spread in ticks, fee as a fraction."""
    unit = rules.step * rules.tick
    notional = lots * ticks * unit
    fee = notional * fee_rate
    paid = max((ticks - reference) * side, 0.0) * lots * unit
    spread = min(half * lots * unit, paid)
    account[FEES] += fee
    account[SPREAD] += spread
    account[SLIPPAGE] += paid - spread
    _move(account, tiers, rules, side, lots, ticks, fee)


@jit
def _move(
    account: Floats, tiers: Floats, rules: Rules, side: float, lots: float, ticks: float, fee: float
) -> None:
    unit = rules.step * rules.tick
    notional = lots * ticks * unit
    held = account[LOTS]
    account[FILLS] += 1.0
    account[CASH] -= fee
    if rules.spot:
        account[CASH] -= side * notional
    if held * side >= 0.0:
        size = abs(held)
        price = ticks * rules.tick
        account[ENTRY] = (account[ENTRY] * size + price * lots) / (size + lots)
        account[LOTS] = held + side * lots
        account[COST] += side * lots * ticks
    else:
        size = abs(held)
        share = account[COST] if lots >= size else account[COST] * lots / size
        if not rules.spot:
            account[CASH] += (-side * lots * ticks - share) * unit
        account[LOTS] = held + side * lots
        account[COST] -= share
        if account[LOTS] == 0.0:
            account[TRADES] += 1.0
            account[COST] = 0.0
            account[ENTRY] = 0.0
    if account[LOTS] != 0.0:
        account[LEVEL] = liquidation_level(rules, tiers, account[LOTS], account[ENTRY])


@jit
def absorb(account: Floats, tiers: Floats, bar: Moment, rules: Rules) -> None:
    """Let a bar pass over an account: funding, orders on their way, stop, target, liquidation."""
    opened = bar.open_ms
    if account[LOTS] != 0.0:
        if account[LEAVE] == 0.0 and 0.0 < account[DUE] <= opened:
            account[LEAVE] = abs(account[LOTS])
        due = bar.funding * account[LOTS] * rules.step
        account[CASH] -= due
        account[FUNDING] += due
    if account[ENTER] > 0.0 and opened - account[SENT] >= rules.bar_ms:
        account[ENTER] = 0.0
    if account[LEAVE] == 0.0 and account[ENTER] == 0.0 and account[LOTS] == 0.0:
        return
    reference = bar.open / rules.tick
    reach = (bar.high - bar.low) / bar.open
    if account[LEAVE] > 0.0:
        _leave(account, tiers, bar, rules, reference, reach)
    if account[ENTER] > 0.0:
        _enter(account, tiers, bar, rules, reference, reach)
    if account[LOTS] != 0.0:
        _inside(account, tiers, bar, rules, reach)


@jit
def _leave(
    account: Floats, tiers: Floats, bar: Moment, rules: Rules, reference: float, reach: float
) -> None:
    left = min(account[LEAVE], abs(account[LOTS]))
    part = most(rules, left, bar.volume)
    if left == 0.0:
        account[LEAVE] = 0.0
    if part <= 0.0:
        return
    side = -1.0 if account[LOTS] > 0.0 else 1.0
    ticks = taken_at(rules, side, reference, impact(rules, part, reach, bar.volume))
    _pay(
        account,
        tiers,
        rules,
        side,
        part,
        ticks,
        reference,
        reference * rules.half_spread,
        rules.taker,
    )
    account[LEAVE] = left - part


@jit
def _enter(
    account: Floats, tiers: Floats, bar: Moment, rules: Rules, reference: float, reach: float
) -> None:
    side = account[SIDE]
    if account[LOTS] != 0.0:  # what was there before is not gone yet
        account[ENTER] = 0.0
        return
    part = most(rules, account[ENTER], bar.volume)
    if part <= 0.0:
        return
    ticks = taken_at(rules, side, reference, impact(rules, part, reach, bar.volume))
    notional = part * ticks * rules.step * rules.tick
    needed = notional if rules.spot else notional / rules.leverage
    if needed + notional * rules.taker > account[CASH]:
        account[ENTER] = 0.0
        return
    account[STOP], account[TARGET] = account[ENTER_STOP], account[ENTER_TARGET]
    account[AGE] = bar.t
    _pay(
        account,
        tiers,
        rules,
        side,
        part,
        ticks,
        reference,
        reference * rules.half_spread,
        rules.taker,
    )
    account[ENTER] -= part


@jit
def _inside(account: Floats, tiers: Floats, bar: Moment, rules: Rules, reach: float) -> None:
    sign = 1.0 if account[LOTS] > 0.0 else -1.0
    opened, size = bar.open / rules.tick, abs(account[LOTS])
    worst = (bar.low if sign > 0.0 else bar.high) / rules.tick
    level, stop, target = account[LEVEL], account[STOP], account[TARGET]
    if not math.isnan(level):
        nearer = not math.isnan(stop) and (stop - level) * sign > 0.0
        gapped = (level - opened) * sign >= -1e-6
        if (gapped or not nearer) and (gapped or (level - worst) * sign >= -1e-6):
            _liquidate(account, tiers, rules, sign, size, level, opened, gapped)
            return
    if not math.isnan(stop) and (stop - worst) * sign >= -1e-6:
        from_ = opened if (stop - opened) * sign >= -1e-6 else stop
        ticks = taken_at(rules, -sign, from_, impact(rules, size, reach, bar.volume))
        _pay(
            account, tiers, rules, -sign, size, ticks, from_, from_ * rules.half_spread, rules.taker
        )
        return
    if not math.isnan(target):
        _take_profit(account, tiers, bar, rules, sign, size, target, opened)


@jit
def _take_profit(
    account: Floats, tiers: Floats, bar: Moment, rules: Rules, sign: float, size: float,
    target: float, opened: float,
) -> None:  # fmt: skip
    part = most(rules, size, bar.volume)
    if part <= 0.0:
        return
    if account[AGE] >= bar.t and (opened - target) * sign >= -1e-6:  # it meets the market at once
        ticks = taken_at(rules, -sign, opened, 0.0)
        ticks = max(ticks * sign, target * sign) * sign
        _pay(
            account,
            tiers,
            rules,
            -sign,
            part,
            ticks,
            opened,
            opened * rules.half_spread,
            rules.taker,
        )
        return
    best = (bar.high if sign > 0.0 else bar.low) / rules.tick
    beyond = (best - target) * sign
    touched = abs(beyond) <= 1e-6
    if beyond > 1e-6 or (touched and uniform(rules.draw, bar.open_ms, 0) < rules.queue_share):
        _pay(account, tiers, rules, -sign, part, target, target, 0.0, rules.maker)


@jit
def _liquidate(
    account: Floats, tiers: Floats, rules: Rules, sign: float, size: float, level: float,
    opened: float, gapped: bool,
) -> None:  # fmt: skip
    unit = rules.step * rules.tick
    margin = max(maintenance(tiers, size * level * unit), 0.0)
    ticks, left = level, margin
    if gapped:
        worst = level - sign * margin / (size * unit)
        ticks = on_tick(max(opened * sign, worst * sign) * sign, sign)
        left = margin - (level - ticks) * sign * size * unit
    fee = max(min(size * ticks * unit * rules.liquidation, left), 0.0)
    account[LIQUIDATION] += fee
    _move(account, tiers, rules, -sign, size, ticks, fee)


@jit
def decide(
    account: Floats, at: int, side: int, lots: float, stop: float, target: float, rules: Rules
) -> None:
    """Take in what was decided at the close ``at`` (ms): a side enters, holds or turns."""
    held = account[LOTS]
    if side == 0:
        if held != 0.0 and account[LEAVE] == 0.0 and 0.0 < account[DUE] <= at:
            account[LEAVE] = abs(held)
        return
    account[DUE] = at + rules.horizon_ms
    if held * side > 0.0:
        return
    if held != 0.0 and account[LEAVE] == 0.0:
        account[LEAVE] = abs(held)
    if rules.spot and side < 0:
        return
    account[SIDE], account[ENTER], account[SENT] = side, lots, at
    account[ENTER_STOP], account[ENTER_TARGET] = stop, target
