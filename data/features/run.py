"""The features of one gap-free run of bars, a piece at a time.

Everything a later bar needs of an earlier one is kept here: the states of the recursions and the
last :data:`TAIL` values of the series that windows look back on. A gap starts a new run.

Where a market stands still nothing is divided by zero: volatilities have the floor ``1e-8`` per
bar, window volatilities 1 % of s, volumes ``1e-6``, the s.d. of log volume ``0.01``; a position in
a range of no width is ½, an RSI without moves 0, a volume share without volume 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.features.calendar import calendar_columns
from data.features.higher import HigherBars, balance
from data.features.names import (
    CUMULATIVE,
    EMA_GAPS,
    HAR,
    HAR_RANGE,
    MIN_BARS,
    RANGES,
    RETURN_LAGS,
    VOLATILITIES,
    higher_timeframes,
)
from data.features.rolling import Ewma, medians, observed_mean, share_below, windows
from domain.market import BarFrame
from domain.times import DAY_MS, timeframe_ms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns = dict[str, Floats]

TAIL = 2304  # bars: the longest window, 2016, and a day

_VOL_FLOOR = 1e-8  # log return per bar
_VAR_FLOOR = _VOL_FLOOR**2
_QUIET = 1e-4  # of s²; the log of a window in which nothing moved must not outweigh all else
_VOLUME_FLOOR = 1e-6  # base units
_SPREAD_FLOOR = 0.01  # s.d. of log volume
_LONGEST = 2016
_SEASON_CAP = 25.0
_SEASON_FROM = 48  # bars before a squared return is compared with the mean
_SEASON_DAYS = 7

# The series that windows look back on, as rows of the tail.
LOG_CLOSE, CLOSE, HIGH, LOW, VOLUME, SIGNED, LOG_VOLUME, R2 = range(8)
PK, STEP5, S, RSI, Q, Q_DAYS, R2_S, PK_S = range(8, 16)


class Run:
    """The state of one gap-free run."""

    __slots__ = (
        "_age", "_buf", "_day", "_days", "_emas", "_ewma94", "_higher", "_signal", "_slow",
        "_step", "_tail", "_wilder",
    )  # fmt: skip

    def __init__(self, timeframe: str) -> None:
        self._step = timeframe_ms(timeframe)
        self._day = DAY_MS // self._step
        self._days = min(_SEASON_DAYS, _LONGEST // max(1, self._day)) if self._day >= 6 else 0
        self._age = 0
        self._tail = np.zeros((16, TAIL))
        self._tail[LOG_VOLUME] = np.nan
        self._tail[S] = np.inf
        self._buf = self._tail
        self._slow, self._ewma94 = Ewma(0.02), Ewma(0.06)
        self._emas = {w: Ewma(2.0 / (w + 1.0)) for w in sorted({*EMA_GAPS, 18, 26})}
        self._signal = Ewma(2.0 / 10.0)
        self._wilder = Ewma(1.0 / 14.0, rows=3)
        self._higher = [HigherBars(tf, self._step) for tf in higher_timeframes(timeframe)]

    def advance(self, bars: BarFrame) -> tuple[Columns, Ints]:
        """Take the next bars and return every column, (m,) each, and the bars since the gap."""
        m = len(bars)
        age = np.arange(self._age + 1, self._age + m + 1)
        numbers = bars.ts // self._step
        self._load(bars, age)
        columns = calendar_columns(bars.ts, self._step)
        columns |= self._volatility(age)
        s = columns["s"]
        columns |= self._returns(age, s)
        columns |= self._trend(bars, s)
        columns |= self._windows(age, s, int(numbers[-1]))
        columns |= self._volume(age, int(numbers[-1]))
        columns |= self._ranges(bars, s, int(numbers[-1]))
        columns["regime"] = self._regime(columns["vol_rank"], s)
        for higher in self._higher:
            columns |= higher.advance(numbers, age, bars.close, self._now(LOG_CLOSE), s, _VOL_FLOOR)
        self._age += m
        self._tail = self._buf[:, -TAIL:].copy()
        self._buf = self._tail
        return columns, age

    def _now(self, row: int) -> Floats:
        return self._buf[row, TAIL:]

    def _lag(self, row: int, bars: int) -> Floats:
        return self._buf[row, TAIL - bars : self._buf.shape[1] - bars]

    def _load(self, bars: BarFrame, age: Ints) -> None:
        buf = np.empty((len(self._tail), TAIL + len(bars)))
        buf[:, :TAIL] = self._tail
        self._buf = buf
        new = buf[:, TAIL:]
        new[CLOSE], new[HIGH], new[LOW], new[VOLUME] = bars.close, bars.high, bars.low, bars.volume
        new[LOG_CLOSE] = np.log(new[CLOSE])
        new[LOG_VOLUME] = np.log(np.maximum(new[VOLUME], _VOLUME_FLOOR))
        if age[0] == 1:  # so that nothing is a return across a gap
            buf[LOG_CLOSE, :TAIL], buf[CLOSE, :TAIL] = new[LOG_CLOSE, 0], new[CLOSE, 0]
        new[R2] = (new[LOG_CLOSE] - self._lag(LOG_CLOSE, 1)) ** 2
        new[PK] = np.log(new[HIGH] / new[LOW]) ** 2 / (4.0 * np.log(2.0))
        new[SIGNED] = new[VOLUME] * np.sign(new[CLOSE] - self._lag(CLOSE, 1))
        five = (new[LOG_CLOSE] - self._lag(LOG_CLOSE, 5)) ** 2
        new[STEP5] = np.where(age > 5, five, 0.0)

    def _volatility(self, age: Ints) -> Columns:
        r2 = self._now(R2)[None, :]
        slow = observed_mean(self._slow.run(r2)[0], 0.98, age - 1)
        fast = observed_mean(self._ewma94.run(r2)[0], 0.94, age - 1)
        s = np.maximum(np.sqrt(slow), _VOL_FLOOR)
        fast = np.maximum(fast, _VAR_FLOOR)
        self._buf[S, TAIL:] = np.where(age > 1, s, np.inf)
        below = share_below(self._buf[S], 12, _LONGEST // 12, len(age))
        rank = below / np.clip((age - 2) // 12, 1, _LONGEST // 12)
        log_s = np.log(s)
        return {
            "s": s, "log_s": log_s, "ewma94_var": fast,
            "ewma_94": 0.5 * np.log(fast) - log_s, "vol_rank": rank,
        }  # fmt: skip

    def _returns(self, age: Ints, s: Floats) -> Columns:
        columns: Columns = {}
        for k in RETURN_LAGS:
            columns[f"ret_{k}"] = (self._lag(LOG_CLOSE, k) - self._lag(LOG_CLOSE, k + 1)) / s
        here = np.arange(TAIL, self._buf.shape[1])
        log_close = self._now(LOG_CLOSE)
        for w in CUMULATIVE:
            if w < MIN_BARS:
                columns[f"cum_{w}"] = (log_close - self._lag(LOG_CLOSE, w)) / (s * np.sqrt(w))
                continue
            span = np.clip(age - 1, 1, w)
            columns[f"cum_{w}"] = (log_close - self._buf[LOG_CLOSE, here - span]) / (
                s * np.sqrt(span)
            )
        return columns

    def _trend(self, bars: BarFrame, s: Floats) -> Columns:
        log_close, before = self._now(LOG_CLOSE), self._lag(CLOSE, 1)
        change = self._now(CLOSE) - before
        up_down_range = np.stack((
            np.maximum(change, 0.0),
            np.maximum(-change, 0.0),
            np.maximum(bars.high, before) - np.minimum(bars.low, before),
        ))  # fmt: skip
        if self._age == 0:
            up_down_range[2, 0] = bars.high[0] - bars.low[0]
            self._wilder.seed(np.array([0.0, 0.0, up_down_range[2, 0]]))
            for ema in self._emas.values():
                ema.seed(log_close[:1])
        smooth = self._wilder.run(up_down_range)
        self._buf[RSI, TAIL:] = balance(smooth)
        emas = {w: ema.run(log_close[None, :])[0] for w, ema in self._emas.items()}
        macd = emas[12] - emas[26]
        columns = {f"ema_gap_{w}": (log_close - emas[w]) / (s * np.sqrt(w)) for w in EMA_GAPS}
        relative = np.maximum(smooth[2] / bars.close, _VOL_FLOOR)
        return columns | {
            "ema_1_18": (log_close - emas[18]) / (s * np.sqrt(18.0)),
            "rsi_14": self._now(RSI),
            "macd": macd / s,
            "macd_hist": (macd - self._signal.run(macd[None, :])[0]) / s,
            "atr_14": smooth[2],
            "atr": np.log(relative / s),
        }

    def _windows(self, age: Ints, s: Floats, last: int) -> Columns:
        m, log_s, floor = len(age), np.log(s), _QUIET * s * s
        columns: Columns = {}
        longest = np.zeros(m)
        for w in VOLATILITIES:
            r2, pk = windows(self._buf[R2 : PK + 1], w, last, m)
            longest = r2 / np.clip(age - 1, 1, w)
            columns[f"rv_{w}"] = _half_log(longest, floor) - log_s
            columns[f"pk_{w}"] = _half_log(pk / np.minimum(age, w), floor) - log_s
        sigma2 = windows(self._buf[STEP5 : STEP5 + 1], 288, last, m)[0] / np.clip(age - 5, 1, 288)
        sigma = np.maximum(np.sqrt(sigma2), _VOL_FLOOR)
        columns["sigma25"] = sigma
        columns["vol_25"] = np.log(sigma / (s * np.sqrt(5.0)))
        columns |= self._season(age, longest)
        for w in HAR_RANGE:
            r2, pk = windows(self._buf[R2_S : PK_S + 1], w, last, m)
            columns[f"har_pk_{w}"] = 2.0 * _half_log(pk / np.minimum(age, w), floor)
            if w in HAR:
                columns[f"har_{w}"] = 2.0 * _half_log(r2 / np.clip(age - 1, 1, w), floor)
        return columns

    def _season(self, age: Ints, mean_r2: Floats) -> Columns:
        ratio = np.minimum(self._now(R2) / np.maximum(mean_r2, _VAR_FLOOR), _SEASON_CAP)
        self._buf[Q, TAIL:] = np.where(age >= _SEASON_FROM, ratio, 0.0)
        if self._days:
            self._buf[Q_DAYS, TAIL:] = sum(self._lag(Q, k * self._day) for k in range(self._days))
        around = {d: self._slot(age, d) for d in range(-1, 6)}
        season = 0.25 * (around[-1] + around[1]) + 0.5 * around[0]
        self._buf[R2_S, TAIL:] = self._now(R2) / season
        self._buf[PK_S, TAIL:] = self._now(PK) / season
        ahead = (around[1] + around[2] + around[3] + around[4] + around[5]) / 5.0
        return {"season": season, "season_next": ahead}

    def _slot(self, age: Ints, ahead: int) -> Floats:
        if not self._days:
            return np.ones(len(age))
        back = self._day - ahead
        days = np.clip((age - back - _SEASON_FROM) // self._day + 1, 0, self._days)
        return (1.0 + self._lag(Q_DAYS, back)) / (1.0 + days)  # one day of "as usual" as prior

    def _volume(self, age: Ints, last: int) -> Columns:
        m, volume = len(age), self._now(LOG_VOLUME)
        day, week = (medians(self._buf[LOG_VOLUME], w, np.minimum(age, w)) for w in (288, 2016))
        logs = self._buf[LOG_VOLUME, -(m + 287) :]
        total, squares = windows(np.stack((logs, logs * logs)), 288, last, m) / 288.0
        spread = np.sqrt(np.maximum(squares - total * total, _SPREAD_FLOOR**2))
        z = (volume - day) / spread
        columns = {"vol_z": z, "vol_level": day - week}
        columns["vol_signed"] = z * np.sign(self._now(CLOSE) - self._lag(CLOSE, 1))
        for w in (12, 48):
            traded, signed = windows(self._buf[VOLUME : SIGNED + 1], w, last, m)
            columns[f"signed_vol_{w}"] = signed / np.where(traded > 0.0, traded, 1.0)
            if w == 12:
                columns["vol_12"] = np.log(np.maximum(traded / w, _VOLUME_FLOOR)) - day
        return columns

    def _ranges(self, bars: BarFrame, s: Floats, last: int) -> Columns:
        m = len(bars)
        columns = {
            "range_hl": np.log(self._now(HIGH) / self._now(LOW)) / s,
            "close_loc": _position(bars.close, bars.low, bars.high),
        }
        for w in RANGES:
            top = windows(self._buf[HIGH : HIGH + 1], w, last, m, np.maximum)[0]
            bottom = windows(self._buf[LOW : LOW + 1], w, last, m, np.minimum)[0]
            columns[f"range_pos_{w}"] = _position(bars.close, bottom, top)
        both = self._buf[[LOG_CLOSE, RSI], -(m + 23) :]
        top, bottom = (windows(both, 24, last, m, op) for op in (np.maximum, np.minimum))
        price, strength = _position(both[:, -m:], bottom, top)
        columns["rsi_div"] = strength - price
        return columns

    def _regime(self, rank: Floats, s: Floats) -> Floats:
        move = np.abs(self._now(LOG_CLOSE) - self._lag(LOG_CLOSE, 48))
        return np.asarray(2.0 * (rank > 0.5) + 1.0 * (move > s * np.sqrt(48.0)))


def _half_log(variance: Floats, floor: Floats) -> Floats:
    return np.asarray(0.5 * np.log(np.maximum(variance, floor)))


def _position(x: Floats, low: Floats, high: Floats) -> Floats:
    width = high - low
    flat = width <= 0.0
    return np.where(flat, 0.5, (x - low) / np.where(flat, 1.0, width))
