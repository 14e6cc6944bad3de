"""The oracle's rule in nautilus_trader; :mod:`benchmarks.engines` runs it in its own environment.

``python nautilus.py BARS.npz OUT.npz REPEATS``: bars in, filled orders and CPU seconds of
``engine.run()`` out. Its fills differ from the other engines' by design (a bar is four ticks, and
an order sent at a close fills there), so that only its speed is compared.
"""

import sys
import time
from decimal import Decimal

import numpy as np
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, StrategyConfig
from nautilus_trader.indicators import ExponentialMovingAverage
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

INSTRUMENT = TestInstrumentProvider.btcusdt_perp_binance()
KIND = BarType.from_str(f"{INSTRUMENT.id}-5-MINUTE-LAST-EXTERNAL")


class Cross(Strategy):
    def __init__(self):
        super().__init__(StrategyConfig())
        self.fast, self.slow = ExponentialMovingAverage(10), ExponentialMovingAverage(20)
        self.side = 0

    def on_start(self):
        for average in (self.fast, self.slow):
            self.register_indicator_for_bars(KIND, average)
        self.subscribe_bars(KIND)

    def on_bar(self, bar):  # noqa: ARG002 - the averages have it
        if not self.slow.initialized or self.fast.value == self.slow.value:
            return
        side = 1 if self.fast.value > self.slow.value else -1
        if side == self.side:
            return
        size = INSTRUMENT.make_qty(Decimal(1 if self.side == 0 else 2))
        self.side = side
        where = OrderSide.BUY if side > 0 else OrderSide.SELL
        self.submit_order(self.order_factory.market(INSTRUMENT.id, where, size))


def engine_over(bars):
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(
        Venue("BINANCE"), OmsType.NETTING, AccountType.MARGIN, [Money(1_000_000, USDT)],
        base_currency=USDT, default_leverage=Decimal(1),
    )  # fmt: skip
    engine.add_instrument(INSTRUMENT)
    columns = zip(*(bars[name] for name in ("open", "high", "low", "close")), strict=True)
    step = 300_000
    engine.add_data([
        Bar(KIND, *(Price(price, 1) for price in prices), Quantity(1_000, 3),
            (int(ts) + step) * 1_000_000, (int(ts) + step) * 1_000_000)
        for ts, prices in zip(bars["ts"], columns, strict=True)
    ])  # fmt: skip
    engine.add_strategy(Cross())
    return engine


def main():
    bars, out, repeats = np.load(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    seconds = []
    for _ in range(repeats + 1):
        engine = engine_over(bars)
        began = time.process_time()
        engine.run()
        seconds.append(time.process_time() - began)
        filled = len(engine.cache.orders_closed())
        engine.dispose()
    np.savez(out, seconds=seconds[1:], filled=filled)


if __name__ == "__main__":
    main()
