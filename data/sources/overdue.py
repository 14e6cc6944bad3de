"""Closes that are over by the clock and that nobody has told of: which is asked for, and when.

What a stream said while nobody listened, or what was lost on the way, would else be noticed when
the next bar closes: a whole bar later.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from data.sources.line import Patience
from data.sources.waiting import backoff
from domain.times import timeframe_ms

Series = tuple[str, str]
"""(unified symbol, timeframe)."""


class Overdue:
    """Says of which series a close is overdue.

    A close may come late by half of what others wait for it, so that the answer still comes in
    their time. One that is not there when it is asked for (it is not final yet, the exchange keeps
    it back, trading is halted) is asked for again after 1, 2, 4 … 60 s, or once a bar where bars
    are longer.

    Parameters
    ----------
    now : market time, UTC ms. ``speed`` : market seconds a second, > 0.
    grace_ms : how long others wait for a close, market time.
    patience : the first and the longest wait between two questions.
    """

    def __init__(
        self, now: Callable[[], int], speed: float, grace_ms: int, patience: Patience, seed: int = 0
    ) -> None:
        self._now, self._a_second, self._grace_ms = now, speed * 1e3, grace_ms
        self._patience = patience
        self._rng = random.Random(seed)  # noqa: S311 - spreads questions only
        self._asked: dict[Series, tuple[int, int, float]] = {}  # last known, how often, next time

    def first(self, last: Mapping[Series, int]) -> Series | None:
        """Return the series whose close has been overdue for longest; None if none is.

        Parameters
        ----------
        last : open of the last bar known, ms, by series.
        """
        times = {series: self._time(series, opened) for series, opened in last.items()}
        series = min(times, key=lambda one: (times[one], one), default=None)
        return None if series is None or times[series] > self._now() else series

    def asked(self, series: Series, last_ms: int) -> None:
        """Take note that a series was asked about; ``last_ms`` is the last open known since."""
        step, now = timeframe_ms(series[1]), self._now()
        if now < last_ms + 2 * step:  # nothing is missing
            return
        known, times, _ = self._asked.get(series, (last_ms, 0, 0.0))
        times = times + 1 if known == last_ms else 1
        longest = max(self._patience.longest_wait, step / self._a_second)
        wait = backoff(times, self._patience.first_wait, longest, self._rng)
        self._asked[series] = (last_ms, times, now + wait * self._a_second)

    def _time(self, series: Series, opened: int) -> float:
        """Return from when on a series is to be asked about, market time, ms."""
        known, _, again = self._asked.get(series, (None, 0, 0.0))
        if known == opened:
            return again
        step = timeframe_ms(series[1])
        # where bars close in less than a question takes, the next one tells of the hole
        least_ms = self._patience.first_wait * self._a_second
        return opened + 2 * step + max(min(self._grace_ms, step) / 2, least_ms)
