"""TA-Lib as the independent judge, once its other way of starting has worn off."""

import numpy as np
import pytest
import talib
from feature_bars import random_bars, sample

from data.features import build_features
from data.resample import resample

WORN = 600  # bars until (13/14)^n and (24/26)^n no longer show
CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture(scope="module", params=["random", "real"])
def bars(request):
    return random_bars(4000, seed=21) if request.param == "random" else sample().slice(0, 4000)


@pytest.fixture(scope="module")
def features(bars):
    return build_features(bars)


def test_rsi_when_warm_then_it_is_talibs_on_minus_one_to_one(bars, features):
    expected = talib.RSI(bars.close, 14) / 50.0 - 1.0
    np.testing.assert_allclose(features.column("rsi_14")[WORN:], expected[WORN:], **CLOSE)


def test_atr_when_warm_then_it_is_talibs_in_price_units(bars, features):
    expected = talib.ATR(bars.high, bars.low, bars.close, 14)
    np.testing.assert_allclose(features.column("atr_14")[WORN:], expected[WORN:], **CLOSE)


def test_macd_when_warm_then_line_and_histogram_are_talibs_on_log_price(bars, features):
    line, _, histogram = talib.MACD(np.log(bars.close), 12, 26, 9)
    s = features.column("s")
    np.testing.assert_allclose((features.column("macd") * s)[WORN:], line[WORN:], **CLOSE)
    np.testing.assert_allclose((features.column("macd_hist") * s)[WORN:], histogram[WORN:], **CLOSE)


@pytest.mark.parametrize(
    ("name", "width"), [("ema_gap_12", 12), ("ema_1_18", 18), ("ema_gap_48", 48)]
)
def test_ema_gap_when_warm_then_it_is_the_distance_from_talibs_ema(bars, features, name, width):
    x = np.log(bars.close)
    gap = features.column(name) * features.column("s") * np.sqrt(width)
    start = 30 * width
    np.testing.assert_allclose((x - gap)[start:], talib.EMA(x, width)[start:], **CLOSE)


def test_ema_1_18_when_read_as_two_averages_then_the_fast_one_is_the_price(bars):
    x = np.log(bars.close)
    np.testing.assert_array_equal(talib.MA(x, 1), x)


@pytest.mark.parametrize("timeframe", ["15m", "30m", "1h"])
def test_higher_rsi_when_warm_then_it_is_talibs_on_resampled_bars_closed_by_then(
    bars, features, timeframe
):
    frame = resample(bars, timeframe)
    expected = talib.RSI(frame.close, 14) / 50.0 - 1.0
    closed = np.searchsorted(frame.ts + frame.step_ms, bars.ts + bars.step_ms, side="right") - 1
    rows = np.flatnonzero(closed >= 200)
    np.testing.assert_allclose(
        features.column(f"{timeframe}_rsi_14")[rows], expected[closed[rows]], rtol=1e-5, atol=1e-6
    )
