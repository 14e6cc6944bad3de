"""One step of many copies, compiled: an action at a close, the next bar, its reward.

The reward of a step, in basis points of the stake::

    10⁴ · (E' − E) / stake − penalty · max(0, D' − D)

E is the account's worth at a close: cash plus what the position is worth there, net of fees,
spread, slippage, impact, funding and liquidation so far. D is how far it lies below its highest
since the episode began, in the same unit, so that a fall costs (1 + penalty) times what it loses
and a rise back to the old height earns what it gains.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.jit import jit
from execution.kernel import Bars, Rules
from execution.kernel.account import absorb, decide, equity
from execution.kernel.pricing import mixed
from execution.kernel.state import ROW, Account, Floats, Ints, Moment
from rl import actions, observation
from rl.actions import ADJUST, BUY, COUNTS, HEDGE, LEVELS, SELL, SIZES, SKIP

_allowed = jit(actions.allowed)
_account_row = jit(observation.account_row)
_SIZES, _LEVELS = np.array(SIZES), np.array(LEVELS)
_KINDS, _ALL = COUNTS[0], sum(COUNTS)
_LEVELS_AT = COUNTS[0] + COUNTS[1]
_NEAR = 5e-7  # of a lot: what is this close to a whole one is one


class Play(NamedTuple):
    """How it is played, in plain numbers.

    Attributes
    ----------
    stake, cash : quote units. ``penalty`` : of a drawdown, see the module.
    guard, override : see :mod:`rl.actions`.
    seed : of where episodes begin.
    ordered : whether copies take the starts in their order instead.
    """

    stake: float
    cash: float
    penalty: float
    guard: bool
    override: bool
    seed: int
    ordered: bool


class Copy:
    """Where one copy is: a row of :data:`COPY`, changed in place.

    Attributes
    ----------
    row : bar whose close it is at. ``last`` : bar at whose close the episode ends.
    episode : number of the episode, from 0.
    worth, peak : of the account, quote units. ``fallen`` : D, see the module.
    earned : Σ of the rewards of the episode. ``gained`` : without the penalty.
    """

    row: int
    last: int
    episode: int
    worth: float
    peak: float
    fallen: float
    earned: float
    gained: float


COPY = np.dtype(list(Copy.__annotations__.items()))


@jit
def began(account: Account, copy: Copy, number: int, copies: int, starts: Ints, lasts: Ints,
          play: Play) -> None:  # fmt: skip
    """Begin a copy's next episode, flat."""
    if play.ordered:
        pick = np.int64((copy.episode * copies + number) % len(starts))
    else:
        bits = mixed(np.uint64(play.seed)) ^ np.uint64(number)
        bits = mixed(bits) ^ np.uint64(copy.episode)
        pick = np.int64(mixed(bits) % np.uint64(len(starts)))
    copy.row, copy.last = starts[pick], lasts[pick]
    copy.episode += 1
    copy.worth = copy.peak = play.cash
    copy.fallen = copy.earned = copy.gained = 0.0
    account.cash = play.cash
    account.lots = account.cost = account.entry = account.margin = 0.0
    account.stop = account.target = account.level = math.nan
    account.its_stop = account.its_target = math.nan
    account.due = account.opened = account.sent = 0
    account.leave = account.enter = account.side = 0.0
    account.fees = account.spread = account.slippage = account.funding = 0.0
    account.liquidation = 0.0
    account.fills = account.trades = 0


@jit
def acted(account: Account, kind: int, size: int, levels: int, closed: int, close: float,
          sigma: float, play: Play, rules: Rules) -> None:  # fmt: skip
    """Carry out at a close (ms, quote units) what was chosen there."""
    side = 1 if kind == BUY else (-1 if kind == SELL else 0)
    if kind == HEDGE:
        if account.lots != 0.0 and account.leave == 0.0:
            account.leave = abs(account.lots)
        return
    stop = target = math.nan
    turned = side if side != 0 else (1 if account.lots > 0.0 else -1)
    if levels > 0:
        stop = math.floor(close * math.exp(-turned * _LEVELS[levels, 0] * sigma) / rules.tick + 0.5)
        target = math.floor(
            close * math.exp(turned * _LEVELS[levels, 1] * sigma) / rules.tick + 0.5
        )
    if kind == ADJUST and account.lots != 0.0:
        account.stop, account.target = stop, target
    if side != 0 or 0 < account.due <= closed:
        lots = math.floor(play.stake * _SIZES[size] / close / rules.step + _NEAR)
        decide(account, closed, side, lots, stop, target, rules)


