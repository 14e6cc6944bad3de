"""Files that commands are given in tests, and what they print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sim.worlds import DEMO_START_MS, PlantedEdge
from tests.data_fixtures import write_parquet

STEP = 300_000
YEAR_2024 = 1_704_067_200_000
LIGHT = "climatology,technical"
COUNCIL_OF_FOUR = "climatology,technical,baseline,risk"  # everybody but those who take long
Cli = Callable[..., tuple[int, str, str]]


def spot(folder: Path, n: int = 1_100, start: int = DEMO_START_MS) -> Path:
    frame = PlantedEdge(5, start_ms=start).bars(start, n)
    return write_parquet(folder / "BTCUSDT-binance-spot-5m-made.parquet", frame)


def perp(folder: Path, n: int = 1_100) -> Path:
    frame = PlantedEdge(5, symbol="BTC/USDT:USDT").bars(DEMO_START_MS, n)
    return write_parquet(folder / "BTCUSDT-binance-perp-5m-made.parquet", frame)


def walk(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)
    else:
        yield value
