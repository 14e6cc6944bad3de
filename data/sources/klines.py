"""Bars out of a stream's messages: a bar, nothing of interest, or garbage; never a wrong bar."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from domain.errors import DataRefused
from domain.market import Bar
from domain.times import LAST_MS, timeframe_ms

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
_LONGEST = 65_536  # characters of a message


def closed_bar(text: str | bytes, symbols: Mapping[str, str], timeframe: str) -> Bar | None:
    """Read one message of Binance's kline streams.

    Parameters
    ----------
    text : as it came, single or combined.
    symbols : the exchange's name → unified symbol.

    Returns
    -------
    A bar that has just closed; None for one that is still growing, for other messages, and for
    symbols and timeframes that nobody asked about.

    Raises
    ------
    DataRefused : if it is no JSON object, or a bar that cannot be.
    """
    if len(text) > _LONGEST:
        raise DataRefused("message", f"must not be longer than {_LONGEST}", len(text))
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataRefused("message", "must be JSON", _shown(text)) from error
    if not isinstance(body, dict):
        raise DataRefused("message", "must be a JSON object", _shown(text))
    data = body.get("data", body)
    if not isinstance(data, dict):
        raise DataRefused("message", "must hold an object", _shown(text))
    if data.get("e") != "kline":
        return None
    told = data.get("k")
    if not isinstance(told, dict):
        raise DataRefused("kline", "must hold a bar", _shown(text))
    symbol = symbols.get(str(told.get("s")))
    if symbol is None or told.get("i") != timeframe:
        return None
    closed = told.get("x")
    if not isinstance(closed, bool):
        raise DataRefused("kline", "must say whether it has closed", closed)
    return _bar(told, symbol, timeframe) if closed else None


def _bar(told: Mapping[str, Any], symbol: str, timeframe: str) -> Bar:
    opened, step = told.get("t"), timeframe_ms(timeframe)
    if not isinstance(opened, int) or isinstance(opened, bool) or not 0 < opened < LAST_MS:
        raise DataRefused(f"kline of {symbol}", "must say when it opened", opened)
    if opened % step:
        raise DataRefused(f"kline of {symbol}", f"must open on a multiple of {timeframe}", opened)
    start, high, low, end, volume = (_number(told, name) for name in "ohlcv")
    whole = 0.0 < low <= min(start, end) and max(start, end) <= high and volume >= 0.0
    if not whole:
        values = (start, high, low, end, volume)
        raise DataRefused(
            f"kline of {symbol}", "must be a bar: 0 < low ≤ open, close ≤ high", values
        )
    return Bar(symbol, timeframe, opened, start, high, low, end, volume)


def _number(told: Mapping[str, Any], name: str) -> float:
    value = told.get(name)
    try:
        plain = not isinstance(value, str) or _NUMBER.fullmatch(value)
        number = float(value) if plain and isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, bool):
        raise DataRefused("kline", f"must give {name} as a number", value)
    return number


def _shown(text: str | bytes) -> str:
    return repr(text[:80])
