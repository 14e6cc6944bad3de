"""What all messages of an exchange's streams share: JSON, numbers, times; read strictly."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from domain.errors import DataRefused
from domain.times import LAST_MS

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
_LAST_ID = 1 << 63  # ids are below


def opened(text: str | bytes, longest: int) -> tuple[str, Mapping[str, Any]]:
    """Return the stream's name (empty for a single stream) and the body of a message.

    Parameters
    ----------
    text : as it came, single or combined. ``longest`` : characters.

    Raises
    ------
    DataRefused : if it is too long, or no JSON object.
    """
    if len(text) > longest:
        raise DataRefused("message", f"must not be longer than {longest}", len(text))
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataRefused("message", "must be JSON", shown(text)) from error
    if not isinstance(body, dict):
        raise DataRefused("message", "must be a JSON object", shown(text))
    data = body.get("data", body)
    if not isinstance(data, dict):
        raise DataRefused("message", "must hold an object", shown(text))
    return str(body.get("stream", "")), data


def number(told: Mapping[str, Any], name: str, what: str) -> float:
    """Return a finite number, given as one or as text.

    Raises
    ------
    DataRefused : if it is none.
    """
    value = told.get(name)
    found = plain(value)
    if math.isnan(found):
        raise DataRefused(what, f"must give {name} as a number", value)
    return found


def plain(value: object) -> float:
    """Return a finite number, given as one or as text; NaN for all else."""
    try:
        if isinstance(value, str):
            found = float(value) if _NUMBER.fullmatch(value) else math.nan
        else:
            usable = isinstance(value, int | float) and not isinstance(value, bool)
            found = float(value) if usable else math.nan  # type: ignore[arg-type]
    except OverflowError:
        return math.nan
    return found if math.isfinite(found) else math.nan


def instant(told: Mapping[str, Any], name: str, what: str) -> int:
    """Return a time, UTC ms.

    Raises
    ------
    DataRefused : if it is none.
    """
    return _whole(told, name, what, "a time in ms", 1, LAST_MS)


def identity(told: Mapping[str, Any], name: str, what: str) -> int:
    """Return the number of an update or a trade, ≥ 0.

    Raises
    ------
    DataRefused : if it is none.
    """
    return _whole(told, name, what, "a whole number", 0, _LAST_ID)


def shown(text: str | bytes) -> str:
    """Return the beginning of a message, for errors."""
    return repr(text[:80])


def _whole(told: Mapping[str, Any], name: str, what: str, kind: str, low: int, end: int) -> int:
    value = told.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value < end:
        raise DataRefused(what, f"must give {name} as {kind}", value)
    return value
