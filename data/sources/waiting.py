"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random
from collections.abc import Mapping

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
