"""Fit the baselines that ship on bars before 2025, and write sim/baselines/weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from agents.training.dataset import build_dataset
from data.files import read_bars
from domain.times import iso, parse_iso
from sim.baselines import Inputs, Known, fit_all
from sim.baselines.shipping import FOLDER, SHIPPED_NAMES, to_files

END = parse_iso("2025-01-01")  # 2025 stays out of sample for whoever repeats this
SEED = 7
HORIZON_BARS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="BTCUSDT-binance-spot-5m-…")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--names", nargs="*", default=list(SHIPPED_NAMES))
    args = parser.parse_args()
    data = build_dataset(read_bars(args.file), END, HORIZON_BARS, features=True)
    print(f"{data.bars.symbol} {data.bars.timeframe}: {len(data.bars)} bars before {iso(END)}")
    inputs = Inputs.of(data)
    fits = fit_all(data, END, args.names, SEED, print, inputs)
    for name, content in to_files(Known(data, inputs, END, SEED), fits, args.names).items():
        (args.out / name).write_bytes(content)
        print(f"{args.out / name}: {len(content)} bytes")


if __name__ == "__main__":
    main()
