"""Climatology: the last thirty days say what is usual. The yardstick for every other agent.

Quantiles of the last 8 640 moves over the horizon (fewer if fewer exist since a gap), their share
of ups shrunk towards ½, and the share of adverse moves on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.contract import HORIZON_BARS, MIN_BARS, Floats, asleep, canonical, speak, too_young
from agents.windows import Run, runs
from domain.canonical import short_hash
from domain.market import MarketState
from domain.opinion import ADVERSE_MOVE, Opinion
from domain.ports import Needs
from domain.quantiles import CANONICAL_LEVELS

NAME = "climatology"
MIN_MOVES = MIN_BARS - HORIZON_BARS  # what a day of bars holds at the usual horizon


@dataclass(frozen=True, slots=True)
class ClimatologyConfig:
    """Settings; the prior counts as that many moves with a share of exactly ½."""

    horizon_bars: int = HORIZON_BARS
    window: int = 8640  # moves, thirty days of five-minute bars
    prior: int = 25_920  # moves; overlapping labels make 8 640 moves worth 1 728
    adverse_move: float = ADVERSE_MOVE  # fraction
    definition: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class _Moves:
    """Per bar: the move that ended in it and what happened on its way, zeros where none did."""

    moves: Floats
    up: NDArray[np.int64]
    fell: NDArray[np.int64]
    rose: NDArray[np.int64]


class Climatology:
    """Says what the last thirty days were like."""

    name = NAME

    def __init__(self, config: ClimatologyConfig | None = None) -> None:
        self.config = config or ClimatologyConfig()
        self.horizon_bars = self.config.horizon_bars
        self.needs = Needs(bars=self.config.window + self.horizon_bars, feature_rows=1)
        self.version = short_hash([NAME, self.config], 12)

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return one opinion per state; asleep in the first 288 bars after a gap.

        And until 283 moves over the horizon were seen, or as many as the window holds.
        """
        states = list(states)
        out: list[Opinion] = []
        for run in runs(states, self.needs.bars):
            out.extend(self._run(run, states))
        return out

    def _run(self, run: Run, states: Sequence[MarketState]) -> Iterator[Opinion]:
        config, past = self.config, self._moves(run)
        seen = np.maximum(run.lengths() - config.horizon_bars, 0)
        ups, falls, rises = (self._counts(run, x) for x in (past.up, past.fell, past.rose))
        rows = self._sorted_windows(run, past.moves, seen)
        enough = min(MIN_MOVES, config.window)
        for k, (i, window) in enumerate(zip(run.index, rows, strict=True)):
            state, n = states[i], int(seen[k])
            if n < enough or too_young(state, self.needs):
                yield asleep(NAME, self.version, state, self.horizon_bars)
                continue
            values = _quantiles(window)
            p = (float(ups[k]) + config.prior / 2.0) / (n + config.prior)
            yield speak(
                NAME, self.version, state, self.horizon_bars, p_up=p, quantiles=canonical(values),
                risk_down=float(falls[k]) / n, risk_up=float(rises[k]) / n,
                rationale=f"{ups[k] / n:.1%} of the last {n} moves went up.",
                evidence={"moves": n, "share_up": float(ups[k]) / n},
            )  # fmt: skip

    def _moves(self, run: Run) -> _Moves:
        h, n, theta = self.config.horizon_bars, len(run.bars), self.config.adverse_move
        bars = run.bars
        moves = np.zeros(n)
        events = np.zeros((3, n), dtype=np.int64)
        if n > h:
            logs = np.log(bars.close)
            moves[h:] = logs[h:] - logs[:-h]
            lows = np.min([bars.low[k : n - h + k] for k in range(1, h + 1)], axis=0)
            highs = np.max([bars.high[k : n - h + k] for k in range(1, h + 1)], axis=0)
            events[0, h:] = moves[h:] > 0
            events[1, h:] = 1.0 - lows / bars.close[:-h] > theta
            events[2, h:] = highs / bars.close[:-h] - 1.0 > theta
        return _Moves(moves, *events)

    def _counts(self, run: Run, events: NDArray[np.int64]) -> NDArray[np.int64]:
        total = np.concatenate(([0], np.cumsum(events)))
        last = run.first + 1 + np.arange(len(run.index))
        start = np.maximum(last - self.config.window, 0)
        return np.asarray(total[last] - total[start])

    def _sorted_windows(self, run: Run, moves: Floats, seen: NDArray[np.int64]) -> Iterator[Floats]:
        window = np.empty(0)
        for k, n in enumerate(seen.tolist()):
            stop = run.first + 1 + k
            if n > 0 and len(window) == n - 1:
                window = np.insert(
                    window, np.searchsorted(window, moves[stop - 1]), moves[stop - 1]
                )
            elif n > 0 and len(window) == n:
                _replace(window, moves[stop - 1 - n], moves[stop - 1])
            else:
                window = np.sort(moves[stop - n : stop])
            yield window


def _replace(window: Floats, old: float, new: float) -> None:
    i, j = np.searchsorted(window, old), np.searchsorted(window, new)
    if j > i:
        window[i : j - 1] = window[i + 1 : j]
        window[j - 1] = new
    else:
        window[j + 1 : i + 1] = window[j:i]
        window[j] = new


_LEVELS = np.array(CANONICAL_LEVELS)


def _quantiles(window: Floats) -> Floats:
    at = _LEVELS * (len(window) - 1)
    low = np.minimum(at.astype(np.int64), len(window) - 2)
    return np.asarray(window[low] + (at - low) * (window[low + 1] - window[low]))
