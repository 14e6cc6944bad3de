"""Courses for tests of the gate: a strategy's decisions on a generated market."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from agents.artifacts import Card, save
from data.instruments import instrument_for
from data.memory import MarketMemory
from domain.market import BarFrame
from execution.fills import CostModel, Frictions
from execution.strategies import EmaCross
from rl.actions import BUY, CHOICES, COUNTS, SELL
from rl.course import Course, Terms, course_of
from rl.observation import LARGEST, Schema
from rl.policy import WEIGHTS, Policy
from sim.worlds import DEMO, RANDOM_WALK, GeneratedWorld

PERP, SPOT = "BTC/USDT:USDT", "BTC/USDT"
SCHEMA = Schema()
COLUMNS = len(SCHEMA.names)
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


def policy(likes: str = "", size: int = 3, strange: int = 1_000, seed: int | None = None) -> Policy:
    """A policy that likes one kind whatever it sees, or with a seed, one that is drawn."""
    rng = np.random.default_rng(seed or 0)
    hidden = rng.normal(size=(8, COLUMNS)).astype(np.float32) * 0.3
    last = rng.normal(size=(CHOICES, 8)).astype(np.float32) * (0.0 if seed is None else 1.0)
    bias = np.zeros(CHOICES, np.float32)
    if likes:
        bias[{"skip": 0, "buy": BUY, "sell": SELL}[likes]] = 4.0
    bias[COUNTS[0] + size] = 2.0
    return Policy(
        (hidden, last), (np.zeros(8, np.float32), bias), np.zeros(COLUMNS), np.ones(COLUMNS),
        np.full(COLUMNS, -LARGEST, np.float32), np.full(COLUMNS, LARGEST, np.float32), strange,
    )  # fmt: skip


def kept(root: Path, made: Policy | None = None, at: int = 0, **params: Any) -> Path:
    """Save a gate as a version and return its folder; ``at`` : when it was made, seconds."""
    told = {"schema": SCHEMA.as_dict(), "strategy": "ema_cross", **params}
    contents = {WEIGHTS: (made or policy(seed=5)).to_bytes(),
                "params.json": json.dumps(told).encode()}  # fmt: skip
    card = Card(
        "gate",
        "ema_cross",
        1_700_000_000_000 + 1_000 * at,
        "abc",
        "0" * 64,
        "BTC/USDT",
        "5m",
        5,
        0,
        1,
        7,
    )
    card = save(root, "gate/ema_cross", card, contents)
    return root / "gate/ema_cross" / card.version


@cache
def course(kind: str = "walk", bars: int = 2_000, seed: int = 3, symbol: str = PERP) -> Course:
    """Return ``ema_cross`` on a generated market."""
    frame = frame_of(kind, bars, seed, symbol)
    return course_of(frame, decided(frame), Schema(), terms_of(symbol))