@jit
def seen(into: NDArray[np.float32], account: Account, market: NDArray[np.float32], closed: int,
         close: float, sigma: float, play: Play, rules: Rules) -> None:  # fmt: skip
    """Write what is seen at a close."""
    left = max(account.due - closed, 0) / rules.horizon_ms if account.lots != 0.0 else 0.0
    row = _account_row(account.lots, account.entry, close, play.stake, rules.step, left, sigma)
    into[0], into[1], into[2], into[3] = row[0], row[1], row[2], row[3]
    into[4:] = market


@jit
def begin_all(accounts: NDArray[Any], copies: NDArray[Any], starts: Ints, lasts: Ints, bars: Bars,
              market: NDArray[np.float32], sigma: Floats, play: Play, rules: Rules,
              seen_: NDArray[np.float32]) -> None:  # fmt: skip
    """Begin every copy's next episode."""
    for i in range(len(copies)):
        began(accounts[i], copies[i], i, len(copies), starts, lasts, play)
        t = copies[i].row
        seen(seen_[i], accounts[i], market[t], bars.open_ms[t] + rules.bar_ms, bars.close[t],
             sigma[t], play, rules)  # fmt: skip


@jit
def step_all(
    chosen: NDArray[np.int64], accounts: NDArray[Any], copies: NDArray[Any], starts: Ints,
    lasts: Ints, bars: Bars, market: NDArray[np.float32], intent: NDArray[np.int8],
    sigma: Floats, tiers: Floats, play: Play, rules: Rules, seen_: NDArray[np.float32],
    rewards: NDArray[np.float32], ends: NDArray[np.int8], final: NDArray[np.float32],
    told: NDArray[Any],
) -> int:  # fmt: skip
    """Let every copy act and meet its next bar; begin anew where an episode ended.

    Parameters
    ----------
    chosen : (n, 3). ``seen_`` : (n, columns), of the state after the step.
    ends : 0 goes on, 1 the episode's bars are over, 2 the account is lost.
    final : last observation, and ``told`` the copy's last state, of episodes that ended.

    Returns
    -------
    How many ended.
    """
    over = 0
    for i in range(len(copies)):
        account, copy = accounts[i], copies[i]
        t = copy.row
        kind, size, levels = chosen[i, 0], chosen[i, 1], chosen[i, 2]
        if not _allowed(kind, account.lots, intent[t], rules.spot, play.guard, play.override):
            kind = SKIP
        if play.guard:
            levels = 0
        acted(account, kind, size, levels, bars.open_ms[t] + rules.bar_ms, bars.close[t],
              sigma[t], play, rules)  # fmt: skip
        t += 1
        bar = Moment(
            t, bars.open_ms[t], bars.open[t], bars.high[t], bars.low[t], bars.close[t],
            bars.volume[t], bars.funding[t],
        )  # fmt: skip
        absorb(account, tiers, bar, rules)
        worth = equity(account, rules, bars.close[t])
        gain = 1e4 * (worth - copy.worth) / play.stake
        copy.peak = max(copy.peak, worth)
        fallen = 1e4 * (copy.peak - worth) / play.stake
        reward = gain - play.penalty * max(0.0, fallen - copy.fallen)
        copy.worth, copy.fallen, copy.row = worth, fallen, t
        copy.earned += reward
        copy.gained += gain
        rewards[i] = reward
        ends[i] = 2 if worth <= 0.0 else (1 if t >= copy.last else 0)
        if ends[i] > 0:
            over += 1
            told[i] = copy
            seen(final[i], account, market[t], bars.open_ms[t] + rules.bar_ms, bars.close[t],
                 sigma[t], play, rules)  # fmt: skip
            began(account, copy, i, len(copies), starts, lasts, play)
            t = copy.row
        seen(seen_[i], account, market[t], bars.open_ms[t] + rules.bar_ms, bars.close[t],
             sigma[t], play, rules)  # fmt: skip
    return over


@jit
def masks_of(accounts: NDArray[Any], copies: NDArray[Any], intent: NDArray[np.int8], play: Play,
             rules: Rules, into: NDArray[np.bool_]) -> None:  # fmt: skip
    """Write which choices are allowed, (n, kinds + sizes + levels)."""
    for i in range(len(copies)):
        lots, wants = accounts[i].lots, intent[copies[i].row]
        for k in range(_KINDS):
            into[i, k] = _allowed(k, lots, wants, rules.spot, play.guard, play.override)
        into[i, _KINDS:] = True
        if play.guard:
            into[i, _LEVELS_AT + 1 : _ALL] = False


def new_accounts(n: int) -> NDArray[Any]:
    """Return n blank accounts."""
    return np.zeros(n, ROW)


def new_copies(n: int) -> NDArray[Any]:
    """Return n blank copies."""
    return np.zeros(n, COPY)
