"""What is remembered of one market, and what of it was knowable when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from data.features import FeatureEngine, higher_timeframes
from data.resample import resample
from domain.errors import DataRefused
from domain.market import Bar, BarFrame, BookView, FeatureFrame, Floats, MarketState
from domain.ports import BookSource
from domain.times import iso, timeframe_ms

LIVE_BARS = 12_000
_COLUMNS = ("ts", "open", "high", "low", "close", "volume")
_UNWATCHED = BookView()


class MarketMemory:
    """Bars and feature rows of one symbol, growing at the end; states are views of them.

    Parameters
    ----------
    keep : bars to keep for live use; None keeps all. The features know nothing of it: what they
        need of the past lives in the engine.
    books : asked for order book and trades of every state that is taken; None where there are none.
    """

    def __init__(
        self,
        symbol: str,
        timeframe: str,
        keep: int | None = LIVE_BARS,
        books: BookSource | None = None,
    ) -> None:
        if keep is not None and keep < 1:
            raise DataRefused("market memory", "must keep at least one bar", keep)
        self.symbol, self.timeframe, self.keep = symbol, timeframe, keep
        self.step_ms = timeframe_ms(timeframe)
        self.engine = FeatureEngine(timeframe)
        self._start = self._stop = 0
        self._page = _Page.empty(symbol, self.engine, 0, books)

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def last_as_of(self) -> int | None:
        """Close of the newest bar, UTC ms; None while empty."""
        return int(self._page.bars.ts[self._stop - 1]) + self.step_ms if len(self) else None

    def append(self, bars: BarFrame | Bar) -> int:
        """Take in bars and return how many were new.

        Bars that are already remembered are ignored, whatever they say: the first word counts.

        Raises
        ------
        DataRefused : for another symbol or timeframe, or bars that are out of order or unusable;
            nothing is taken in then.
        """
        fresh = self._fresh(BarFrame.of([bars]) if isinstance(bars, Bar) else bars)
        if not len(fresh):
            return 0
        rows = self.engine.update(fresh).values
        since = fresh.bars_since_gap()
        if self.last_as_of == int(fresh.ts[0]):  # no gap in between: the run goes on
            since[: _first_run(since)] += self._page.since[self._stop - 1]
        self._reserve(len(fresh))
        self._page.write(self._stop, fresh, rows, since)
        self._stop += len(fresh)
        if self.keep is not None:
            self._start = max(self._start, self._stop - self.keep)
        return len(fresh)

    def bars(self) -> BarFrame:
        """Return all remembered bars, as read-only views."""
        return self._page.bars.slice(self._start, self._stop)

    def features(self) -> FeatureFrame:
        """Return all remembered feature rows, as a read-only view."""
        return self._page.features(self._start, self._stop)

    def state(
        self, as_of: int | None = None, bars: int = 1, feature_rows: int = 1
    ) -> MarketState | None:
        """Return what was knowable at an instant, ending with the last bar closed by then.

        Parameters
        ----------
        as_of : UTC ms; None means the newest bar's close. Look at the state's own ``as_of`` for
            the close of its last bar: it is earlier where bars are missing.
        bars, feature_rows : how many at most; neither reaches across a gap.

        Returns
        -------
        None if no remembered bar had closed by then.
        """
        end = self._stop
        if as_of is not None:
            end = self._row(as_of - self.step_ms + 1)
        page = self._page
        return page.state(self._start, end, bars, feature_rows) if end > self._start else None

    def states(
        self,
        start_ms: int | None = None,
        end_ms: int | None = None,
        bars: int = 1,
        feature_rows: int = 1,
    ) -> Sequence[MarketState]:
        """Return the states at the close of each bar that opens in [start, end), built when read.

        Bars before ``start`` are in the states' past. The sequence stays what it is when the
        memory grows or forgets.
        """
        first = self._start if start_ms is None else self._row(start_ms)
        last = self._stop if end_ms is None else self._row(end_ms)
        return _States(self._page, self._start, range(first, last), bars, feature_rows)

    def _row(self, open_ms: int) -> int:
        opens = self._page.bars.ts[self._start : self._stop]
        return self._start + int(np.searchsorted(opens, open_ms))

    def _fresh(self, frame: BarFrame) -> BarFrame:
        if (frame.symbol, frame.timeframe) != (self.symbol, self.timeframe):
            raise DataRefused(
                "bars",
                f"must be {self.symbol} {self.timeframe} for this memory",
                f"{frame.symbol} {frame.timeframe}",
            )
        if np.any(np.diff(frame.ts) <= 0):
            raise DataRefused(f"bars of {self.symbol}", "must be strictly increasing in time")
        if not len(self):
            return frame
        known = self._page.bars.ts[self._start : self._stop]
        old = int(np.searchsorted(frame.ts, known[-1], side="right"))
        if not old:
            return frame
        strange = frame.ts[:old][~np.isin(frame.ts[:old], known)]
        if len(strange):
            raise DataRefused(
                f"bars of {self.symbol}",
                f"must not be older than the newest known, {iso(int(known[-1]))}",
                iso(int(strange[0])),
                "Append in order; to fill a hole, build the memory again from the start.",
            )
        return frame.slice(old, len(frame))

    def _reserve(self, more: int) -> None:
        if self._stop + more <= len(self._page.since):
            return
        live = self._start, self._stop
        room = 2 * (len(self) + more) if len(self) else more
        fresh = _Page.empty(self.symbol, self.engine, room, self._page.books)
        fresh.write(
            0,
            self._page.bars.slice(*live),
            self._page.features(*live).values,
            self._page.since[slice(*live)],
        )
        self._page, self._start, self._stop = fresh, 0, len(self)


class HigherFrames(Mapping[str, BarFrame]):
    """Closed higher bars within a state's own bars, resampled when asked for."""

    __slots__ = ("_base",)

    def __init__(self, base: BarFrame) -> None:
        self._base = base

    def __getitem__(self, timeframe: str) -> BarFrame:
        if timeframe not in higher_timeframes(self._base.timeframe):
            raise KeyError(timeframe)
        return resample(self._base, timeframe)

    def __iter__(self) -> Iterator[str]:
        return iter(higher_timeframes(self._base.timeframe))

    def __len__(self) -> int:
        return len(higher_timeframes(self._base.timeframe))


