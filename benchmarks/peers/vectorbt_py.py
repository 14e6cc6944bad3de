"""The oracle's rule in vectorbt; run by :mod:`benchmarks.engines` in an environment of its own.

``python vectorbt_py.py BARS.npz OUT.npz REPEATS``: bars in, equity at each close, closed trades and
CPU seconds out.
"""

import sys
import time

import numpy as np
import pandas as pd
import vectorbt as vbt


def average(close, span):
    return pd.Series(close).ewm(span=span, adjust=False).mean().to_numpy()


def run(bars):
    side = np.sign(average(bars["close"], 10) - average(bars["close"], 20))
    side[:19] = np.nan
    wanted = np.concatenate(([np.nan], side[:-1]))  # decided at a close, traded at the next open
    portfolio = vbt.Portfolio.from_orders(
        bars["close"], size=wanted, size_type="targetamount", price=bars["open"], fees=0.0005,
        init_cash=1_000_000.0,
    )  # fmt: skip
    return portfolio, portfolio.value().to_numpy()


def main():
    stored, out, repeats = np.load(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    bars = {name: stored[name] for name in stored.files}
    seconds = []
    for _ in range(repeats + 1):
        began = time.process_time()
        portfolio, equity = run(bars)
        seconds.append(time.process_time() - began)
    trades = portfolio.trades.records
    closed = trades[trades["status"] == 1]
    np.savez(
        out, equity=equity, seconds=seconds[1:],
        size=np.where(closed["direction"] == 0, 1, -1) * closed["size"],
        entry=closed["entry_price"], exit=closed["exit_price"], entry_bar=closed["entry_idx"],
        exit_bar=closed["exit_idx"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
