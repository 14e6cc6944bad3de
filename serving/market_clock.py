"""The time a decision is stamped with: the market's own in replay and demo, the wall's when live."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class MarketClock:
    """A clock that shows the last instant the market reached. Never runs backwards."""

    at: int = 0  # ms

    def now(self) -> int:
        """Return the market's time in ms."""
        return self.at

    def reach(self, at: int) -> None:
        """Move on to ``at`` (ms)."""
        self.at = max(self.at, at)
