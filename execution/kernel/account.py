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
from execution.kernel.state import Account, Floats, Moment, Rules


@jit
def equity(account: Account, rules: Rules, price: float) -> float:
    """Return cash plus what the position is worth, quote units."""
    paid = 0.0 if rules.spot else account.cost * rules.step * rules.tick
    return account.cash + account.lots * rules.step * price - paid


@jit
def calm(account: Account, rules: Rules) -> tuple[float, float]:
    """Return the prices between which a bar changes nothing, funding and horizon aside.

    No stop, target or liquidation is nearer than a tick to the range between them, which is empty
    where orders are on their way, and without end where nothing is held. Quote units.
    """
    if account.leave != 0.0 or account.enter != 0.0:
        return math.inf, -math.inf
    if account.lots == 0.0:
        return -math.inf, math.inf
    sign = 1.0 if account.lots > 0.0 else -1.0
    against, along = -math.inf, math.inf
    if not math.isnan(account.level):
        against = account.level * sign
    if not math.isnan(account.stop):
        against = max(against, account.stop * sign)
    if not math.isnan(account.target):
        along = account.target * sign
    below, above = (against + 1.0) * rules.tick, (along - 1.0) * rules.tick
    return (below, above) if sign > 0.0 else (-above, -below)


@jit
def _pay(
    account: Account, rules: Rules, side: float, lots: float, ticks: float, reference: float,
    half: float, fee_rate: float,
) -> None:  # fmt: skip
    """Carry a fill out: ``reference`` in ticks, ``half`` spread in ticks, fee as a fraction."""
    unit = rules.step * rules.tick
    notional = lots * ticks * unit
    fee = notional * fee_rate
    paid = max((ticks - reference) * side, 0.0) * lots * unit
    spread = min(half * lots * unit, paid)
    account.fees += fee
    account.spread += spread
    account.slippage += paid - spread
    _move(account, rules, side, lots, ticks, fee)


@jit
def _take(
    account: Account, rules: Rules, side: float, lots: float, ticks: float, reference: float
) -> None:
    _pay(account, rules, side, lots, ticks, reference, reference * rules.half_spread, rules.taker)


@jit
def _move(
    account: Account, rules: Rules, side: float, lots: float, ticks: float, fee: float
) -> None:
    unit = rules.step * rules.tick
    notional = lots * ticks * unit
    held = account.lots
    account.fills += 1
    account.cash -= fee
    if rules.spot:
        account.cash -= side * notional
    size = abs(held)
    account.lots = held + side * lots
    if held * side >= 0.0:
        price = ticks * rules.tick
        account.entry = (account.entry * size + price * lots) / (size + lots)
        account.cost += side * lots * ticks
        return
    share = account.cost if lots >= size else account.cost * lots / size
    if not rules.spot:
        account.cash += (-side * lots * ticks - share) * unit
    account.cost -= share
    if account.lots == 0.0:
        account.trades += 1
        account.cost = 0.0
        account.entry = 0.0


@jit
def absorb(account: Account, tiers: Floats, bar: Moment, rules: Rules) -> None:
    """Let a bar pass over an account: funding, orders on their way, stop, target, liquidation."""
    if account.lots != 0.0:
        if account.leave == 0.0 and 0 < account.due <= bar.open_ms:
            account.leave = abs(account.lots)
        due = bar.funding * account.lots * rules.step
        account.cash -= due
        account.funding += due
    if account.enter > 0.0 and bar.open_ms - account.sent >= rules.bar_ms:
        account.enter = 0.0
    if account.leave == 0.0 and account.enter == 0.0 and account.lots == 0.0:
        return
    fills, reference = account.fills, bar.open / rules.tick
    reach = (bar.high - bar.low) / bar.open
    if account.leave > 0.0:
        _leave(account, bar, rules, reference, reach)
    if account.enter > 0.0:
        _enter(account, bar, rules, reference, reach)
    if account.fills != fills:
        _guard(account, tiers, rules)
        fills = account.fills
    if account.lots != 0.0:
        _inside(account, bar, rules, reference, reach)
    if account.fills != fills:
        _guard(account, tiers, rules)


@jit
def _guard(account: Account, tiers: Floats, rules: Rules) -> None:
    if account.lots == 0.0:
        return
    account.level = liquidation_level(rules, tiers, account.lots, account.entry)
    if not math.isnan(account.level):
        notional = abs(account.lots) * account.level * (rules.step * rules.tick)
        account.margin = max(maintenance(tiers, notional), 0.0)


