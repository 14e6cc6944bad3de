"""The oracle's rule in backtesting.py; :mod:`benchmarks.engines` runs it in its own environment.

``python backtesting_py.py BARS.npz OUT.npz REPEATS``: bars in, equity at each close, closed trades
and CPU seconds out.
"""

import sys
import time

import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy


def average(close, span):
    return pd.Series(close).ewm(span=span, adjust=False).mean().to_numpy()


class Cross(Strategy):
    def init(self):
        self.side = self.I(
            lambda c: np.sign(average(c, 10) - average(c, 20)), self.data.Close, plot=False
        )

    def next(self):
        if len(self.data) < 20:
            return
        side = self.side[-1]
        if side > 0 and not self.position.is_long:
            self.buy(size=1)
        elif side < 0 and not self.position.is_short:
            self.sell(size=1)


def main():
    bars, out, repeats = np.load(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    columns = {name.title(): bars[name] for name in ("open", "high", "low", "close", "volume")}
    frame = pd.DataFrame(columns, index=pd.to_datetime(bars["ts"], unit="ms"))
    seconds = []
    for _ in range(repeats + 1):
        began = time.process_time()
        test = Backtest(frame, Cross, cash=1_000_000, commission=0.0005, exclusive_orders=True,
                        finalize_trades=True)  # fmt: skip
        stats = test.run()
        seconds.append(time.process_time() - began)
    trades = stats["_trades"]
    np.savez(
        out, equity=stats["_equity_curve"]["Equity"].to_numpy(), seconds=seconds[1:],
        size=trades["Size"], entry=trades["EntryPrice"], exit=trades["ExitPrice"],
        entry_bar=trades["EntryBar"], exit_bar=trades["ExitBar"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
