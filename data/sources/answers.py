"""What ccxt makes of an exchange's answers, read strictly: a bar that cannot be is none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.sources.messages import plain
from domain.errors import DataRefused
from domain.market import BarFrame
from domain.times import LAST_MS, timeframe_ms

_COLUMNS = 6  # time, open, high, low, close, volume
_HOURS = re.compile(r"([1-9]\d?)h")


def bars_of(rows: object, symbol: str, timeframe: str) -> BarFrame:
    """Return bars, in order, out of ccxt's rows of (ms, open, high, low, close, volume).

    Raises
    ------
    DataRefused : if a row is none, opens elsewhere than on a multiple of the timeframe or not after
        the one before, or is no bar: 0 < low ≤ open, close ≤ high, volume ≥ 0, all finite.
    """
    what = f"bars of {symbol} {timeframe}"
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise DataRefused(what, "must be a list", rows)
    if not rows:
        return BarFrame.join(symbol, timeframe, [])
    for row in rows:
        if not isinstance(row, Sequence) or len(row) < _COLUMNS:
            raise DataRefused(what, f"must be rows of {_COLUMNS} numbers", row)
    table = np.array([[plain(value) for value in row[:_COLUMNS]] for row in rows])
    ts, start, high, low, close, volume = table.T
    with np.errstate(invalid="ignore"):
        whole = (
            (ts > 0) & (ts < LAST_MS) & (ts % timeframe_ms(timeframe) == 0)
            & (np.diff(ts, prepend=0) > 0) & (low > 0) & (low <= np.minimum(start, close))
            & (high >= np.maximum(start, close)) & (volume >= 0)
        )  # fmt: skip
    if not np.all(whole):
        wrong = int(np.flatnonzero(~whole)[0])
        raise DataRefused(what, "must be bars in order: 0 < low ≤ open, close ≤ high", rows[wrong])
    columns = np.ascontiguousarray(table.T[1:])
    return BarFrame(symbol, timeframe, ts.astype(np.int64), *columns)


def settled_of(rows: object, symbol: str) -> list[tuple[int, float]]:
    """Return funding settlements, (stamp in ms, fraction), in order, out of ccxt's rows.

    Raises
    ------
    DataRefused : if a row is none, or its rate no finite fraction of the notional.
    """
    what = f"funding of {symbol}"
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise DataRefused(what, "must be a list", rows)
    found = []
    for row in rows:
        if not isinstance(row, Mapping):
            raise DataRefused(what, "must be rows with a time and a rate", row)
        at, rate = time_of(row.get("timestamp")), plain(row.get("fundingRate"))
        if not -1.0 < rate < 1.0:
            raise DataRefused(what, "must be a fraction of the notional", row.get("fundingRate"))
        found.append((at, rate))
    return sorted(found)


def time_of(value: object) -> int:
    """Return a time, UTC ms.

    Raises
    ------
    DataRefused : if it is none.
    """
    found: Any = value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < found < LAST_MS:
        raise DataRefused("the exchange's time", "must be given in ms", value)
    return int(found)


def hours_of(told: object) -> dict[str, int | None]:
    """Return the hours between two funding stamps by perpetual, from ccxt's funding intervals.

    None: it tells none, or such as no day is made of.

    Raises
    ------
    DataRefused : if they are no table by symbol.
    """
    if not isinstance(told, Mapping):
        raise DataRefused("funding intervals", "must be a table by symbol", type(told).__name__)
    found: dict[str, int | None] = {}
    for symbol, row in told.items():
        text = row.get("interval") if isinstance(row, Mapping) else None
        match = _HOURS.fullmatch(text) if isinstance(text, str) else None
        hours = int(match[1]) if match else 0
        found[str(symbol)] = hours if hours and 24 % hours == 0 else None
    return found
