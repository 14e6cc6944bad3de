"""Columns from higher timeframes: closed bars only, carried forward to the base rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.features.names import HIGHER_COLUMNS
from data.features.rolling import Ewma, observed_mean
from domain.times import timeframe_ms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LAMBDA = 0.94
_SPAN = 12
_LONG = 4  # bars of the longer return


class HigherBars:
    """One higher timeframe within one gap-free run of base bars.

    A higher bar counts once all its base bars have been seen; the one in which the run began
    never does. Its volatility is the root of the EWMA (λ = .94) of its own squared returns.
    """

    __slots__ = ("_close", "_ema", "_names", "_ratio", "_row", "_rsi", "_seen", "_tail", "_var")

    def __init__(self, timeframe: str, step: int) -> None:
        self._ratio = timeframe_ms(timeframe) // step
        self._names = tuple(f"{timeframe}_{column}" for column in HIGHER_COLUMNS)
        self._seen = 0
        self._tail = np.zeros(_LONG)  # the last log closes
        self._close = 0.0
        self._row = np.full(len(HIGHER_COLUMNS), np.nan)
        self._var = Ewma(1.0 - _LAMBDA)
        self._rsi = Ewma(1.0 / 14.0, rows=2)
        self._ema = Ewma(2.0 / (_SPAN + 1.0))

    def advance(
        self, numbers: Ints, age: Ints, close: Floats, log_close: Floats, s: Floats, floor: float
    ) -> dict[str, Floats]:
        """Take the next base bars, each array (m,), and return this timeframe's columns, (m,)."""
        ends = np.flatnonzero(((numbers + 1) % self._ratio == 0) & (age >= self._ratio))
        table = self._row[None, :]
        if len(ends):
            table = np.concatenate((table, self._closed(close[ends], log_close[ends], floor)))
            self._row = table[-1]
        rows = table[np.searchsorted(ends, np.arange(len(age)), side="right")]
        columns = {name: rows[:, j] for j, name in enumerate(self._names)}
        relative = columns[self._names[-1]] / (s * np.sqrt(self._ratio))
        columns[self._names[-1]] = np.log(relative)
        return columns

    def _closed(self, close: Floats, log_close: Floats, floor: float) -> Floats:
        if not self._seen:
            self._close = float(close[0])
            self._tail[:] = log_close[0]
            self._ema.seed(log_close[:1])
        seen = self._seen + np.arange(1, len(close) + 1)
        logs = np.concatenate((self._tail, log_close))
        change = np.diff(close, prepend=self._close)
        returns = log_close - logs[_LONG - 1 : -1]
        variance = self._var.run((returns * returns)[None, :])[0]
        vol = np.maximum(np.sqrt(observed_mean(variance, _LAMBDA, seen - 1)), floor)
        long = np.clip(seen - 1, 1, _LONG)
        long_return = (log_close - logs[np.arange(len(close)) + _LONG - long]) / np.sqrt(long)
        gap = log_close - self._ema.run(log_close[None, :])[0]
        columns = (
            balance(self._rsi.run(np.stack((np.maximum(change, 0.0), np.maximum(-change, 0.0))))),
            returns / vol,
            long_return / vol,
            gap / (vol * np.sqrt(_SPAN)),
            vol,
        )
        self._seen += len(close)
        self._tail = logs[-_LONG:].copy()
        self._close = float(close[-1])
        return np.stack(columns, axis=1)


def balance(up_down: Floats) -> Floats:
    """Return (up − down) / (up + down), the RSI on [−1, 1], (n,); 0 where nothing moved."""
    total = up_down[0] + up_down[1]
    return np.asarray((up_down[0] - up_down[1]) / np.where(total > 0.0, total, 1.0))
