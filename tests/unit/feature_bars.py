"""Bars for the tests of features, labels and memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from domain.market import BarFrame
from domain.times import timeframe_ms

COLUMNS = ("open", "high", "low", "close", "volume")
START_MS = 1_709_942_400_000  # 2024-03-09, the day before New York's clocks change


def random_bars(n, seed=0, timeframe="5m", start_ms=START_MS, gaps=()):
    """n bars of a random walk; before each index in ``gaps`` some bars are missing."""
    rng = np.random.default_rng(seed)
    step = timeframe_ms(timeframe)
    vol = 0.001 * np.exp(0.5 * np.sin(np.arange(n) / 50.0))
    close = 30_000.0 * np.exp(np.cumsum(vol * rng.standard_normal(n)))
    close[rng.random(n) < 0.02] = 30_000.0  # ties and jumps
    opens = np.concatenate(([30_000.0], close[:-1]))
    high = np.maximum(opens, close) * (1 + np.abs(rng.normal(0, 3e-4, n)))
    low = np.minimum(opens, close) * (1 - np.abs(rng.normal(0, 3e-4, n)))
    volume = np.exp(rng.normal(4.0, 1.0, n)) * (rng.random(n) > 0.01)
    skip = np.zeros(n, dtype=np.int64)
    for at in gaps:
        skip[at] += int(rng.integers(1, 400))
    ts = start_ms + step * (np.arange(n, dtype=np.int64) + np.cumsum(skip))
    return BarFrame("BTC/USDT", timeframe, ts, opens, high, low, close, volume)


def flat_bars(n, price=100.0, volume=0.0, timeframe="5m"):
    """n bars in which nothing happens."""
    ts = START_MS + timeframe_ms(timeframe) * np.arange(n, dtype=np.int64)
    prices = (np.full(n, price) for _ in range(4))
    return BarFrame("BTC/USDT", timeframe, ts, *prices, np.full(n, volume))


def joined(*frames):
    """Frames one after the other."""
    columns = (
        np.concatenate([getattr(frame, name) for frame in frames]) for name in ("ts", *COLUMNS)
    )
    return BarFrame(frames[0].symbol, frames[0].timeframe, *columns)


def sample(name="BTCUSDT-binance-spot-5m-20220801-20251231.parquet"):
    """Real bars, or skip."""
    folder = os.environ.get("CONCLAVE_SAMPLES")
    if not folder:
        pytest.skip("needs CONCLAVE_SAMPLES, a folder of sample bars")
    path = Path(folder) / name
    if not path.is_file():
        pytest.skip(f"CONCLAVE_SAMPLES has no {name}")
    table = pq.read_table(path)
    columns = (np.array(table[column].to_numpy()) for column in ("ts", *COLUMNS))
    return BarFrame("BTC/USDT", name.split("-")[3], *columns)
