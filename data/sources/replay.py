"""Stored bars as a feed: what happened, in the order in which it became known."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from domain.errors import UsageError
from domain.market import Bar, BarFrame


class ReplaySource:
    """A :class:`~domain.ports.MarketSource` over one frame per symbol.

    Bars come by their close, symbols in alphabetical order where they close together: the order
    depends on the bars alone. How fast they are consumed is the caller's business.

    Parameters
    ----------
    frames : cleansed bars, at most one frame per symbol.

    Raises
    ------
    UsageError : if a symbol comes twice, or a frame is not in order.
    """

    label = "replay"

    def __init__(self, frames: Sequence[BarFrame]) -> None:
        self._frames = {frame.symbol: frame for frame in frames}
        if len(self._frames) != len(frames):
            raise UsageError(
                "replay", "takes one file per symbol", [frame.symbol for frame in frames]
            )
        for frame in frames:
            if np.any(np.diff(frame.ts) <= 0):
                raise UsageError("replay", f"the bars of {frame.symbol} must be in order")

    def __len__(self) -> int:
        return sum(len(frame) for frame in self._frames.values())

    def stream(self, after_ms: Mapping[str, int]) -> Iterator[Bar]:
        """Iterate over the bars that open after ``after_ms[symbol]``, all where it is absent."""
        feeds = []
        for symbol in sorted(self._frames):
            frame = self._frames[symbol]
            known = after_ms.get(symbol)
            feeds.append(frame.between(None if known is None else known + 1, None).bars())
        return heapq.merge(*feeds, key=lambda bar: (bar.close_ms, bar.symbol))
