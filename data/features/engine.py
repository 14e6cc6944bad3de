"""The engine: bars in, feature rows out, the same rows for any chunking."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from data.features.names import MIN_BARS, feature_names, schema_hash
from data.features.run import Run
from domain.errors import DataRefused
from domain.market import BarFrame, FeatureFrame, Floats

_PIECE = 16_384  # bars at a time, so that a batch stays in the processor's cache


class FeatureEngine:
    """Turn bars into feature rows: batch is one long chunk, live is one bar at a time.

    Recursions are seeded at the first bar after a gap (the first bar of all counts as one) and
    carried from chunk to chunk. A row depends on its own run's bars up to its own, and on nothing
    else: neither later bars nor the chunking change it, to the last bit.

    Rows with fewer than 288 contiguous bars behind them are all NaN; later rows have no NaN, and
    windows that are longer than the run use what there is of it.

    Parameters
    ----------
    timeframe : of the bars, e.g. ``"5m"``.
    """

    __slots__ = ("_last_ts", "_run", "names", "schema", "timeframe")

    def __init__(self, timeframe: str) -> None:
        self.timeframe = timeframe
        self.names = feature_names(timeframe)
        self.schema = schema_hash(timeframe)
        self._run = Run(timeframe)
        self._last_ts: int | None = None

    def update(self, chunk: BarFrame) -> FeatureFrame:
        """Consume the next bars, (n,), and return their rows, (n, len(names)).

        Raises
        ------
        DataRefused : if the bars are of another timeframe, out of order, already consumed or not
            finite (prices must be > 0, volumes ≥ 0); the engine is left as it was.
        """
        self._check(chunk)
        values = np.empty((len(chunk), len(self.names)))
        for start, stop in self._pieces(chunk):
            bars = chunk.slice(start, stop)
            if self._last_ts is not None and int(bars.ts[0]) != self._last_ts + chunk.step_ms:
                self._run = Run(self.timeframe)
            columns, age = self._run.advance(bars)
            for j, name in enumerate(self.names):
                values[start:stop, j] = columns[name]
            values[start:stop][age < MIN_BARS] = np.nan
            self._last_ts = int(bars.ts[-1])
        return FeatureFrame(self.names, values, self.schema)

    @staticmethod
    def _pieces(chunk: BarFrame) -> list[tuple[int, int]]:
        gaps = np.flatnonzero(np.diff(chunk.ts) != chunk.step_ms) + 1
        edges = [0, *gaps.tolist(), len(chunk)]
        return [
            (start, min(start + _PIECE, stop))
            for begin, stop in pairwise(edges)
            for start in range(begin, stop, _PIECE)
        ]

    def _check(self, chunk: BarFrame) -> None:
        if chunk.timeframe != self.timeframe:
            raise DataRefused(
                "feature bars", f"must be of timeframe {self.timeframe}", chunk.timeframe
            )
        known = self._last_ts if self._last_ts is not None else -1
        if np.any(np.diff(chunk.ts, prepend=known) <= 0):
            raise DataRefused(
                f"feature bars of {chunk.symbol}",
                f"must be strictly increasing and later than {known}",
                hint="Drop bars that were consumed before.",
            )
        prices = np.stack((chunk.open, chunk.high, chunk.low, chunk.close))
        if not (np.all((prices > 0.0) & (prices < np.inf)) and _usable(chunk.volume)):
            raise DataRefused(
                f"feature bars of {chunk.symbol}",
                "prices must be finite and above 0, volumes finite and at least 0",
                hint="Bars that pass validation are; see `conclave data check`.",
            )


def _usable(volume: Floats) -> bool:
    return bool(np.all((volume >= 0.0) & (volume < np.inf)))


def build_features(bars: BarFrame) -> FeatureFrame:
    """Return the feature rows of all bars, (n, len(names)): the engine on one chunk."""
    return FeatureEngine(bars.timeframe).update(bars)
