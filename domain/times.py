"""Time: integer milliseconds since the epoch (UTC) inside, ISO-8601 ``Z`` outside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from domain.errors import UsageError

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
LAST_MS = 253_402_300_799_999  # the end of the year 9999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(r"([0-9]{8}(T[0-9]{4,6}Z?)?)?")
_UNITS = {"m": MINUTE_MS, "h": 60 * MINUTE_MS, "d": DAY_MS}


@lru_cache(maxsize=64)
def timeframe_ms(timeframe: str) -> int:
    """Return the length of a bar in milliseconds: ``"5m"`` → 300 000.

    Raises
    ------
    UsageError : if the text is not ``<n>m``, ``<n>h`` or ``<n>d``.
    """
    number, unit = timeframe[:-1], timeframe[-1:]
    if unit not in _UNITS or not number.isdecimal() or int(number) == 0:
        raise UsageError(
            "timeframe", "must be a number followed by m, h or d", timeframe, "Try 5m, 15m or 1h."
        )
    return int(number) * _UNITS[unit]


def iso(at_ms: int) -> str:
    """Write a UTC instant (ms) as ISO-8601 with ``Z``; milliseconds only where there are some."""
    text = (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(
        timespec="milliseconds" if at_ms % 1000 else "seconds"
    )
    return text.replace("+00:00", "Z")


def parse_iso(text: str, name: str = "date") -> int:
    """Read ISO-8601 or ``YYYYMMDD`` as UTC milliseconds; a text without zone is UTC.

    Parameters
    ----------
    name : of what is read, for the error.

    Raises
    ------
    UsageError : if the text is no date, or one before 1970.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            name, "must be ISO-8601", text, "Try 2025-01-31 or 2025-01-31T12:00:00Z."
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    at = round((moment - _EPOCH) / timedelta(milliseconds=1))
    if not 0 <= at <= LAST_MS:
        raise UsageError(name, "must lie between the years 1970 and 9999", text)
    return at


def parse_timerange(text: str) -> tuple[int | None, int | None]:
    """Read ``A-B``, ``A-`` or ``-B`` (dates as ``YYYYMMDD``) as a half-open range [A, B) in ms.

    Raises
    ------
    UsageError : if it is not a range of dates or A ≥ B.
    """
    left, dash, right = text.partition("-")
    if not dash or not (left or right) or not all(_DATE.fullmatch(side) for side in (left, right)):
        raise UsageError(
            "timerange", "must be A-B, A- or -B with dates as YYYYMMDD", text,
            "Try 20250101-20250701.",
        )  # fmt: skip
    start = parse_iso(left) if left else None
    end = parse_iso(right) if right else None
    if start is not None and end is not None and start >= end:
        raise UsageError("timerange", "its start must lie before its end", text)
    return start, end
