"""Small markets and their states for the tests of agents."""

from collections.abc import Sequence

import numpy as np

from data.memory import MarketMemory
from domain.market import BarFrame, BookView, MarketState, OrderFlow, Trade
from domain.ports import Agent
from sim.worlds import DemoSource

START = 1_704_067_200_000  # 2024-01-01
STEP = 300_000


def market(n: int, seed: int = 0, drift: float = 0.0, noise: float = 5e-4) -> BarFrame:
    """Bars whose drift is ±``drift`` or 0 a bar, in regimes of about ten bars, under noise."""
    rng = np.random.default_rng(seed)
    regime, returns = 0, np.zeros(n)
    for i in range(n):
        if rng.random() < 0.1:
            regime = int(rng.choice([s for s in (-1, 0, 1) if s != regime]))
        returns[i] = regime * drift + noise * rng.normal()
    close = 50_000.0 * np.exp(np.cumsum(returns))
    opened = np.concatenate(([50_000.0], close[:-1]))
    wick = noise * 0.4 * np.abs(rng.normal(size=(2, n)))
    high = np.maximum(opened, close) * (1 + wick[0])
    low = np.minimum(opened, close) * (1 - wick[1])
    return BarFrame(
        "BTC/USDT", "5m", START + STEP * np.arange(n, dtype=np.int64),
        opened, high, low, close, np.exp(rng.normal(size=n)),
    )  # fmt: skip


def with_gap(bars: BarFrame, at: int, missing: int) -> BarFrame:
    """Remove ``missing`` bars from row ``at`` on."""
    keep = np.ones(len(bars), dtype=bool)
    keep[at : at + missing] = False
    columns = (bars.ts, bars.open, bars.high, bars.low, bars.close, bars.volume)
    return BarFrame(bars.symbol, bars.timeframe, *(column[keep] for column in columns))


class WatchedBooks:
    """Books, prints and order flow that hang on the instant alone; at every tenth nobody looked."""

    def __init__(self) -> None:
        self._demo = DemoSource(start_ms=START)

    def look(self, symbol: str, as_of: int) -> BookView:
        """See a book of the demo market, whatever the bars are."""
        if as_of // STEP % 10 == 0:
            return BookView()
        rng = np.random.default_rng(as_of // STEP)
        book = self._demo.look(symbol, as_of).book
        moves = rng.normal(size=8)
        flow = OrderFlow(as_of - 10_000, as_of, moves.sum(), np.abs(moves).sum(), len(moves))
        sold = rng.random(8) < 0.5
        trades = (Trade(as_of - 1 - i, 50_000.0, 1.0 + i, bool(sold[i])) for i in range(7, -1, -1))
        return BookView(book, tuple(trades), flow)


def states_of(agent: Agent, bars: BarFrame) -> Sequence[MarketState]:
    """The states at every bar's close, with as much of the past as the agent needs, and books."""
    memory = MarketMemory(bars.symbol, bars.timeframe, keep=None, books=WatchedBooks())
    memory.append(bars)
    return memory.states(bars=agent.needs.bars, feature_rows=agent.needs.feature_rows)
