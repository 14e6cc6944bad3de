"""Chronos's timeframes together: weights that were learned, or fixed ones.

    python -m benchmarks.fusion --data FOLDER_OF_BARS [--tapes FOLDER]

Both go with the model that ships and are asked about BTC/USDT spot bars of 2025; looks go to the
trial log. The shortest timeframe alone stands beside them.
"""

from __future__ import annotations

import os
from pathlib import Path

from agents.artifacts import FolderStore
from agents.chronos import Chronos, ChronosConfig
from benchmarks.scores import (
    FILE,
    MARKETS,
    arguments,
    asked,
    difference,
    show,
    table,
    with_errors,
)

HEADING, TOOL = "Fusion of Chronos's timeframes", "benchmarks.fusion"
LEARNED, FIXED = "learned", "fixed"
WAYS = {
    LEARNED: ChronosConfig(),
    FIXED: ChronosConfig(fusion="fixed"),
    "5m alone": ChronosConfig(fusion="fixed", timeframes=("5m",)),
}


def main() -> None:
    """Score every way, print and write."""
    parser = arguments(TOOL, __doc__)
    told = parser.parse_args()
    store = FolderStore(Path(os.devnull))
    agents = {label: Chronos.from_store(store, config) for label, config in WAYS.items()}
    what = "chronos by fusion: " + ", ".join(agents)
    found = asked(what, agents, told.data / FILE.format(MARKETS[0]), told.tapes, told.trials)
    lines = [[label, *with_errors(rows)] for label, rows in found.items()]
    lines.append(["learned − fixed (t)", *difference(found[FIXED], found[LEARNED])])
    show(told.out, HEADING, TOOL, table((MARKETS[0],), lines))


if __name__ == "__main__":
    main()
