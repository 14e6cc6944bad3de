"""Courses for tests of the gate: a strategy's decisions on a generated market."""

from __future__ import annotations

from functools import cache
from typing import Any

from data.instruments import instrument_for
from data.memory import MarketMemory
from domain.market import BarFrame
from execution.fills import CostModel, Frictions
from execution.strategies import EmaCross
from rl.course import Course, Terms, course_of
from rl.observation import Schema
from sim.worlds import DEMO, RANDOM_WALK, GeneratedWorld

PERP, SPOT = "BTC/USDT:USDT", "BTC/USDT"
WORLDS = {"walk": RANDOM_WALK, "demo": DEMO}


def frame_of(kind: str, bars: int, seed: int = 3, symbol: str = PERP) -> BarFrame:
    """Return bars of a generated market."""
    world = GeneratedWorld(WORLDS[kind], seed, symbol)
    return world.bars(world.start_ms, bars)


def memory_of(frame: BarFrame) -> MarketMemory:
    """Return a memory of all bars."""
    memory = MarketMemory(frame.symbol, frame.timeframe, keep=None)
    memory.append(frame)
    return memory


def decided(frame: BarFrame) -> Any:
    """Iterate over the states and what ``ema_cross`` decides on them."""
    strategy = EmaCross()
    for state in memory_of(frame).states(None, None, 250):
        yield state, strategy.generate_signal(strategy.prepare_state(state, (), {}), state.as_of)


def terms_of(symbol: str = PERP) -> Terms:
    """Return the usual costs."""
    instrument = instrument_for(symbol)
    return Terms(instrument, CostModel.of(instrument, Frictions()))


@cache
def course(kind: str = "walk", bars: int = 2_000, seed: int = 3, symbol: str = PERP) -> Course:
    """Return ``ema_cross`` on a generated market."""
    frame = frame_of(kind, bars, seed, symbol)
    return course_of(frame, decided(frame), Schema(), terms_of(symbol))
