"""Write bars of the simulated market to a file: something to try the pipeline on.

    python scripts/demo_bars.py BTCUSDT-demo-spot-5m.parquet [--days 120]

The same days every time. Nothing learned from them says anything about a real market.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from domain.times import DAY_MS, parse_iso, timeframe_ms
from sim.worlds import DEMO, DEMO_SEED, GeneratedWorld

SYMBOL, TIMEFRAME, START = "BTC/USDT", "5m", "2024-01-01"
COLUMNS = ("ts", "open", "high", "low", "close", "volume")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="named like BTCUSDT-demo-spot-5m.parquet")
    parser.add_argument("--days", type=int, default=120)
    arguments = parser.parse_args()
    start = parse_iso(START)
    world = GeneratedWorld(DEMO, DEMO_SEED, SYMBOL, TIMEFRAME, start)
    frame = world.bars(start, arguments.days * DAY_MS // timeframe_ms(TIMEFRAME))
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: getattr(frame, name) for name in COLUMNS}), arguments.file)
    sys.stdout.write(f"{len(frame):,} bars from {START}: {arguments.file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
