"""An agent, its market and ways to look at a tape, for the tests of tapes."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.contract import asleep, speak
from data.memory import MarketMemory
from domain.canonical import plain
from domain.market import BarFrame, MarketState
from domain.opinion import Opinion
from domain.ports import Agent, Needs
from domain.quantiles import CANONICAL_LEVELS, Quantiles
from sim.scoring import Forecasts
from sim.tapes import Tape, TapeStore
from tests.agents_world import STEP, market

PART = 32
BARS = market(211, seed=5).slice(11, 211)
OFFSET = -int(BARS.ts[0]) // STEP % PART  # bars before the grid's next edge


class Chartist:
    """Says something about every bar that hangs on all it was shown, and counts the bars."""

    needs = Needs(bars=20, feature_rows=1)
    horizon_bars = 5

    def __init__(self, name: str = "chartist", version: str = "v1", die_after: int = -1) -> None:
        self.name, self.version, self.die_after = name, version, die_after
        self.asked: list[int] = []

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        if len(self.asked) == self.die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        self.asked += [state.as_of for state in states]
        return [self._opinion(state) for state in states]

    def _opinion(self, state: MarketState) -> Opinion:
        close = state.bars.close
        if state.bars_since_gap < 3:
            return asleep(self.name, self.version, state, 5)
        p, sigma = float(0.5 + 50 * (close[-1] / close[0] - 1)), float(np.std(np.log(close)))
        levels, values = CANONICAL_LEVELS, sigma * np.linspace(-1, 1, 13)
        if state.bars_since_gap % 3 == 0:
            levels, values = (0.1, 0.5, 0.9), sigma * np.array([-1.1, 0.1, 1.3])
        return speak(
            self.name, self.version, state, 5, p_up=p if state.bars_since_gap % 2 else None,
            quantiles=Quantiles(levels, tuple(values.tolist())), expected_return=sigma / 7,
            risk_down=sigma, risk_up=None, rationale=f"σ = {sigma:.3%}",
            evidence={"sigma": sigma, "bars": len(close), "ok": True, "why": ["a", None]},
        )  # fmt: skip


def remember(bars: BarFrame) -> MarketMemory:
    memory = MarketMemory(bars.symbol, bars.timeframe, keep=None)
    memory.append(bars)
    return memory


def record(store: TapeStore, agent: Agent, bars: BarFrame = BARS, **more: Any) -> Tape:
    return store.record({agent.name: agent}, remember(bars), horizon=5, **more)


def live(agent: Agent, bars: BarFrame = BARS) -> list[Opinion]:
    needs = agent.needs
    return agent.opine(list(remember(bars).states(None, None, needs.bars, needs.feature_rows)))


def heard(tape: Tape) -> list[Opinion]:
    return [opinion for opinions, _ in tape.rounds() for opinion in opinions]


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def changed(bars: BarFrame, row: int) -> BarFrame:
    volume = bars.volume.copy()
    volume[row] = np.nextafter(volume[row], np.inf)
    return replace(bars, volume=volume)


def bits(value: Any) -> Any:
    """Equal for equal bits only: NaN equals itself, −0.0 is not 0.0."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, tuple):
        return tuple(bits(item) for item in value)
    if isinstance(value, Quantiles):
        return bits((value.levels, value.values))
    return value


def same_bits(left: Opinion, right: Opinion) -> bool:
    fields = ("agent", "model_version", "symbol", "timeframe", "as_of", "horizon_bars", "p_up",
              "quantiles", "expected_return", "risk_down", "risk_up", "rationale")  # fmt: skip
    equal = all(bits(getattr(left, name)) == bits(getattr(right, name)) for name in fields)
    return equal and repr(left.evidence) == repr(plain(right.evidence))


def equal_columns(left: Forecasts, right: Forecasts) -> bool:
    names = ("p_up", "risk_down", "risk_up", "risk_sigma", "sigma", "weight", "in_sample")
    return all(
        np.array_equal(getattr(left, name), getattr(right, name), equal_nan=name != "in_sample")
        for name in names
    ) and bool(np.allclose(left.quantiles, right.quantiles, rtol=0, atol=1e-17, equal_nan=True))
