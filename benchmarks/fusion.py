"""Chronos's timeframes together: weights that were learned, or fixed ones.

    python -m benchmarks.fusion --data FOLDER_OF_BARS [--tapes FOLDER]

Both go with the model that ships and are asked about BTC/USDT spot bars of 2025; looks go to the
trial log. The shortest timeframe alone stands beside them.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from agents.artifacts import FolderStore
from agents.chronos import Chronos, ChronosConfig
from benchmarks.scores import (
    FILE,
    MARKETS,
    OUT,
    TRIALS,
    asked,
    difference,
    table,
    with_errors,
    write,
)
from sim.tapes import TapeStore

HEADING, TOOL = "Fusion of Chronos's timeframes", "benchmarks.fusion"
LEARNED, FIXED = "learned", "fixed"
WAYS = {
    LEARNED: ChronosConfig(),
    FIXED: ChronosConfig(fusion="fixed"),
    "5m alone": ChronosConfig(fusion="fixed", timeframes=("5m",)),
}


def main() -> None:
    """Score every way, print and write."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    samples = Path(os.environ.get("CONCLAVE_SAMPLES", "."))
    parser.add_argument("--data", type=Path, default=samples, metavar="FOLDER")
    parser.add_argument("--tapes", type=Path, help="folder to keep opinions in")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--trials", type=Path, default=TRIALS)
    told = parser.parse_args()
    store, tapes = FolderStore(Path(os.devnull)), TapeStore(told.tapes) if told.tapes else None
    agents = {label: Chronos.from_store(store, config) for label, config in WAYS.items()}
    what = "chronos by fusion: " + ", ".join(agents)
    found = asked(what, agents, told.data / FILE.format(MARKETS[0]), tapes, told.trials)
    lines = [[label, *with_errors(rows)] for label, rows in found.items()]
    lines.append(["learned − fixed (t)", *difference(found[FIXED], found[LEARNED])])
    section = ["", *table((MARKETS[0],), lines), ""]
    print("\n".join(section))
    write(told.out, HEADING, TOOL, section)


if __name__ == "__main__":
    main()
