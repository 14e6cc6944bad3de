"""What a strategy has to beat: holding the market, and trading as often at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.market import Floats
from domain.trading import ClosedTrade
from sim.metrics import MIN_DAYS, Run, day_ends, finite, max_drawdown, sharpe
from sim.trade_metrics import notional_of, pnl_of

DRAWS = 500
_CHUNK = 100  # draws at once: what bounds the memory
Rows = NDArray[np.int64]


def benchmarks(run: Run, seed: int = 0) -> dict[str, Any]:
    """Return the ``benchmarks`` of ``backtest --json``."""
    return {"buy_hold": buy_and_hold(run), "random_turnover": against_random(run, seed)}


def buy_and_hold(run: Run) -> dict[str, Any]:
    """Return what holding the traded market from the first to the last close would have brought."""
    closes = run.price[day_ends(run)]
    daily = np.diff(np.concatenate(([run.price[0]], closes))) / np.concatenate(
        ([run.price[0]], closes[:-1])
    )
    return {
        "return_pct": finite(100.0 * float(run.price[-1] / run.price[0] - 1.0)),
        "max_drawdown": finite(max_drawdown(run.price)),
        "sharpe": finite(float(sharpe(daily))) if len(daily) >= MIN_DAYS else None,
        "n": len(daily),
        "how": "first to last close of the traded market, no costs",
    }


def random_turnover(
    price: Floats, hold: Rows, notional: Floats, cost: Floats, draws: int, rng: np.random.Generator
) -> Floats:
    """Return what trading as often, as long and as large at random instants would have earned.

    A draw puts the trades in a random order, spreads the bars without a position at random before,
    between and after them, and tosses a fair coin for each side. So no two trades overlap, and
    without costs the mean of many draws is 0.

    Parameters
    ----------
    price : (n,) closes, quote units.
    hold : (k,) bars that each trade lasts, ≥ 0; their sum is at most n − 1.
    notional, cost : (k,) size at entry, and what the round trip costs, quote units.

    Returns
    -------
    (draws,) quote units.
    """
    total = [
        _drawn(price, hold, notional, min(_CHUNK, draws - done), rng)
        for done in range(0, draws, _CHUNK)
    ]
    return np.asarray(np.concatenate(total) - float(cost.sum()), dtype=np.float64)


def _drawn(
    price: Floats, hold: Rows, notional: Floats, draws: int, rng: np.random.Generator
) -> Floats:
    order = rng.permuted(np.tile(np.arange(len(hold)), (draws, 1)), axis=1)
    lasts = hold[order]
    idle = len(price) - 1 - int(hold.sum())
    gaps = np.sort(rng.integers(0, idle + 1, size=order.shape), axis=1)
    entry = gaps + np.cumsum(lasts, axis=1) - lasts
    side = rng.choice(np.array([-1.0, 1.0]), size=order.shape)
    moved = price[entry + lasts] / price[entry] - 1.0
    return np.asarray((side * notional[order] * moved).sum(axis=1))


def against_random(run: Run, seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """Compare a run's closed trades with :func:`random_turnover`, both before funding.

    Returns
    -------
    ``trades_pct`` is what the strategy's closed trades earned, ``mean_pct``, ``lo_pct`` and
    ``hi_pct`` what random ones did (mean and middle 95 %), in percent of the opening capital;
    ``percentile`` in [0, 1] is the share of draws below the strategy, ties counting half.
    """
    told: dict[str, Any] = dict.fromkeys(("trades_pct", "mean_pct", "lo_pct", "hi_pct",
                                          "percentile"))  # fmt: skip
    told |= {
        "n": len(run.trades), "draws": 0, "seed": seed,
        "how": "as many trades, as long, as large and as dear, in random order at random instants, "
        "sides by a fair coin; closed trades before funding",
    }  # fmt: skip
    if not run.trades or not np.isfinite(run.price).all():
        return told
    earned = float(sum(_before_funding(run.trades)))
    found = random_turnover(
        run.price, _bars_held(run), notional_of(run.trades), _costs(run.trades), draws,
        np.random.default_rng(seed),
    )  # fmt: skip
    share = (found < earned).mean() + 0.5 * (found == earned).mean()
    low, high = np.quantile(found, [0.025, 0.975])
    in_percent = [100.0 * float(v) / run.initial for v in (earned, found.mean(), low, high)]
    names = ("trades_pct", "mean_pct", "lo_pct", "hi_pct")
    return {**told, **dict(zip(names, in_percent, strict=True)), "percentile": float(share),
            "draws": draws}  # fmt: skip


def _before_funding(trades: Sequence[ClosedTrade]) -> Floats:
    funding = np.array([float(trade.funding) for trade in trades], dtype=np.float64)
    return np.asarray(pnl_of(trades) + funding)


def _costs(trades: Sequence[ClosedTrade]) -> Floats:
    paid = [float(trade.fee + trade.spread + trade.slippage) for trade in trades]
    return np.array(paid, dtype=np.float64)


def _bars_held(run: Run) -> Rows:
    opened = np.searchsorted(run.at, [trade.opened_at for trade in run.trades])
    closed = np.searchsorted(run.at, [trade.closed_at for trade in run.trades])
    return np.asarray(np.minimum(closed, len(run.at) - 1) - np.minimum(opened, len(run.at) - 1))
