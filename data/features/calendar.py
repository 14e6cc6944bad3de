"""Time of day and week, here and in New York; sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from domain.times import DAY_MS, HOUR_MS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NEW_YORK = ZoneInfo("America/New_York")
_SESSIONS = {"asia": (0, 8), "europe": (7, 16), "us": (13, 22)}  # UTC hours, [from, to)


def calendar_columns(ts: Ints, step: int) -> dict[str, Floats]:
    """Return the columns that depend on the bar's open alone.

    ``tod_*`` is sine and cosine of the time of day (harmonics 1–3); ``slot_*`` counts bars within
    the hour, the UTC day and the New York day; ``weekday`` is 0 for Monday; flags are 0 or 1.
    """
    in_day = ts % DAY_MS
    slot = in_day // step
    weekday = (ts // DAY_MS + 3) % 7  # 1970-01-01 was a Thursday
    columns = dict(zip(_WAVES, _waves(step)[:, slot], strict=True))
    columns["slot_hour"] = (ts % HOUR_MS // step).astype(np.float64)
    columns["slot_utc"] = slot.astype(np.float64)
    columns["slot_ny"] = ((ts + new_york_offset(ts)) % DAY_MS // step).astype(np.float64)
    columns["weekday"] = weekday.astype(np.float64)
    columns["weekend"] = (weekday >= 5).astype(np.float64)
    hour = in_day // HOUR_MS
    for name, (start, stop) in _SESSIONS.items():
        columns[f"session_{name}"] = ((hour >= start) & (hour < stop)).astype(np.float64)
    return columns


_WAVES = tuple(f"tod_{wave}_{k}" for k in (1, 2, 3) for wave in ("sin", "cos"))


@lru_cache(maxsize=16)
def _waves(step: int) -> Floats:
    angle = 2.0 * np.pi * np.arange(-(-DAY_MS // step)) * step / DAY_MS
    return np.stack([wave(k * angle) for k in (1, 2, 3) for wave in (np.sin, np.cos)])


def new_york_offset(ts: Ints) -> Ints:
    """Return New York's distance from UTC at each instant (rising), ms; daylight saving counts."""
    if not len(ts):
        return np.zeros(0, dtype=np.int64)
    years = range(_year(int(ts[0])), _year(int(ts[-1])) + 1)
    switches = [pair for year in years for pair in _offsets(year)]
    starts = np.array([start for start, _ in switches], dtype=np.int64)
    offsets = np.array([offset for _, offset in switches], dtype=np.int64)
    return np.asarray(offsets[np.searchsorted(starts, ts, side="right") - 1])


def _year(at_ms: int) -> int:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).year


@lru_cache(maxsize=256)
def _offsets(year: int) -> tuple[tuple[int, int], ...]:
    """List (from when, offset) in ms for a UTC year; the zone changes on whole hours."""
    start = datetime(year, 1, 1, tzinfo=UTC)
    hours = int((datetime(year + 1, 1, 1, tzinfo=UTC) - start) / timedelta(hours=1))
    found: list[tuple[int, int]] = []
    for hour in range(hours):
        moment = start + timedelta(hours=hour)
        shift = moment.astimezone(_NEW_YORK).utcoffset()
        offset = int((shift or timedelta()) / timedelta(milliseconds=1))
        if not found or found[-1][1] != offset:
            found.append((int(moment.timestamp()) * 1000, offset))
    return tuple(found)
