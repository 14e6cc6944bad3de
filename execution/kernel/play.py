"""An account over all bars."""

from __future__ import annotations

import numpy as np

from data.jit import jit
from execution.kernel.account import (
    CASH,
    FEES,
    FIELDS,
    LOTS,
    STOP,
    TARGET,
    absorb,
    decide,
    equity,
)
from execution.kernel.state import Bars, Floats, Moment, Played, Rules, Wishes


@jit
def _play(
    bars: Bars, wishes: Wishes, rules: Rules, tiers: Floats, account: Floats, out: Floats
) -> None:
    for t in range(len(bars.open)):
        bar = Moment(
            t, bars.open_ms[t], bars.open[t], bars.high[t], bars.low[t], bars.close[t],
            bars.volume[t], bars.funding[t],
        )  # fmt: skip
        absorb(account, tiers, bar, rules)
        out[0, t] = equity(account, rules, bar.close)
        out[1, t] = account[LOTS]
        decide(
            account, bar.open_ms + rules.bar_ms, wishes.side[t], wishes.lots[t], wishes.stop[t],
            wishes.target[t], rules,
        )  # fmt: skip


def play(bars: Bars, wishes: Wishes, rules: Rules, tiers: Floats, cash: float) -> Played:
    """Trade what is wished for at every close, from a flat account.

    Parameters
    ----------
    tiers : of margin (:func:`execution.kernel.state.tiers_of`). ``cash`` : opening capital.
    """
    account = np.zeros(FIELDS)
    account[CASH], account[STOP], account[TARGET] = cash, np.nan, np.nan
    out = np.empty((2, len(bars.open)))
    _play(bars, wishes, rules, tiers, account, out)
    fees, spread, slippage, funding, liquidation, fills, trades = account[FEES:].tolist()
    return Played(
        out[0], out[1], fees, spread, slippage, funding, liquidation, int(fills), int(trades)
    )
