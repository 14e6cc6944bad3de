"""Trainings small enough for tests, through the command line in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sim.worlds import PlantedEdge
from tests.command_line import YEAR_2024
from tests.data_fixtures import write_parquet

END = "2024-02-01"
TFT = (
    "--model", "tft", "--steps", "12", "--with", "schedule.check_every=4",
    "--with", "schedule.batch=16", "--with", "schedule.warm_up=4", "--with", "hidden=4",
    "--with", "validation=100",
)  # fmt: skip
LONGER = ("--steps", "60")  # leaves time to be killed in
BASELINE = ("--model", "baseline", "--with", "trend.rounds=8", "--with", "trend.rows_a_leaf=200")
_SECONDS = 240.0


def bars_of(
    folder: Path, n: int = 6_000, symbol: str = "BTC/USDT", timeframe: str = "5m", seed: int = 5
) -> Path:
    """Write generated bars of 2024, named as files of bars are."""
    frame = PlantedEdge(seed, symbol=symbol, start_ms=YEAR_2024, timeframe=timeframe).bars(
        YEAR_2024, n
    )
    return write_parquet(folder / named(symbol, timeframe), frame)


def named(symbol: str, timeframe: str = "5m") -> str:
    """The name of a file of bars."""
    return f"{symbol.replace('/', '')}-binance-spot-{timeframe}-made.parquet"


def started(root: Path, *words: str | Path, **env: str) -> subprocess.Popen[str]:
    """Start ``conclave train`` with VAR_DIR ``root`` and one thread."""
    told = ["--set", f"VAR_DIR={root}", "--set", f"TRIALS_LOG={root / 'trials.csv'}"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "serving.cli", "train", *map(str, words), *told],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**kept, "OMP_NUM_THREADS": "1", **env},
    )  # fmt: skip


def trained(root: Path, *words: str | Path, **env: str) -> tuple[int, dict[str, Any], str]:
    """Run ``conclave train --json`` to its end; returns exit code, what it printed and stderr."""
    process = started(root, *words, "--json", **env)
    out, err = process.communicate(timeout=_SECONDS)
    return process.returncode, json.loads(out) if out else {}, err


def wait_for(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something happened; fail if the process ends before."""
    until = time.monotonic() + _SECONDS
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def checkpoints(root: Path, name: str = "tft/trend") -> list[Path]:
    """The checkpoints that trainings left behind."""
    return sorted((root / "models" / name / "checkpoints").glob("*.checkpoint"))


def figures(card: Mapping[str, Any]) -> tuple[Any, Any]:
    """What must be equal where a training is repeated."""
    return card["files"], card["metrics"]
