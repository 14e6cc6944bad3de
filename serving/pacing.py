"""The rhythm of a market: when what is stored or generated may be let go, and what happens live."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from domain.market import Instant
from domain.ports import LiveSource, MarketSource


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


async def instants(
    source: MarketSource | LiveSource, after_ms: Mapping[str, int], pacer: Pacer,
    leave: asyncio.Event,
) -> AsyncGenerator[Instant]:  # fmt: skip
    """Iterate over what closes together until the source ends or somebody asks to leave.

    Parameters
    ----------
    pacer : holds back what is stored or generated; an exchange has a rhythm of its own.
    """
    if isinstance(source, LiveSource):
        found = source.instants(after_ms)
        told = _until_left(found, leave)
        async with contextlib.aclosing(found), contextlib.aclosing(told):
            async for instant in told:
                yield instant
        return
    for _, bars in groupby(source.stream(after_ms), key=lambda bar: bar.close_ms):
        instant = Instant(tuple(bars))
        if not await pacer.until(instant.bars[0].close_ms, leave):
            return
        yield instant


async def _until_left(
    found: AsyncGenerator[Instant], leave: asyncio.Event
) -> AsyncGenerator[Instant]:
    leaving = asyncio.ensure_future(leave.wait())
    try:
        while True:
            coming = asyncio.ensure_future(anext(found))
            await asyncio.wait({coming, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await coming
                return
            yield coming.result()
    finally:
        leaving.cancel()
