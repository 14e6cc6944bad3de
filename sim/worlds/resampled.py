"""New markets from old bars: a block bootstrap by regime, several symbols together.

The past is cut into blocks of an hour or more that begin at the same times of day. Every block is
labelled by the first symbol's volatility in it (below or above the median of that time of day) and
by how straight its path was (efficiency ratio |Σr| / Σ|r|, likewise; Kaufman, *Trading Systems and
Methods*). A new market is a chain of labels, drawn from the transitions that the past had or given,
and for every label a block with that label and time of day, drawn with replacement. All symbols
take the same rows, so that they move together as they did; a block's bars stand to the close before
them as they stood then, so that no price jumps where blocks meet.

After Politis and Romano, *A Circular Block-Resampling Procedure for Stationary Data* (1992), with
the blocks' order drawn from a Markov chain of regimes instead of evenly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.errors import DataRefused, UsageError
from domain.market import BarFrame
from domain.times import DAY_MS, timeframe_ms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REGIMES = ("calm, ranging", "calm, trending", "wild, ranging", "wild, trending")
_LEAST = 3  # blocks of each regime and time of day
_SMOOTH = 0.5  # added to every count of a transition, so that none is impossible


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """m blocks of b bars of k symbols.

    Attributes
    ----------
    moves : (m, k, 4, b) logs of open, high, low and close over the close before each bar.
    volume : (m, k, b), base units.
    label : (m,) index into :data:`REGIMES`. ``slot`` : (m,) which part of the day.
    start : (m,) open of the first bar, UTC ms.
    """

    moves: Floats
    volume: Floats
    label: Ints
    slot: Ints
    start: Ints


class Resampled:
    """Markets drawn from the bars of one or more symbols.

    Parameters
    ----------
    frames : bars of the same timeframe by symbol; only instants that all of them have are used.
    block : length of a block, ``1h`` to ``1d``; a day must be whole blocks.

    Raises
    ------
    UsageError : for another length, or bars of several timeframes.
    DataRefused : if a regime has fewer than three blocks at some time of day.
    """

    def __init__(self, frames: Mapping[str, BarFrame], block: str = "6h") -> None:
        self.frames = dict(frames)
        first = next(iter(self.frames.values()))
        self.timeframe, self.step_ms = first.timeframe, first.step_ms
        length = timeframe_ms(block)
        if any(frame.timeframe != first.timeframe for frame in self.frames.values()):
            several = sorted({frame.timeframe for frame in self.frames.values()})
            raise UsageError("resampling", "needs bars of one timeframe", several)
        if not 3_600_000 <= length <= DAY_MS or DAY_MS % length or length < 4 * self.step_ms:
            raise UsageError("block", "must be 1h to 1d and divide a day", block, "Try 6h.")
        self.block_bars = length // self.step_ms
        self._length = length
        self._blocks = self._cut()
        self._require()

    def draw(
        self, seed: int, start_ms: int, n: int, regimes: Sequence[str] = ()
    ) -> dict[str, BarFrame]:
        """Return n new bars of every symbol, the first of which opens at ``start_ms``.

        Prices go on from each symbol's first close. A longer market begins as a shorter one does.

        Parameters
        ----------
        start_ms : midnight UTC, so that every block keeps its time of day.
        regimes : of the blocks in order, repeated as often as needed; empty = a chain of them.

        Raises
        ------
        UsageError : for a start that is no midnight, or a regime that there is not.
        """
        if start_ms % DAY_MS:
            raise UsageError("start", "must be midnight, UTC", start_ms)
        rng = np.random.default_rng(seed)
        rows = self._rows(rng, -(-n // self.block_bars), regimes)
        ts = start_ms + self.step_ms * np.arange(n, dtype=np.int64)
        return {
            symbol: self._frame(symbol, place, rows, ts, n)
            for place, symbol in enumerate(self.frames)
        }

    def labels(self) -> list[tuple[int, str]]:
        """Return the blocks of the past in order: open of the first bar (UTC ms), regime."""
        blocks = self._blocks
        return [
            (start, REGIMES[label])
            for start, label in zip(blocks.start.tolist(), blocks.label.tolist(), strict=True)
        ]

    def transitions(self) -> Floats:
        """Return how likely each regime follows on each, (4, 4), rows sum to 1."""
        blocks, counts = self._blocks, np.full((len(REGIMES), len(REGIMES)), _SMOOTH)
        follows = np.diff(blocks.start) == self._length
        np.add.at(counts, (blocks.label[:-1][follows], blocks.label[1:][follows]), 1.0)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    def _cut(self) -> _Blocks:
        every = list(self.frames.values())
        common = every[0].ts
        for frame in every[1:]:
            common = np.intersect1d(common, frame.ts)
        size, step = self.block_bars, self.step_ms
        before = common[:-size]  # the bar whose close a block's first bar stands to
        starts = before[common[size:] - before == size * step] + step
        starts = starts[starts % self._length == 0]
        if not len(starts):
            raise DataRefused("resampling", "needs a block of bars without a gap", len(common))
        moves = np.empty((len(starts), len(every), 4, size))
        volume = np.empty((len(starts), len(every), size))
        for place, frame in enumerate(every):
            at = np.searchsorted(frame.ts, starts)[:, None] + np.arange(size)
            before = np.log(frame.close[at - 1])
            for row, column in enumerate((frame.open, frame.high, frame.low, frame.close)):
                moves[:, place, row] = np.log(column[at]) - before
            volume[:, place] = frame.volume[at]
        slot = (starts % DAY_MS) // self._length
        return _Blocks(moves, volume, _labels(moves[:, 0, 3], slot), slot, starts)

    def _require(self) -> None:
        blocks = self._blocks
        for slot in range(DAY_MS // self._length):
            for label, name in enumerate(REGIMES):
                many = int(((blocks.slot == slot) & (blocks.label == label)).sum())
                if many < _LEAST:
                    raise DataRefused(
                        f"resampling of {', '.join(self.frames)}",
                        f"needs {_LEAST} blocks of every regime at every time of day",
                        f"{many} of {name} at {slot * self._length // 3_600_000:02d}:00",
                        "Give more bars, or longer blocks.",
                    )  # fmt: skip

    def _rows(self, rng: np.random.Generator, many: int, regimes: Sequence[str]) -> list[int]:
        blocks, slots = self._blocks, DAY_MS // self._length
        unknown = [name for name in regimes if name not in REGIMES]
        if unknown:
            raise UsageError("regime", f"must be one of {'; '.join(REGIMES)}", unknown[0])
        chain = self.transitions()
        usual = np.bincount(blocks.label, minlength=len(REGIMES)) / len(blocks.label)
        label, rows = int(rng.choice(len(REGIMES), p=usual)), []
        for number in range(many):
            if regimes:
                label = REGIMES.index(regimes[number % len(regimes)])
            elif number:
                label = int(rng.choice(len(REGIMES), p=chain[label]))
            known = np.flatnonzero((blocks.label == label) & (blocks.slot == number % slots))
            rows.append(int(rng.choice(known)))
        return rows

    def _frame(self, symbol: str, place: int, rows: list[int], ts: Ints, n: int) -> BarFrame:
        blocks = self._blocks
        moves = blocks.moves[rows, place].transpose(1, 0, 2).reshape(4, -1)[:, :n]
        volume = blocks.volume[rows, place].reshape(-1)[:n]
        level = np.log(self.frames[symbol].close[0]) + np.cumsum(moves[3]) - moves[3]
        prices = np.exp(level + moves)
        start, end = prices[0], prices[3]
        high, low = prices.max(axis=0), prices.min(axis=0)  # whatever exp and log round
        return BarFrame(symbol, self.timeframe, ts, start, high, low, end, volume.copy())


def _labels(closes: Floats, slot: Ints) -> Ints:
    """Return the regime of each block from its close-to-close moves, (m,)."""
    size = np.abs(closes).sum(axis=1)
    straight = np.abs(closes.sum(axis=1)) / np.where(size > 0.0, size, 1.0)
    spread = np.sqrt((closes**2).mean(axis=1))
    wild, trending = np.zeros(len(slot), dtype=bool), np.zeros(len(slot), dtype=bool)
    for value in np.unique(slot):
        here = slot == value
        wild[here] = spread[here] > np.median(spread[here])
        trending[here] = straight[here] > np.median(straight[here])
    return np.asarray(2 * wild.astype(np.int64) + trending.astype(np.int64))
