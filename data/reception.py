"""How much of what an exchange says arrives, and how late: exact, as its messages are numbered."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_PARTS = 30  # of the window, each counted by itself
_FAR = 10_000  # numbers that fall by more are those of an exchange that began anew
Stream = tuple[str, str]
"""(symbol, what is numbered)."""


@dataclass(slots=True)
class _Part:
    number: int
    told: dict[Stream, int] = field(default_factory=dict)
    missed: dict[Stream, int] = field(default_factory=dict)
    stamps: int = 0
    near: int = 0
    farthest: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """What came in the last whole window.

    Attributes
    ----------
    heard_ms : how long anybody has listened, at most the window.
    share : of the numbers given out, those that came; of the worst stream, [0, 1].
    worst : that stream; None while nothing came.
    stamps : messages. ``near`` : share of them whose stamp lies near the exchange's time, [0, 1].
    farthest_ms : largest distance of a stamp from it.
    """

    heard_ms: int
    share: float
    worst: Stream | None
    stamps: int
    near: float
    farthest_ms: int


class Reception:
    """Counts numbered messages in a window that moves on.

    What is missing between two messages of a stream is counted when the second comes. A stream that
    must speak and said nothing in the whole window has a share of 0.

    Parameters
    ----------
    window_ms : market time.
    near_ms : how far a stamp may lie from the exchange's time when it comes.
    must : streams that always speak.
    """

    def __init__(self, window_ms: int, near_ms: int, must: frozenset[Stream] = frozenset()) -> None:
        self.window_ms, self._near, self._must = window_ms, near_ms, must
        self._part_ms = max(window_ms // _PARTS, 1)
        self._parts: deque[_Part] = deque(maxlen=_PARTS + 1)
        self._last: dict[Stream, int] = {}
        self._began: int | None = None

    def begin(self, now_ms: int) -> None:
        """Say that from now on everything should come."""
        if self._began is None:
            self._began = now_ms

    def hear(self, stream: Stream, first: int, last: int, at_ms: int, now_ms: int) -> None:
        """Take in a message.

        Parameters
        ----------
        first, last : numbers that it covers; those known already do not count again.
        at_ms : its stamp. ``now_ms`` : the exchange's time when it came.
        """
        part = self._part(now_ms)
        part.stamps += 1
        distance = abs(now_ms - at_ms)
        part.near += distance <= self._near
        part.farthest = max(part.farthest, distance)
        before = self._last.get(stream)
        if before is None or last <= before - _FAR:
            before = first - 1
        if last <= before:
            return
        self._last[stream] = last
        part.missed[stream] = part.missed.get(stream, 0) + max(first - before - 1, 0)
        part.told[stream] = part.told.get(stream, 0) + last - max(first - 1, before)

    def heard(self, now_ms: int) -> Heard:
        """Return what came in the window that ends now."""
        while self._parts and self._parts[0].number <= (now_ms - self.window_ms) // self._part_ms:
            self._parts.popleft()
        shares = self._shares()
        worst = min(shares, key=lambda stream: (shares[stream], stream), default=None)
        stamps = sum(part.stamps for part in self._parts)
        since = 0 if self._began is None else min(now_ms - self._began, self.window_ms)
        return Heard(
            max(since, 0), 0.0 if worst is None else shares[worst], worst, stamps,
            sum(part.near for part in self._parts) / stamps if stamps else 0.0,
            max((part.farthest for part in self._parts), default=0),
        )  # fmt: skip

    def _shares(self) -> dict[Stream, float]:
        told, missed = dict.fromkeys(self._must, 0), dict.fromkeys(self._must, 0)
        for part in self._parts:
            for stream, n in part.told.items():
                told[stream] = told.get(stream, 0) + n
                missed[stream] = missed.get(stream, 0) + part.missed[stream]
        return {
            stream: n / (n + missed[stream]) if n + missed[stream] else 0.0
            for stream, n in told.items()
        }

    def _part(self, now_ms: int) -> _Part:
        number = now_ms // self._part_ms
        if not self._parts or self._parts[-1].number < number:
            self._parts.append(_Part(number))
        return self._parts[-1]
