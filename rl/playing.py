"""A policy over every close of a course, many stretches at a time: what validation compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rl.batch import BatchedTradingEnv
from rl.course import Course
from rl.env import Style
from rl.policy import Flags, Rows

Chooser = Callable[[Rows, Flags], NDArray[np.int64]]
"""(n, columns), (n, 13) → (n, 3)."""

_STRETCH = 2_016  # bars, a week of 5-minute bars


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it.

    Attributes
    ----------
    gains : bps of the stake, of each stretch (k,). ``bars`` : of each (k,).
    kinds : how often each kind was chosen, (5,).
    """

    gains: NDArray[np.float64]
    bars: NDArray[np.int64]
    kinds: NDArray[np.int64]

    @property
    def per_bar(self) -> float:
        """Mean gain of a bar, bps of the stake."""
        return float(self.gains.sum() / self.bars.sum())


def stretches(course: Course, length: int = _STRETCH) -> tuple[NDArray[np.int64], ...]:
    """Return first and last row of consecutive stretches that cover the runs, (k,) each."""
    pairs = [
        (start, min(start + length, last - 1))
        for first, last in course.runs.tolist()
        for start in range(first, last - 1, length)
    ]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])


def play_all(course: Course, chooser: Chooser, style: Style, length: int = _STRETCH) -> Played:
    """Play every stretch of a course once, each from a flat account."""
    starts, lasts = stretches(course, length)
    env = BatchedTradingEnv(course, len(starts), style, 0, starts, lasts)
    gains, kinds = np.full(len(starts), np.nan), np.zeros(5, dtype=np.int64)
    seen, open_ = env.reset(), np.ones(len(starts), dtype=bool)
    while open_.any():
        chosen = chooser(seen, env.action_masks())
        kinds += np.bincount(chosen[open_, 0], minlength=5)
        seen, _, ends, infos = env.step(chosen)
        for i in np.flatnonzero(ends & open_).tolist():
            gains[i] = infos[i]["episode"]["gained"]
        open_ &= ~ends
    return Played(gains, lasts - starts, kinds)


def allow_all(course: Course) -> Chooser:
    """Return the chooser that does what the strategy wants, whole: no gate."""
    del course

    def choose(seen: Rows, masks: Flags) -> NDArray[np.int64]:
        intent = np.sign(seen[:, 4]).astype(np.int64)  # the first column after the account's
        wanted = np.where(intent > 0, 1, np.where(intent < 0, 2, 0))
        wanted = np.where(masks[np.arange(len(seen)), wanted], wanted, 0)
        return np.stack((wanted, np.full(len(seen), 3), np.zeros(len(seen), np.int64)), axis=1)

    return choose


def skip_all(seen: Rows, masks: Flags) -> NDArray[np.int64]:
    """Do nothing."""
    del masks
    return np.zeros((len(seen), 3), dtype=np.int64)
