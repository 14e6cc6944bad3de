"""Volatility and correlation of what came in, against figures known beforehand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.ingest import correlations, described, returns, volatility
from data.resample import resample
from data.timeframes import TIMEFRAMES, Timeframes
from domain.canonical import canonical_json
from domain.market import BarFrame
from domain.times import DAY_MS, timeframe_ms

BTC, START = "BTC/USDT", 1_735_689_600_000


def bars(closes: list[float] | np.ndarray, timeframe: str = "1m") -> BarFrame:
    close = np.asarray(closes, dtype=np.float64)
    ts = START + timeframe_ms(timeframe) * np.arange(len(close), dtype=np.int64)
    return BarFrame(BTC, timeframe, ts, close, close, close, close, np.ones(len(close)))


def walk(days: int, seed: int = 3, drag: float = 0.0) -> BarFrame:
    """Minutes with independent returns, or with some of the last one in each."""
    moves = np.random.default_rng(seed).normal(0.0, 5e-4, days * 1_440)
    for n in range(1, len(moves)):
        moves[n] += drag * moves[n - 1]
    return bars(100.0 * np.exp(np.cumsum(moves)))


def test_volatility_is_that_of_a_day_in_every_timeframe() -> None:
    base = walk(60)
    for name in TIMEFRAMES:
        assert volatility(resample(base, name)) == pytest.approx(5e-4 * math.sqrt(1_440), rel=0.06)


def test_volatility_of_two_known_returns() -> None:
    frame = bars([100.0, 100.0 * math.exp(0.01), 100.0], "1h")
    assert volatility(frame) == pytest.approx(0.01 * math.sqrt(2.0) * math.sqrt(24))


@pytest.mark.parametrize("closes", [[], [1.0], [1.0, 2.0]])
def test_volatility_of_too_little_is_none(closes: list[float]) -> None:
    assert volatility(bars(closes)) is None


def test_returns_across_a_gap_are_left_out() -> None:
    frame = bars([1.0, 2.0, 4.0, 8.0])
    hole = replace(frame, ts=frame.ts + np.array([0, 0, 60_000, 60_000]))
    closes, moves = returns(hole)
    np.testing.assert_allclose(moves, [math.log(2.0)] * 2)
    assert closes.tolist() == [START + 120_000, START + 300_000]


def test_correlation_of_independent_returns_is_the_root_of_the_ratio_of_lengths() -> None:
    base = walk(200)
    matrix, counts = correlations({name: resample(base, name) for name in TIMEFRAMES})
    for i, one in enumerate(TIMEFRAMES):
        for j, other in enumerate(TIMEFRAMES):
            short, long = sorted((timeframe_ms(one), timeframe_ms(other)))
            wanted = math.sqrt(short / long)
            assert matrix[i][j] == pytest.approx(wanted, abs=4.5 / math.sqrt(counts[i][j]))
            both = math.lcm(short, long)
            assert counts[i][j] == pytest.approx(200 * DAY_MS / both, abs=2)


def test_correlation_of_returns_with_momentum_is_as_the_autocorrelation_says() -> None:
    base = walk(200, drag=0.4)
    matrix, _ = correlations({name: resample(base, name) for name in ("1m", "5m")})
    powers = [0.4**n for n in range(5)]
    whole = 5.0 + 2.0 * sum((5 - n) * powers[n] for n in range(1, 5))  # variance of five in a row
    assert matrix[0][1] == pytest.approx(sum(powers) / math.sqrt(whole), abs=0.01)


@given(st.lists(st.floats(0.5, 2.0), max_size=300), st.sampled_from([1, 5, 30]))
def test_correlations_are_symmetric_and_never_beyond_one(closes: list[float], cut: int) -> None:
    base = bars(closes)
    frames = {
        name: resample(base.slice(0, len(base) - len(base) % cut), name) for name in TIMEFRAMES
    }
    matrix, counts = correlations(frames)
    for i in range(6):
        for j in range(6):
            value = matrix[i][j]
            assert counts[i][j] == counts[j][i]
            if value is None:
                assert matrix[j][i] is None
                continue
            assert counts[i][j] >= 3
            assert -1.0 <= value <= 1.0
            assert value == pytest.approx(matrix[j][i])
            if i == j:
                assert value == pytest.approx(1.0)


def test_correlation_of_what_never_moves_is_none() -> None:
    matrix, counts = correlations({"1m": bars([1.0] * 50)})
    assert (matrix, counts) == ([[None]], [[49]])


def test_description_is_json_and_says_what_is_there() -> None:
    kept = Timeframes(BTC)
    kept.take(walk(1))
    kept.take(resample(walk(1), "15m"))
    body = json.loads(canonical_json(described(kept)))
    rows = {row["timeframe"]: row for row in body["timeframes"]}
    assert (rows["1m"]["bars"], rows["15m"]["bars"], rows["1h"]["bars"]) == (1_000, 96, 0)
    assert rows["15m"]["compared"] == 66  # those whose minutes are kept
    assert rows["1h"]["volatility_day"] is None
    assert rows["1h"]["start"] is None
    assert rows["1m"]["end"] == "2025-01-02T00:00:00Z"
    assert body["correlation"]["timeframes"] == list(TIMEFRAMES)
    assert len(body["correlation"]["pearson"]) == 6
