"""The time of a run's own exchange: the same in the exchange and in whoever trades there."""

from __future__ import annotations

from serving.plan import VenueRun
from serving.system import SystemClock
from sim.venue.market import VenueClock


def venue_clock(venue: VenueRun, speed: float | None) -> VenueClock:
    """Return the clock of an exchange whose market goes ``speed`` times as fast as the wall's."""
    return VenueClock(venue.start_ms, SystemClock().now, speed or 1.0, venue.began_ms)
