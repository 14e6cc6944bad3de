"""Bars, instruments and loops for the tests of execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from domain.decision import Action, Decision
from domain.market import Bar, BarFrame, Instrument, MarketState
from domain.opinion import Opinion
from domain.ports import Ledger, Strategy
from domain.trading import ClosedTrade
from execution.draws import Latency
from execution.fills import CostModel, Frictions
from execution.limits import RiskLimits
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.paper import PaperBroker, Venue
from execution.sizing import SizingSettings
from sim.backtest import plain_states

STEP = 300_000
START = 1_735_689_600_000  # 2025-01-01T00:00:00Z
PERP = Instrument(
    "BTC/USDT:USDT", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(1000),
    Decimal(100), 5.0, 2.0,
)  # fmt: skip
SPOT = Instrument(
    "BTC/USDT", Decimal("0.01"), Decimal("0.00001"), Decimal("0.00001"), Decimal(9000),
    Decimal(5), 10.0, 10.0,
)  # fmt: skip
FIXED = SizingSettings(mode="fixed", fixed_notional=500.0)
NO_LIMITS = RiskLimits(None, None, None, None, None, None, None)


def walk(n: int, seed: int = 7, symbol: str = PERP.symbol, sigma: float = 0.002) -> BarFrame:
    """A random walk of n 5-minute bars that start at START."""
    rng = np.random.default_rng(seed)
    close = np.round(50_000 * np.exp(np.cumsum(rng.normal(0, sigma, n))), 1)
    opened = np.concatenate(([50_000.0], close[:-1]))
    wick = np.abs(rng.normal(0, sigma / 2, (2, n)))
    high = np.round(np.maximum(opened, close) * (1 + wick[0]), 1)
    low = np.round(np.minimum(opened, close) * (1 - wick[1]), 1)
    ts = START + STEP * np.arange(n, dtype=np.int64)
    return BarFrame(symbol, "5m", ts, opened, high, low, close, np.ones(n))


def bar(n: int, prices: tuple[float, float, float, float], symbol: str = PERP.symbol) -> Bar:
    """Bar n after START with (open, high, low, close)."""
    return Bar(symbol, "5m", START + n * STEP, *prices, 1.0)


def flat(n: int, price: float = 50_000.0, symbol: str = PERP.symbol) -> Bar:
    return bar(n, (price, price, price, price), symbol)


def states_of(bars: Sequence[Bar]) -> list[MarketState]:
    return list(plain_states(BarFrame.of(bars)))


class Script:
    """A strategy that says what a test tells it: bar index after START → side, stop, target."""

    name = "script"

    def __init__(self, says: Mapping[int, Any], horizon_bars: int = 5) -> None:
        self.says, self.horizon_bars = dict(says), horizon_bars
        self.seen: list[tuple[int, Any]] = []
        self.learned: list[ClosedTrade] = []

    def prepare_state(
        self, state: MarketState, opinions: Sequence[Opinion], absent: Mapping[str, str]
    ) -> MarketState:
        return state

    def generate_signal(self, prepared: MarketState, now: int) -> Decision:
        said = self.says.get((prepared.as_of - START) // STEP - 1, "NO_TRADE")
        side, stop, target = said if isinstance(said, tuple) else (said, None, None)
        action = Action(side)
        return Decision(
            prepared.symbol, prepared.timeframe, prepared.as_of, now, self.horizon_bars,
            self.name, action, action, (), "As scripted.", None, None, None, None, None, None,
            None, stop, target,
        )  # fmt: skip

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        self.seen.extend(rows)

    def post_trade_update(self, trade: ClosedTrade) -> None:
        self.learned.append(trade)


def loop_over(
    ledger: Ledger,
    strategy: Strategy,
    instrument: Instrument = PERP,
    *,
    forecast: str = "",
    limits: RiskLimits = NO_LIMITS,
    sizing: SizingSettings = FIXED,
    **settings: Any,
) -> TradingLoop:
    """A fresh loop with a fresh paper broker over a ledger."""
    broker = plain_broker({instrument.symbol: instrument})
    routes = {forecast or instrument.symbol: instrument.symbol}
    return TradingLoop(
        strategy, broker, ledger, {instrument.symbol: instrument},
        replace(LoopSettings(routes), **settings), limits=limits, sizing=sizing,
    )  # fmt: skip


def plain_broker(instruments: Mapping[str, Instrument]) -> PaperBroker:
    """A broker whose fills can be worked out by hand: at the open, whatever the size."""
    free = Frictions(impact=0.0, participation=None)
    costs = {symbol: CostModel.of(one, free) for symbol, one in instruments.items()}
    return PaperBroker(instruments, costs, venue=Venue(latency=Latency("none")))


def play(loop: TradingLoop, bars: Sequence[Bar]) -> list[Decision]:
    return [loop.step(state, [], {}, state.as_of) for state in states_of(bars)]
