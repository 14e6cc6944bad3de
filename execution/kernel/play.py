"""An account over all bars."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.jit import jit
from execution.kernel.account import absorb, calm, decide, equity
from execution.kernel.state import ROW, Bars, Floats, Moment, Played, Rules, Wishes


@jit
def _play(
    bars: Bars, wishes: Wishes, rules: Rules, tiers: Floats, accounts: NDArray[Any],
    worth: Floats, held: Floats,
) -> None:  # fmt: skip
    account = accounts[0]
    below, above = -math.inf, math.inf
    for t in range(len(bars.open)):
        opened = bars.open_ms[t]
        quiet = below < bars.low[t] and bars.high[t] < above
        due = account.lots != 0.0 and 0 < account.due <= opened
        if due or not quiet or bars.funding[t] != 0.0:
            bar = Moment(
                t, opened, bars.open[t], bars.high[t], bars.low[t], bars.close[t],
                bars.volume[t], bars.funding[t],
            )  # fmt: skip
            absorb(account, tiers, bar, rules)
            below, above = calm(account, rules)
        worth[t] = equity(account, rules, bars.close[t])
        held[t] = account.lots
        closed, side = opened + rules.bar_ms, wishes.side[t]
        if side * held[t] > 0.0:  # holds
            account.due = closed + rules.horizon_ms
        elif side != 0 or 0 < account.due <= closed:
            decide(account, closed, side, wishes.lots[t], wishes.stop[t], wishes.target[t], rules)
            below, above = calm(account, rules)


def play(bars: Bars, wishes: Wishes, rules: Rules, tiers: Floats, cash: float) -> Played:
    """Trade what is wished for at every close, from a flat account.

    Parameters
    ----------
    tiers : of margin (:func:`execution.kernel.state.tiers_of`). ``cash`` : opening capital.
    """
    accounts = np.zeros(1, ROW)
    account = accounts[0]
    account["cash"] = cash
    for level in ("stop", "target", "level"):
        account[level] = np.nan
    worth, held = np.empty((2, len(bars.open)))
    _play(bars, wishes, rules, tiers, accounts, worth, held)
    paid = (account[name].item() for name in list(ROW.names or ())[-7:])
    return Played(worth, held, *paid)
