"""Bars out of a stream's messages: a bar, nothing of interest, or garbage; never a wrong bar."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from data.sources.messages import instant, number, opened, shown
from domain.errors import DataRefused
from domain.market import Bar
from domain.times import timeframe_ms

_LONGEST = 65_536  # characters of a message


def closed_bar(
    text: str | bytes, symbols: Mapping[str, str], timeframes: Collection[str]
) -> Bar | None:  # fmt: skip
    """Read one message of Binance's kline streams.

    Parameters
    ----------
    text : as it came, single or combined.
    symbols : the exchange's name → unified symbol.
    timeframes : that are listened to.

    Returns
    -------
    A bar that has just closed; None for one that is still growing, for other messages, and for
    symbols and timeframes that nobody asked about.

    Raises
    ------
    DataRefused : if it is no JSON object, or a bar that cannot be.
    """
    _, data = opened(text, _LONGEST)
    if data.get("e") != "kline":
        return None
    told = data.get("k")
    if not isinstance(told, dict):
        raise DataRefused("kline", "must hold a bar", shown(text))
    symbol, timeframe = symbols.get(str(told.get("s"))), str(told.get("i"))
    if symbol is None or timeframe not in timeframes:
        return None
    closed = told.get("x")
    if not isinstance(closed, bool):
        raise DataRefused("kline", "must say whether it has closed", closed)
    return _bar(told, symbol, timeframe) if closed else None


def _bar(told: Mapping[str, Any], symbol: str, timeframe: str) -> Bar:
    what, step = f"kline of {symbol}", timeframe_ms(timeframe)
    first = instant(told, "t", what)
    if first % step:
        raise DataRefused(what, f"must open on a multiple of {timeframe}", first)
    start, high, low, end, volume = (number(told, name, what) for name in "ohlcv")
    whole = 0.0 < low <= min(start, end) and max(start, end) <= high and volume >= 0.0
    if not whole:
        values = (start, high, low, end, volume)
        raise DataRefused(what, "must be a bar: 0 < low ≤ open, close ≤ high", values)
    return Bar(symbol, timeframe, first, start, high, low, end, volume)
