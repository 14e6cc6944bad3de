"""The baseline by scikit-learn and by LightGBM: ``python -m benchmarks.libraries``.

Both are trained on BTC/USDT spot bars before 2025 with the settings of the reference table, served
as agents, and scored on 2025 as ``conclave evaluate`` scores them; the same models are asked about
the other markets. Every look at 2025 goes to the trial log. Nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agents.artifacts import load, versions
from agents.baseline import Baseline
from agents.heads import TARGETS
from agents.training.baseline import BaselineConfig, BaselineModel
from agents.training.dataset import LIBRARIES, Source
from benchmarks.scores import (
    FILE,
    HORIZON_BARS,
    MARKETS,
    OUT,
    SCORES,
    START,
    STOP,
    TRIALS,
    Rows,
    difference,
    rows_of,
    short,
    table,
    with_errors,
    write,
)  # fmt: skip
from data.files import file_sha256, read_bars
from serving.system import SystemClock, git_commit
from serving.trials import Look, prepare, record
from sim.panel import Range, hear

HEADING, TOOL = "Baseline: scikit-learn or LightGBM", "benchmarks.libraries"
NAMES = dict(zip(LIBRARIES, ("scikit-learn", "LightGBM"), strict=True))


def trained(file: Path, library: str, seed: int, folder: Path) -> tuple[Baseline, float]:
    """Return the agent of a library and seed, from ``folder`` or trained, and the CPU seconds."""
    config, began = BaselineConfig(library=library), time.process_time()
    source = Source(START, seed, SystemClock().now(), git_commit(), file_sha256(file), folds=0)
    for target in TARGETS:
        if not versions(folder, f"baseline/{target}"):
            model = BaselineModel(target, HORIZON_BARS, config)
            model.train([read_bars(file).between(None, START)], source)
            model.save(folder)
    took = time.process_time() - began
    names = [f"baseline/{target}" for target in TARGETS]
    return Baseline(*(load(folder / name / versions(folder, name)[-1]) for name in names)), took


def scored(file: Path, agents: Mapping[str, Baseline], seed: int, log: Path | None) -> list[Rows]:
    """Ask both agents about 2025, log the look, and return the rows of their scores."""
    where = Range.of(read_bars(file), START, STOP, HORIZON_BARS)
    what = f"{where.past.symbol} 5m: baseline by {' and by '.join(NAMES.values())}, seed {seed}"
    look = Look("evaluate", START, STOP, f"{what}; 2 configurations", git_commit())
    prepare(log, look)
    said = hear(where, where.memory(), agents).agents
    use = where.labels.valid.copy()
    for columns in said.values():
        use &= columns.awake
    found = [rows_of(said[name], where.truth, use) for name in LIBRARIES]
    told = "; ".join(f"{NAMES[n]} {short(rows)}" for n, rows in zip(LIBRARIES, found, strict=True))
    record(log, look, told, SystemClock().now())
    print(f"  {what}, {int(use.sum()):,} rows: {told}", flush=True)
    return found


def by_market(found: Mapping[str, Sequence[Rows]]) -> list[str]:
    """Return the table of one seed: a market's two libraries and their difference."""
    lines = []
    for market, both in found.items():
        lines += [
            [market, NAMES[name], *with_errors(r)] for name, r in zip(LIBRARIES, both, strict=True)
        ]
        lines.append([market, "difference (t)", *difference(*both)])
    return table(("market", "library"), lines)


def by_seed(found: Mapping[int, Sequence[Rows]]) -> list[str]:
    """Return the table of all seeds: mean and standard deviation over them, mean difference."""
    seeds, lines, mean = f"{len(found)} seeds", [], []
    for at, library in enumerate(LIBRARIES):
        rows = {key: np.stack([both[at][key] for both in found.values()]) for key in SCORES}
        spread = {key: values.mean(axis=1).std(ddof=1) for key, values in rows.items()}
        mean.append({key: values.mean(axis=0) for key, values in rows.items()})
        cells = [
            f"{mean[at][key].mean():.{score.digits}f} (s.d. {spread[key]:.{score.digits}f})"
            for key, score in SCORES.items()
        ]
        lines.append([seeds, NAMES[library], *cells])
    lines.append([seeds, "difference (t)", *difference(*mean)])
    return table(("BTC", "library"), lines)


def run(data: Path, seeds: Sequence[int], models: Path, log: Path | None) -> list[str]:
    """Train, score and return the tables; the first seed is asked about every market."""
    markets: dict[str, Sequence[Rows]] = {}
    every: dict[int, Sequence[Rows]] = {}
    cpu: dict[str, list[float]] = {name: [] for name in LIBRARIES}
    for seed in seeds:
        agents = {}
        for name in LIBRARIES:
            agents[name], took = trained(
                data / FILE.format("BTC"), name, seed, models / f"{name}-{seed}"
            )
            print(f"  {NAMES[name]}, seed {seed}: {took:.0f} s of CPU", flush=True)
            cpu[name].append(took)
        for market in MARKETS if seed == seeds[0] else MARKETS[:1]:
            rows = scored(data / FILE.format(market), agents, seed, log)
            markets |= {market: rows} if seed == seeds[0] else {}
            every |= {seed: rows} if market == MARKETS[0] else {}
    told = ", ".join(f"{NAMES[n]} {max(took):.0f} s" for n, took in cpu.items())
    cost = f"CPU time of one training of the three targets, one thread: {told}."
    trained_now = all(max(took) > 1.0 for took in cpu.values())  # else they were in the folder
    return [
        "", f"Seed {seeds[0]}; ± is the standard error of a circular block bootstrap (one day).",
        "", *by_market(markets), "", *(by_seed(every) if len(seeds) > 1 else []), "",
        *([cost, ""] if trained_now else []),
    ]  # fmt: skip


def main() -> None:
    """Train, score, print and write."""
    parser = argparse.ArgumentParser(prog="benchmarks.libraries", description=__doc__)
    samples = Path(os.environ.get("CONCLAVE_SAMPLES", "."))
    parser.add_argument("--data", type=Path, default=samples, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9, 10, 11])
    parser.add_argument("--models", type=Path, help="folder to keep, and find, the models in")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--trials", type=Path, default=TRIALS)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        section = run(told.data, told.seeds, told.models or Path(folder), told.trials)
    print("\n".join(section))
    write(told.out, HEADING, TOOL, section)


if __name__ == "__main__":
    main()
