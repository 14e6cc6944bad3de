"""The time on a decision: the market's own in replay and demo, the wall's when live."""

from __future__ import annotations

from dataclasses import dataclass

from domain.ports import Clock


@dataclass(slots=True)
class MarketClock:
    """Shows the last instant the market reached, or the wall's time if that is given."""

    at: int = 0  # ms
    wall: Clock | None = None

    def now(self) -> int:
        """Return the time in ms; never runs backwards."""
        return self.at if self.wall is None else max(self.at, self.wall.now())

    def wall_now(self) -> int | None:
        """Return the wall's time in ms, or None where the market is its own clock."""
        return None if self.wall is None else self.wall.now()

    def reach(self, at: int) -> None:
        """Move on to ``at`` (ms)."""
        self.at = max(self.at, at)
