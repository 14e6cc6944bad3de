"""How much one caller may ask: token buckets, a microsecond each, on a clock that is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from domain.errors import ConclaveError

Kind = Literal["read", "signal", "write"]
BURST_SECONDS = 2.0  # what a bucket holds, in seconds of its rate
MOST_CALLERS = 10_000  # remembered at a time


class RateLimited(ConclaveError):
    """Too many requests from one caller."""

    code, exit_code = "rate_limited", 4

    def __init__(self, kind: str, per_second: float, wait: float) -> None:
        self.retry_after = max(1, math.ceil(wait))
        super().__init__(
            f"{kind} requests", f"are limited to {per_second:g} a second for one caller",
            hint=f"Wait {self.retry_after} s; serving.rate_{kind}s sets the limit.",
        )  # fmt: skip


@dataclass(slots=True)
class Limiter:
    """A bucket for every kind of request and caller.

    Attributes
    ----------
    rates : requests a second; 0 is no limit.
    clock : monotonic seconds.
    """

    rates: Mapping[Kind, float]
    clock: Callable[[], float]
    _buckets: dict[tuple[Kind, str], tuple[float, float]] = field(default_factory=dict)

    def take(self, kind: Kind, who: str) -> None:
        """Take one request out of a bucket.

        Raises
        ------
        RateLimited : if it is empty; says how long until there is one again.
        """
        rate = self.rates[kind]
        if rate <= 0:
            return
        now, most = self.clock(), max(1.0, rate * BURST_SECONDS)
        level, at = self._buckets.pop((kind, who), (most, now))
        level = min(most, level + (now - at) * rate)
        if len(self._buckets) >= MOST_CALLERS:
            self._buckets.pop(next(iter(self._buckets)))  # who asked longest ago
        enough = level >= 1.0
        self._buckets[kind, who] = (level - 1.0 if enough else level, now)
        if not enough:
            raise RateLimited(kind, rate, (1.0 - level) / rate)
