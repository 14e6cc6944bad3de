"""Clocks of markets that are made: a run's own exchange, or one that tells how fast it goes."""

from __future__ import annotations

from data.sources.market_time import MarketTime
from serving.plan import VenueRun
from serving.system import SystemClock
from sim.venue.market import VenueClock


def venue_clock(venue: VenueRun, speed: float | None) -> VenueClock:
    """Return the clock of an exchange whose market goes ``speed`` times as fast as the wall's."""
    return VenueClock(venue.start_ms, SystemClock().now, speed or 1.0, venue.began_ms)


def told_clock(told: MarketTime) -> VenueClock:
    """Return the clock of a market as its exchange told of it, at ×1 if it did not say."""
    return VenueClock(told.at, SystemClock().now, told.speed or 1.0, told.wall)