@jit
def _leave(account: Account, bar: Moment, rules: Rules, reference: float, reach: float) -> None:
    left = min(account.leave, abs(account.lots))
    part = most(rules, left, bar.volume)
    if left == 0.0:
        account.leave = 0.0
    if part <= 0.0:
        return
    side = -1.0 if account.lots > 0.0 else 1.0
    ticks = taken_at(rules, side, reference, impact(rules, part, reach, bar.volume))
    _take(account, rules, side, part, ticks, reference)
    account.leave = left - part


@jit
def _enter(account: Account, bar: Moment, rules: Rules, reference: float, reach: float) -> None:
    side = account.side
    if account.lots != 0.0:  # what was there before is not gone yet
        account.enter = 0.0
        return
    part = most(rules, account.enter, bar.volume)
    if part <= 0.0:
        return
    ticks = taken_at(rules, side, reference, impact(rules, part, reach, bar.volume))
    notional = part * ticks * rules.step * rules.tick
    needed = notional if rules.spot else notional / rules.leverage
    if needed + notional * rules.taker > account.cash:
        account.enter = 0.0
        return
    account.stop, account.target = account.its_stop, account.its_target
    account.opened = bar.t
    _take(account, rules, side, part, ticks, reference)
    account.enter -= part


@jit
def _inside(account: Account, bar: Moment, rules: Rules, opened: float, reach: float) -> None:
    sign = 1.0 if account.lots > 0.0 else -1.0
    size = abs(account.lots)
    worst = (bar.low if sign > 0.0 else bar.high) / rules.tick
    level, stop, target = account.level, account.stop, account.target
    if not math.isnan(level):
        nearer = not math.isnan(stop) and (stop - level) * sign > 0.0
        gapped = (level - opened) * sign >= -1e-6
        if (gapped or not nearer) and (gapped or (level - worst) * sign >= -1e-6):
            _liquidate(account, rules, sign, size, level, opened, gapped)
            return
    if not math.isnan(stop) and (stop - worst) * sign >= -1e-6:
        from_ = opened if (stop - opened) * sign >= -1e-6 else stop
        ticks = taken_at(rules, -sign, from_, impact(rules, size, reach, bar.volume))
        _take(account, rules, -sign, size, ticks, from_)
        return
    if not math.isnan(target):
        _take_profit(account, bar, rules, sign, size, target, opened)


@jit
def _take_profit(
    account: Account, bar: Moment, rules: Rules, sign: float, size: float, target: float,
    opened: float,
) -> None:  # fmt: skip
    part = most(rules, size, bar.volume)
    if part <= 0.0:
        return
    if account.opened >= bar.t and (opened - target) * sign >= -1e-6:  # meets the market at once
        ticks = taken_at(rules, -sign, opened, 0.0)
        ticks = max(ticks * sign, target * sign) * sign
        _take(account, rules, -sign, part, ticks, opened)
        return
    best = (bar.high if sign > 0.0 else bar.low) / rules.tick
    beyond = (best - target) * sign
    touched = abs(beyond) <= 1e-6
    if beyond > 1e-6 or (touched and uniform(rules.draw, bar.open_ms, 0) < rules.queue_share):
        _pay(account, rules, -sign, part, target, target, 0.0, rules.maker)


@jit
def _liquidate(
    account: Account, rules: Rules, sign: float, size: float, level: float, opened: float,
    gapped: bool,
) -> None:  # fmt: skip
    unit = rules.step * rules.tick
    ticks, left = level, account.margin
    if gapped:
        worst = level - sign * account.margin / (size * unit)
        ticks = on_tick(max(opened * sign, worst * sign) * sign, sign)
        left = account.margin - (level - ticks) * sign * size * unit
    fee = max(min(size * ticks * unit * rules.liquidation, left), 0.0)
    account.liquidation += fee
    _move(account, rules, -sign, size, ticks, fee)


@jit
def decide(
    account: Account, at: int, side: int, lots: float, stop: float, target: float, rules: Rules
) -> None:
    """Take in what was decided at the close ``at`` (ms): a side enters, holds or turns."""
    held = account.lots
    if side == 0:
        if held != 0.0 and account.leave == 0.0 and 0 < account.due <= at:
            account.leave = abs(held)
        return
    account.due = at + rules.horizon_ms
    if held * side > 0.0:
        return
    if held != 0.0 and account.leave == 0.0:
        account.leave = abs(held)
    if rules.spot and side < 0:
        return
    account.side, account.enter, account.sent = side, lots, at
    account.its_stop, account.its_target = stop, target
