"""Does a backtest's cost grow with its bars and nothing else: ``python -m benchmarks.scaling``.

    python -m benchmarks.scaling --data FOLDER_OF_BARS

``ema_cross`` under the exercise profile on an eighth, a quarter, a half and the whole of 2025, each
in a process of its own: CPU seconds of the run against bars + orders (least squares, R²), and the
process's largest resident memory. Then what a person waits for: a cold process from its start to
its result, for the command line on one day and for the compiled engine on the year, with compiled
code in its cache.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from domain.times import parse_iso

HEADING, TOOL, OUT = "How cost grows", "benchmarks.scaling", Path("docs/execution.md")
FILE = "BTCUSDT-binance-perp-5m-20241231-20251231.parquet"
START, STEP, YEAR = parse_iso("2025-01-01"), 300_000, 105_120
PARTS = (8, 4, 2, 1)


def one(data: Path, bars: int) -> dict[str, float]:
    """Run the loop over so many bars in this process."""
    from data.files import read_bars
    from data.instruments import instrument_for
    from domain.trading import Order
    from execution.strategies import EmaCross
    from serving.backtesting import MoneyLedger
    from sim.backtest import exercise_rules, run_backtest

    frame = read_bars(data / FILE).between(START, START + bars * STEP)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ledger, began = MoneyLedger(), time.process_time()
    instrument = instrument_for(frame.symbol)
    run_backtest(frame, EmaCross(), instrument, rules=exercise_rules(), ledger=ledger)
    seconds = time.process_time() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    orders = sum(1 for _ in ledger.records(Order))
    return {"bars": len(frame), "orders": orders, "seconds": seconds,
            "before_mib": before / 1024, "after_mib": after / 1024}  # fmt: skip


def compiled(data: Path) -> dict[str, float]:
    """Run the compiled engine over the year: read, decide, trade, every cost on."""
    from benchmarks.crossing import sides
    from data.files import matching_funding, read_bars, read_funding
    from data.instruments import instrument_for
    from execution.fills import CostModel
    from execution.funding import rates_of
    from execution.kernel import Wishes, bars_of, play, rules_of, tiers_of
    from execution.paper import Venue

    frame = read_bars(data / FILE).between(START, START + YEAR * STEP)
    instrument = instrument_for(frame.symbol)
    rules = rules_of(instrument, CostModel.of(instrument), Venue(), "5m", 5)
    n, nothing = len(frame), np.full(len(frame), np.nan)
    lots = np.full(n, float(1 / instrument.step))
    wishes = Wishes(sides(frame.close, 10, 20), lots, nothing, nothing)
    beside = matching_funding(data / FILE)
    assert beside is not None
    paid = read_funding(beside)
    bars = bars_of(frame, rates_of(paid.ts, paid.rate))
    made = play(bars, wishes, rules, tiers_of(instrument), 1_000_000)
    return {"equity": float(made.equity[-1])}


def elsewhere(*words: str) -> tuple[dict[str, float], float]:
    """Run this tool in a fresh process; return what it printed and the wall seconds it took."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", TOOL, *words], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout), time.perf_counter() - began


def command_line(data: Path) -> float:
    """Return the wall seconds of ``conclave backtest`` on one day, from start to result."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["backtest", "--data", str(data / FILE), "--profile", "exercise", "--json",
                 "--timerange", "20241231-20250101", "--set", f"VAR_DIR={folder}"]  # fmt: skip
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "serving.cli", *words], check=True,
                       capture_output=True)  # fmt: skip
        return time.perf_counter() - began


def main() -> None:
    """Measure, fit, print and write."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of bars")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--bars", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.bars or told.compiled:
        print(json.dumps(one(told.data, told.bars) if told.bars else compiled(told.data)))
        return
    from benchmarks.scores import show  # not in what is timed

    data = str(told.data)
    runs = [elsewhere("--data", data, "--bars", str(YEAR // part))[0] for part in PARTS]
    work = np.array([run["bars"] + run["orders"] for run in runs])
    seconds = np.array([run["seconds"] for run in runs])
    slope, floor = np.polyfit(work, seconds, 1)
    r2 = 1.0 - np.var(seconds - slope * work - floor) / np.var(seconds)
    rows = [("bars", "orders", "CPU, s", "memory, MiB"), ("---",) * 4]
    rows += [
        (f"{run['bars']:,}", f"{run['orders']:,}", f"{run['seconds']:.2f}",
         f"{run['before_mib']:.0f} + {run['after_mib'] - run['before_mib']:.0f}")
        for run in runs
    ]  # fmt: skip
    elsewhere("--data", data, "--compiled")  # fills the cache
    cold = min(elsewhere("--data", data, "--compiled")[1] for _ in range(3))
    day = min(command_line(told.data) for _ in range(3))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines += [
        "",
        f"{slope * 1e6:.0f} µs a bar or order and {floor:.2f} s once, R² {r2:.4f}. "
        f"A cold process has the compiled engine's year after {cold:.1f} s, "
        f"`conclave backtest` of a day after {day:.1f} s (wall, best of three).",
    ]
    show(told.out, HEADING, TOOL, lines)


if __name__ == "__main__":
    main()
