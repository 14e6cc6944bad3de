"""Market time against wall time: when a bar may be let go."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Pacer:
    """Releases market instants at ``speed`` market seconds per wall second.

    The first instant asked for is released at once; after a delay (a busy machine) the backlog is
    worked off as fast as possible and then the rhythm holds again.
    """

    speed: float | None  # None: never waits
    _origin: tuple[int, float] | None = field(default=None)

    def wall_seconds(self, market_ms: int) -> float:
        """Return how long to wait until ``market_ms`` is due (0 if it is)."""
        if self.speed is None:
            return 0.0
        now = time.monotonic()
        if self._origin is None:
            self._origin = (market_ms, now)
        start_ms, start = self._origin
        return max(0.0, start + (market_ms - start_ms) / 1000.0 / self.speed - now)

    async def until(self, market_ms: int, leave: asyncio.Event) -> bool:
        """Wait for an instant; return False if asked to leave meanwhile."""
        wait = self.wall_seconds(market_ms)
        if wait <= 0:
            await asyncio.sleep(0)  # let control messages and the API in
            return not leave.is_set()
        try:
            await asyncio.wait_for(leave.wait(), wait)
        except TimeoutError:
            return True
        return False
