"""What Chronos sees of some states: one window of 201 closes per timeframe, each asked once.

A window ends with the last bar of its timeframe that had closed. Its forecast is brought onto the
horizon of the decision: median in proportion to time, spread to its root, from the steps around.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.chronos_network import ChronosNetwork
from data.resample import resample
from domain.market import BarFrame
from domain.times import timeframe_ms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

POINTS = 200  # returns a window holds, of one close more
STEPS = (1, 3, 5, 10, 15)
AHEAD = max(STEPS)
TIMEFRAMES = ("1m", "3m", "5m", "15m", "30m", "1h")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One timeframe's forecasts for m states.

    Attributes
    ----------
    states : (m,) positions among all asked about; the others have no whole window.
    quantiles : (m, 15, 9) of the cumulative log return after each of the timeframe's own bars.
    elapsed : (m,) time since the window's last close, in its own bars, [0, 1).
    ahead : the decision's horizon in the timeframe's own bars.
    volatility : (m,) realised over the last 20 returns, relative to that over all 200.
    """

    timeframe: str
    states: Ints
    quantiles: Floats
    elapsed: Floats
    ahead: float
    volatility: Floats

    def at_horizon(self) -> Floats:
        """Return quantiles of the return over the decision's horizon, (m, 9)."""
        until = self.elapsed + self.ahead
        medians, spreads = self._between(np.minimum(until, AHEAD))
        share = (self.ahead / until)[:, None]
        beyond = np.maximum(until / AHEAD, 1.0)[:, None]
        return medians * share * beyond + spreads * np.sqrt(share * beyond)

    def _between(self, steps: Floats) -> tuple[Floats, Floats]:
        """Median (m, 1) and quantiles about it (m, 9) after fractional steps (m,) ≤ 15."""
        row = np.arange(len(steps))
        upper = np.clip(np.ceil(steps).astype(np.int64), 1, AHEAD)
        lower = upper - 1
        weight = (steps - lower)[:, None]
        zero = np.zeros((len(steps), 1, self.quantiles.shape[2]))
        path = np.concatenate((zero, self.quantiles), axis=1)
        middle = path.shape[2] // 2
        a, b = path[row, lower], path[row, upper]
        medians = (1 - weight) * a[:, [middle]] + weight * b[:, [middle]]
        a, b = a - a[:, [middle]], b - b[:, [middle]]
        squares = (1 - weight) * a * np.abs(a) + weight * b * np.abs(b)
        return medians, np.sign(squares) * np.sqrt(np.abs(squares))


def needed_bars(timeframe: str, timeframes: Sequence[str]) -> int:
    """Return how many base bars hold a window of the longest timeframe wherever it ends."""
    base = timeframe_ms(timeframe)
    ratio = max(timeframe_ms(name) // base for name in timeframes)
    return (POINTS + 1) * ratio + 2 * (ratio - 1)


def usable(timeframe: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the wanted timeframes that bars of ``timeframe`` can be joined to."""
    base = timeframe_ms(timeframe)
    return tuple(name for name in wanted if timeframe_ms(name) % base == 0)


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """States that share their bars.

    Attributes
    ----------
    bars : contiguous base bars.
    rows : (n,) the states' last bars, rising. ``lengths`` : (n,) bars that each state sees.
    """

    bars: BarFrame
    rows: Ints
    lengths: Ints


def views_of(
    stretches: Sequence[Stretch], network: ChronosNetwork, timeframes: Sequence[str],
    horizon_bars: int,
) -> list[dict[str, View]]:  # fmt: skip
    """Ask about every timeframe of every stretch in one go.

    Returns
    -------
    Per stretch timeframe → view; timeframes without a whole window are missing.
    """
    questions = [
        _Question(k, *found)
        for k, stretch in enumerate(stretches)
        for name in timeframes
        if (found := _plan(stretch, name)) is not None
    ]
    out: list[dict[str, View]] = [{} for _ in stretches]
    if not questions:
        return out
    windows = [question.windows() for question in questions]
    said = network.cumulative(np.concatenate(windows), AHEAD)
    at = 0
    for question, closes in zip(questions, windows, strict=True):
        bars, which = question.bars, question.which
        stretch = stretches[question.stretch]
        base = stretch.bars.step_ms
        closed = stretch.bars.ts[stretch.rows[question.states]] + base
        since = closed - bars.ts[question.ends][which] - bars.step_ms
        out[question.stretch][bars.timeframe] = View(
            bars.timeframe, question.states, said[at : at + len(closes)][which],
            since / bars.step_ms, horizon_bars * base / bars.step_ms, _volatility(closes)[which],
        )  # fmt: skip
        at += len(closes)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """One timeframe of one stretch: states with a window, the rows these end in, whose is which."""

    stretch: int
    bars: BarFrame
    states: Ints
    ends: Ints
    which: Ints

    def windows(self) -> Floats:
        return np.asarray(self.bars.close[self.ends[:, None] + np.arange(-POINTS, 1)])


def _plan(stretch: Stretch, timeframe: str) -> tuple[BarFrame, Ints, Ints, Ints] | None:
    bars = resample(stretch.bars, timeframe)
    if len(bars) <= POINTS:
        return None
    closed = stretch.bars.ts[stretch.rows] + stretch.bars.step_ms
    begun = closed - stretch.lengths * stretch.bars.step_ms
    ends = np.searchsorted(bars.ts + bars.step_ms, closed, side="right") - 1
    first = ends - POINTS
    states = np.flatnonzero((first >= 0) & (bars.ts[np.maximum(first, 0)] >= begun))
    if not len(states):
        return None
    rows, which = np.unique(ends[states], return_inverse=True)
    return bars, states, rows, which


def _volatility(closes: Floats) -> Floats:
    squares = np.diff(np.log(closes)) ** 2
    recent = np.sqrt(squares[:, -20:].mean(axis=1))
    return np.asarray(recent / np.maximum(np.sqrt(squares.mean(axis=1)), 1e-12))


def by_state(views: Mapping[str, View], n: int) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
    """Return per timeframe the quantiles at the horizon, (n, 9), and which rows have some."""
    out = {}
    for name, view in views.items():
        table = np.full((n, view.quantiles.shape[2]), np.nan)
        table[view.states] = view.at_horizon()
        known = np.zeros(n, np.bool_)
        known[view.states] = True
        out[name] = table, known
    return out
