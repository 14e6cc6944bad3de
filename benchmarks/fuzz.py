"""The parsers under a coverage-guided fuzzer: ``python -m benchmarks.fuzz [--seconds 60]``.

Needs atheris, which the project does not install (``pip install atheris``). It begins with what the
local exchange says and changes it wherever that reaches new code. What comes out must be nothing, a
refusal in words, or what can be: a bar with 0 < low ≤ open, close ≤ high, a book update or a trade
of finite positive numbers. Anything else is a finding, and ends it with the input.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = {"BTCUSDT": "BTC/USDT", "ETHUSDT": "ETH/USDT"}


def main() -> None:
    """Fuzz for so many seconds, and print how far it came."""
    parser = argparse.ArgumentParser(prog="benchmarks.fuzz")
    parser.add_argument("--seconds", type=int, default=60)
    told = parser.parse_args()
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        raise SystemExit("benchmarks.fuzz needs atheris: pip install atheris") from None
    with atheris.instrument_imports(include=["data.sources", "domain.market", "json"]):
        target = target_of()
    with tempfile.TemporaryDirectory() as folder:
        for number, text in enumerate(seeds()):
            (Path(folder) / f"{number}").write_bytes(text.encode())
        flags = [f"-max_total_time={told.seconds}", "-print_final_stats=1", "-max_len=4096"]
        atheris.Setup([sys.argv[0], *flags, folder], target)
        atheris.Fuzz()


def target_of() -> Callable[[bytes], None]:
    """Return what is fuzzed: one message, read by every parser."""
    from data.sources.answers import bars_of
    from data.sources.book_messages import Print, said_of
    from data.sources.klines import closed_bar
    from data.sources.order_book import Diff
    from domain.errors import DataRefused

    def read(data: bytes) -> None:
        try:
            bar = closed_bar(data, NAMES, ("1m", "5m"))
            if bar is not None:
                whole(bar.open, bar.high, bar.low, bar.close, bar.volume)
        except DataRefused:
            pass
        try:
            said = said_of(data, NAMES)
            if isinstance(said, Print):
                assert positive(said.trade.price)
                assert positive(said.trade.qty)
            elif isinstance(said, Diff):
                levels = (*said.bids, *said.asks)
                assert all(positive(price) and 0.0 <= qty < math.inf for price, qty in levels)
        except DataRefused:
            pass
        try:
            frame = bars_of(json.loads(data), "BTC/USDT", "1m")
            for each in frame.bars():
                whole(each.open, each.high, each.low, each.close, each.volume)
        except (DataRefused, ValueError, RecursionError):
            pass

    return read


def positive(value: float) -> bool:
    """Whether a number is finite and above 0."""
    return 0.0 < value < math.inf


def whole(start: float, high: float, low: float, end: float, volume: float) -> None:
    """Fail for what is no bar."""
    assert 0.0 < low <= min(start, end)
    assert max(start, end) <= high < math.inf
    assert 0.0 <= volume < math.inf


def seeds() -> list[str]:
    """Return what the local exchange says of some moments, and of some bars."""
    from sim.venue.market import Markets, VenueClock
    from sim.venue.messages import said, stream_of
    from sim.worlds import DemoMarket

    start = DemoMarket().start_ms + 3 * 86_400_000
    markets = Markets({"BTC/USDT": DemoMarket(7)}, VenueClock(start, lambda: 0, 0.0), seed=7)
    found: list[Any] = [[[start, 100.0, 101.0, 99.0, 100.5, 1.0]]]
    for market in ("spot", "perp"):
        for kind in ("kline_1m", "kline_5m", "depth", "depth5", "trade", "aggTrade", "bookTicker"):
            stream = stream_of(f"btcusdt@{kind}", market, markets)
            assert stream is not None
            for body in said(stream, markets, start):
                found += [body, {"stream": stream.name, "data": body}]
    return [json.dumps(body) for body in found]


if __name__ == "__main__":
    main()