@dataclass(frozen=True, slots=True, eq=False)
class _Page:
    """Arrays with room at the end. Rows are written once, so that views of them never change."""

    bars: BarFrame  # (room,) read-only views
    rows: FeatureFrame  # (room, columns) read-only view
    since: NDArray[np.int64]  # (room,) bars since the gap
    store: Mapping[str, NDArray[Any]]  # the same memory, to be written
    books: BookSource | None

    @classmethod
    def empty(
        cls, symbol: str, engine: FeatureEngine, room: int, books: BookSource | None
    ) -> _Page:
        kinds = {"ts": np.int64} | dict.fromkeys(_COLUMNS[1:], np.float64)
        store: dict[str, NDArray[Any]] = {c: np.empty(room, kinds[c]) for c in _COLUMNS}
        store["rows"] = np.empty((room, len(engine.names)))
        views = {name: array.view() for name, array in store.items()}
        for view in views.values():
            view.flags.writeable = False
        return cls(
            BarFrame(symbol, engine.timeframe, *(views[name] for name in _COLUMNS)),
            FeatureFrame(engine.names, views["rows"], engine.schema),
            np.empty(room, np.int64),
            store,
            books,
        )

    def write(self, at: int, bars: BarFrame, rows: Floats, since: NDArray[np.int64]) -> None:
        into = slice(at, at + len(bars))
        for name in _COLUMNS:
            self.store[name][into] = getattr(bars, name)
        self.store["rows"][into], self.since[into] = rows, since

    def features(self, start: int, end: int) -> FeatureFrame:
        return FeatureFrame(self.rows.names, self.rows.values[start:end], self.rows.schema)

    def state(self, start: int, end: int, bars: int, feature_rows: int) -> MarketState:
        since = int(self.since[end - 1])
        reach = min(since, end - start)
        frame = self.bars.slice(end - min(max(bars, 1), reach), end)
        as_of = int(frame.ts[-1]) + frame.step_ms
        seen = _UNWATCHED if self.books is None else self.books.look(frame.symbol, as_of)
        return MarketState(
            frame.symbol,
            frame.timeframe,
            as_of,
            frame,
            self.features(end - min(max(feature_rows, 1), reach), end),
            since,
            HigherFrames(frame),
            seen.book,
            seen.trades,
            seen.flow,
        )


class _States(Sequence[MarketState]):
    __slots__ = ("_bars", "_feature_rows", "_page", "_rows", "_start")

    def __init__(self, page: _Page, start: int, rows: range, bars: int, feature_rows: int) -> None:
        self._page, self._start, self._rows = page, start, rows
        self._bars, self._feature_rows = bars, feature_rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> MarketState: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[MarketState]: ...
    def __getitem__(self, index: int | slice) -> MarketState | Sequence[MarketState]:
        if isinstance(index, slice):
            rows = self._rows[index]
            return _States(self._page, self._start, rows, self._bars, self._feature_rows)
        end = self._rows[index] + 1
        return self._page.state(self._start, end, self._bars, self._feature_rows)


def _first_run(since: NDArray[np.int64]) -> int:
    restarts = np.flatnonzero(since[1:] == 1)
    return int(restarts[0]) + 1 if len(restarts) else len(since)
