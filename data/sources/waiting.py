"""Waiting: before something that failed is tried again, and for whoever may say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TypeVar

Said = TypeVar("Said")

_MOST_DOUBLINGS = 16  # beyond, the longest wait holds, and powers would overflow one day
_JITTER = 0.25  # of the wait, at most: so that not all come back at once


def backoff(failures: int, first: float, longest: float, rng: random.Random) -> float:
    """Return the wait after so many failures in a row (≥ 1), s.

    Doubled each time, with jitter, and never longer than ``longest``.
    """
    doubled = first * 2.0 ** min(max(failures - 1, 0), _MOST_DOUBLINGS)
    return min(doubled, longest / (1.0 + _JITTER)) * (1.0 + _JITTER * rng.random())


def retry_after(headers: Mapping[str, object] | None) -> float | None:
    """Return for how many seconds an answer's headers ask to be left alone; None if they do not."""
    found = {str(name).lower(): str(value) for name, value in (headers or {}).items()}
    asked = found.get("retry-after", "")
    return float(asked) if asked.isdecimal() else None


async def ticking(
    said: AsyncGenerator[Said, None], every_s: float
) -> AsyncGenerator[Said | None, None]:
    """Iterate over what is said, and None in between, about every so many seconds.

    Nothing that is said is lost or comes later; who leaves this one may leave ``said`` as well.
    """
    tick_at, coming = time.monotonic() + every_s, None
    try:
        while True:
            if coming is None:
                coming = asyncio.ensure_future(anext(said))
            await asyncio.wait([coming], timeout=max(tick_at - time.monotonic(), 0.0))
            if coming.done():
                done, coming = coming, None
                try:
                    yield done.result()
                except StopAsyncIteration:
                    return
            if time.monotonic() >= tick_at:
                tick_at = time.monotonic() + every_s
                yield None
    finally:
        if coming is not None:  # a generator that is waited for cannot be closed
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await coming
