"""Each column against a plain reading of its definition, for partial and full windows."""

import math
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from feature_bars import flat_bars, joined, random_bars

from data.features import (
    EXTRAS,
    MIN_BARS,
    REFERENCE_54,
    SCALES,
    FeatureEngine,
    build_features,
    feature_names,
    higher_timeframes,
    schema_hash,
)
from domain.errors import DataRefused

STEP = 300_000
AFTER = 37  # bars before the gap after which the tested run begins
ROWS = (288, 289, 700, 2017, 2600)  # bars since the gap; 2016 is the longest window


@cache
def bars():
    return random_bars(AFTER + max(ROWS), seed=3, gaps=(AFTER,))


@cache
def features():
    return build_features(bars())


def ewma(x, alpha, start):
    y = [start]
    for value in x:
        y.append(alpha * value + (1 - alpha) * y[-1])
    return np.array(y[1:])


def mean_from_zero(x, decay):
    """The exponentially weighted mean of x, nothing known before it."""
    weights = decay ** np.arange(len(x))[::-1]
    return float(np.sum(weights * x) / np.sum(weights))


def higher(close, ts, ratio, column):
    ends = [i for i in range(ratio - 1, len(ts)) if (ts[i] // STEP + 1) % ratio == 0]
    c = close[ends]
    x = np.log(c)
    r = np.diff(x)
    vol = math.sqrt(mean_from_zero(r**2, 0.94))
    if column == "rsi_14":
        return wilder_rsi(c)[-1]
    if column == "ema_gap_12":
        return (x[-1] - ewma(x[1:], 2 / 13, x[0])[-1]) / (vol * math.sqrt(12))
    if column == "vol":
        return vol
    k = int(column.removeprefix("ret_"))
    return (x[-1] - x[-1 - k]) / (vol * math.sqrt(k))


def wilder_rsi(close):
    change = np.diff(close, prepend=close[0])
    up = ewma(np.maximum(change, 0), 1 / 14, 0.0)
    down = ewma(np.maximum(-change, 0), 1 / 14, 0.0)
    return (up - down) / np.maximum(up + down, 1e-300)


def position(x, low, high):
    return (x - low) / (high - low)


def seasons(r2, n):
    """(S of the current slot, mean S of the next five) by walking over days and slots."""
    q = np.zeros(n)
    for j in range(1, n):
        window = r2[max(1, j - 2015) : j + 1]
        if j + 1 >= 48:
            q[j] = min(r2[j] / np.mean(window), 25.0)

    def slot(i, ahead):
        found = [q[i + ahead - 288 * k] for k in range(1, 8) if i + ahead - 288 * k >= 47]
        return (1.0 + sum(found)) / (1.0 + len(found))

    now = [(slot(i, -1) + 2 * slot(i, 0) + slot(i, 1)) / 4 for i in range(n)]
    ahead = [np.mean([slot(i, d) for d in range(1, 6)]) for i in range(n)]
    return np.array(now), np.array(ahead)


@cache
def expected(n):
    """Every column at the n-th bar of the run, from slices of the run up to it."""
    b = bars().slice(AFTER, AFTER + n)
    x, v, i = np.log(b.close), b.volume, n - 1
    r = np.concatenate(([np.nan], np.diff(x)))
    r2, pk = r**2, np.log(b.high / b.low) ** 2 / (4 * math.log(2))
    s_all = np.array([np.nan, *(mean_from_zero(r2[1 : k + 1], 0.98) ** 0.5 for k in range(1, n))])
    s = s_all[-1]
    out = {"s": s, "log_s": math.log(s), "ewma94_var": mean_from_zero(r2[1:], 0.94)}
    out["ewma_94"] = 0.5 * math.log(out["ewma94_var"]) - math.log(s)
    past = s_all[i - 12 :: -12][:168]
    past = past[~np.isnan(past)]
    out["vol_rank"] = float(np.mean(past < s))
    for k in range(6):
        out[f"ret_{k}"] = r[i - k] / s
    for w in (3, 6, 12, 36, 96, 288, 2016):
        span = min(w, n - 1)
        out[f"cum_{w}"] = (x[i] - x[i - span]) / (s * math.sqrt(span))
    rsi = wilder_rsi(b.close)
    out["rsi_14"] = rsi[-1]
    ema = {w: ewma(x[1:], 2 / (w + 1), x[0]) for w in (12, 18, 26, 48, 288, 2016)}
    macd = ema[12] - ema[26]
    out["macd"] = macd[-1] / s
    out["macd_hist"] = (macd[-1] - ewma(macd, 0.2, 0.0)[-1]) / s
    for w in (12, 48, 288, 2016):
        out[f"ema_gap_{w}"] = (x[i] - ema[w][-1]) / (s * math.sqrt(w))
    out["ema_1_18"] = (x[i] - ema[18][-1]) / (s * math.sqrt(18))
    true = np.maximum(b.high[1:], b.close[:-1]) - np.minimum(b.low[1:], b.close[:-1])
    out["atr_14"] = ewma(true, 1 / 14, b.high[0] - b.low[0])[-1]
    out["atr"] = math.log(out["atr_14"] / b.close[i] / s)
    out["range_hl"] = math.log(b.high[i] / b.low[i]) / s
    for w in (3, 12, 48, 288, 2016):
        out[f"rv_{w}"] = 0.5 * math.log(np.nanmean(r2[-w:])) - math.log(s)
        out[f"pk_{w}"] = 0.5 * math.log(np.mean(pk[-w:])) - math.log(s)
    five = (x[5:] - x[:-5])[-288:]
    out["sigma25"] = math.sqrt(np.mean(five**2))
    out["vol_25"] = math.log(out["sigma25"] / s / math.sqrt(5))
    logs = np.log(np.maximum(v, 1e-6))
    day, week = np.median(logs[-288:]), np.median(logs[-2016:])
    out["vol_z"] = (logs[i] - day) / np.std(logs[-288:])
    out["vol_12"] = math.log(np.mean(v[-12:])) - day
    out["vol_level"] = day - week
    out["vol_signed"] = out["vol_z"] * np.sign(r[i])
    for w in (12, 48):
        out[f"signed_vol_{w}"] = np.sum((v * np.sign(r))[-w:]) / np.sum(v[-w:])
    out["close_loc"] = position(b.close[i], b.low[i], b.high[i])
    for w in (12, 48, 288):
        out[f"range_pos_{w}"] = position(b.close[i], b.low[-w:].min(), b.high[-w:].max())
    out["rsi_div"] = position(rsi[i], rsi[-24:].min(), rsi[-24:].max()) - position(
        x[i], x[-24:].min(), x[-24:].max()
    )
    season, ahead = seasons(r2, n)
    out["season"], out["season_next"] = season[-1], ahead[-1]
    for w in (1, 3, 12, 48, 288, 2016):
        out[f"har_pk_{w}"] = math.log(np.mean((pk / season)[-w:]))
        out[f"har_{w}"] = math.log(np.nanmean((r2 / season)[-w:])) if w >= 12 else None
    trend = abs(x[i] - x[i - 48]) > s * math.sqrt(48)
    out["regime"] = 2.0 * (out["vol_rank"] > 0.5) + float(trend)
    out |= calendar(int(b.ts[i]))
    for tf, ratio in (("15m", 3), ("30m", 6), ("1h", 12)):
        for column in ("rsi_14", "ret_1", "ret_4", "ema_gap_12", "vol"):
            out[f"{tf}_{column}"] = higher(b.close, b.ts, ratio, column)
        out[f"{tf}_vol"] = math.log(out[f"{tf}_vol"] / (s * math.sqrt(ratio)))
    return out


def calendar(ts):
    at = datetime.fromtimestamp(ts / 1000, tz=UTC)
    there = at.astimezone(ZoneInfo("America/New_York"))
    slot = (at.hour * 60 + at.minute) // 5
    out = {"slot_hour": at.minute // 5, "slot_utc": slot, "weekday": at.weekday()}
    out["slot_ny"] = (there.hour * 60 + there.minute) // 5
    out["weekend"] = at.weekday() >= 5
    for k in (1, 2, 3):
        out[f"tod_sin_{k}"] = math.sin(2 * math.pi * k * slot / 288)
        out[f"tod_cos_{k}"] = math.cos(2 * math.pi * k * slot / 288)
    for name, start, stop in (("asia", 0, 8), ("europe", 7, 16), ("us", 13, 22)):
        out[f"session_{name}"] = start <= at.hour < stop
    return out


@pytest.mark.parametrize("name", feature_names())
def test_column_when_windows_are_partial_and_full_then_it_is_what_its_definition_says(name):
    column = features().column(name)
    for n in ROWS:
        assert column[AFTER + n - 1] == pytest.approx(float(expected(n)[name]), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", feature_names())
def test_column_when_the_run_is_shorter_than_a_day_of_bars_then_it_is_nan(name):
    column = features().column(name)
    assert np.isnan(column[: AFTER + MIN_BARS - 1]).all()
    assert np.isfinite(column[AFTER + MIN_BARS - 1 :]).all()


def test_names_when_listed_then_they_are_54_of_reference_and_all_differ():
    assert len(REFERENCE_54) == 54
    assert len(set(feature_names())) == len(feature_names()) < 110
    assert set(feature_names()) >= {*REFERENCE_54, *SCALES, *EXTRAS}


def test_higher_timeframes_when_the_base_differs_then_only_longer_multiples_are_made():
    assert higher_timeframes("5m") == ("15m", "30m", "1h")
    assert higher_timeframes("1m") == ("3m", "15m", "30m", "1h")
    assert higher_timeframes("1h") == ()
    assert "3m_rsi_14" in feature_names("1m")
    assert schema_hash("1m") != schema_hash("5m")


@pytest.mark.parametrize("timeframe", ["1m", "3m", "5m", "15m", "1h", "4h", "1d"])
def test_build_features_when_the_timeframe_differs_then_rows_are_complete(timeframe):
    frame = build_features(random_bars(800, timeframe=timeframe))
    assert frame.names == feature_names(timeframe)
    assert np.isfinite(frame.values[MIN_BARS - 1 :]).all()


@pytest.mark.parametrize("volume", [0.0, 12.5])
def test_build_features_when_the_market_stands_still_then_every_row_is_finite_and_calm(volume):
    values = build_features(flat_bars(2500, volume=volume))
    rows = values.values[MIN_BARS - 1 :]
    assert np.isfinite(rows).all()
    for name in ("ret_0", "cum_2016", "rsi_14", "vol_z", "signed_vol_12", "rsi_div", "rv_2016"):
        assert np.abs(values.column(name)[-1]) <= 5.0
    assert values.column("close_loc")[-1] == values.column("range_pos_288")[-1] == 0.5


def test_build_features_when_a_dead_market_wakes_then_every_row_is_finite():
    dead, alive = flat_bars(600, price=30_000.0), random_bars(400, seed=5)
    alive.ts[:] = dead.ts[-1] + STEP * np.arange(1, 401)
    assert np.isfinite(build_features(joined(dead, alive)).values[MIN_BARS - 1 :]).all()


def test_build_features_when_new_yorks_clocks_change_then_its_slot_jumps_an_hour():
    slots = build_features(random_bars(900)).column("slot_ny")  # starts on 2024-03-09
    jumps = np.diff(slots[MIN_BARS - 1 :])
    assert np.count_nonzero(jumps == 13) == 1


def broken(name, value):
    bad = random_bars(10)
    getattr(bad, name)[4] = value
    return bad


@pytest.mark.parametrize(
    ("name", "value"),
    [("close", np.nan), ("low", 0.0), ("open", -1.0), ("high", np.inf), ("volume", -1.0)],
)
def test_engine_when_a_bar_is_unusable_then_it_refuses_and_stays_as_it_was(name, value):
    engine, good = FeatureEngine("5m"), random_bars(400)
    with pytest.raises(DataRefused, match="must be finite"):
        engine.update(broken(name, value))
    assert np.array_equal(engine.update(good).values, build_features(good).values, equal_nan=True)


def test_engine_when_bars_come_twice_or_of_another_timeframe_then_it_refuses():
    engine = FeatureEngine("5m")
    engine.update(random_bars(10))
    with pytest.raises(DataRefused, match="strictly increasing"):
        engine.update(random_bars(10))
    with pytest.raises(DataRefused, match="timeframe 5m"):
        engine.update(random_bars(10, timeframe="1m"))


def test_engine_when_there_is_nothing_to_consume_then_it_returns_no_rows():
    assert build_features(random_bars(5).slice(0, 0)).values.shape == (0, len(feature_names()))
