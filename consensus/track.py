"""Stage 0: the order of the fold, for one symbol, timeframe and horizon.

Rows come in the ledger's order. An opinion waits for its outcome; an opinion that comes after
it is late and never scored. Rounds are folded by the time they were due (with one horizon that
is the order of ``as_of``): the newest ones, ``late_window`` to twice as many, are kept beside the
fold of all older ones, so that a late outcome finds its place and everything after it is folded
again. What was decided meanwhile stays as decided.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from typing import Any

from consensus.rounds import Published, Round, Said
from consensus.scoring import Fold
from consensus.settings import CouncilSettings


class Track:
    """Rounds waiting, rounds that can still move, and the fold of both that and all before."""

    def __init__(self, settings: CouncilSettings, bar_ms: int) -> None:
        self._settings, self._bar_ms = settings, bar_ms
        self._pending: dict[int, Round] = {}
        self._recent: list[Round] = []  # ordered by as_of
        self._base = Fold(settings)
        self._base_through: int | None = None  # newest as_of that left ``_recent``
        self._middle: Fold | None = None  # base and the first ``late_window`` of ``_recent``
        self.head = Fold(settings)

    def copy_of(self, as_of: int) -> int:
        """Return the copy of the no-harm layer that plays the round of ``as_of``."""
        return as_of // self._bar_ms % self._settings.horizon_bars

    def opinion(self, as_of: int, agent: str, said: Said) -> None:
        """Note an admitted opinion; the first one of an agent counts, and none after the end."""
        if waiting := self._waiting(as_of):
            waiting.opinions.setdefault(agent, said)

    def publication(self, as_of: int, published: Published) -> None:
        """Note what the council published; the first one counts, and none after the end."""
        waiting = self._waiting(as_of)
        if waiting and waiting.published is None:
            waiting.published = published

    def outcome(self, as_of: int, log_return: float, drop: float, rise: float) -> None:
        """Resolve a round and fold it where it belongs. A repeat changes nothing."""
        played = self._pending.pop(as_of, None)
        if played is None:
            if self._over(as_of):
                return
            played = self._begin(as_of)  # so that opinions on it are known to be late
        played.log_return, played.drop, played.rise = log_return, drop, rise
        in_order = not self._recent or as_of > self._recent[-1].as_of
        if in_order:
            self._recent.append(played)
            self._fold(played, len(self._recent))
        else:
            insort(self._recent, played, key=lambda one: one.as_of)
            self._refold()
        if len(self._recent) == 2 * self._settings.late_window:
            self._settle()

    def awake(self) -> frozenset[str]:
        """Return the agents with an admitted opinion at the newest instant known."""
        newest = self._pending.get(max(self._pending, default=-1))
        if newest is None and self._recent:
            newest = self._recent[-1]
        return frozenset(newest.opinions if newest else ())

    def snapshot(self) -> dict[str, Any]:
        """Return the state in JSON's types; the fold's head follows from it."""
        return {
            "base": self._base.as_dict(),
            "base_through": self._base_through,
            "recent": [played.as_dict() for played in self._recent],
            "pending": [self._pending[as_of].as_dict() for as_of in sorted(self._pending)],
        }

    @classmethod
    def restored(cls, body: Mapping[str, Any], settings: CouncilSettings, bar_ms: int) -> Track:
        """Read :meth:`snapshot` back, bit for bit."""
        track = cls(settings, bar_ms)
        track._base = Fold.from_dict(body["base"], settings)
        track._base_through = body["base_through"]
        track._recent = [Round.from_dict(item) for item in body["recent"]]
        pending = [Round.from_dict(item) for item in body["pending"]]
        track._pending = {waiting.as_of: waiting for waiting in pending}
        track._refold()
        return track

    def _begin(self, as_of: int) -> Round:
        return Round(as_of, self.copy_of(as_of))

    def _waiting(self, as_of: int) -> Round | None:
        """The round of ``as_of``, begun if need be; None once its time is over."""
        if as_of not in self._pending:
            if self._over(as_of):
                return None
            self._pending[as_of] = self._begin(as_of)
            if len(self._pending) > self._settings.max_pending:
                del self._pending[min(self._pending)]
        return self._pending.get(as_of)

    def _over(self, as_of: int) -> bool:
        if self._base_through is not None and as_of <= self._base_through:
            return True
        if not self._recent or as_of > self._recent[-1].as_of:
            return False
        return any(played.as_of == as_of for played in self._recent)

    def _fold(self, played: Round, number: int) -> None:
        """Fold the ``number``-th of the recent rounds."""
        self.head.add(played)
        if number == self._settings.late_window:
            self._middle = self.head.copy()

    def _settle(self) -> None:
        """Give up the older half of the recent rounds: they can no longer move."""
        assert self._middle is not None
        window = self._settings.late_window
        self._base, self._middle = self._middle, self.head.copy()
        self._base_through = self._recent[window - 1].as_of
        self._recent = self._recent[window:]

    def _refold(self) -> None:
        self.head, self._middle = self._base.copy(), None
        for number, played in enumerate(self._recent, 1):
            self._fold(played, number)
