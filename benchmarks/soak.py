"""Days of a market that goes wrong: ``python -m benchmarks.soak [--hours 2] [--speed 60]``.

The whole system as ``make run`` starts it where no exchange answers, its local exchange with a
random fault every minute of wall time (streams and answers of every kind). What came through is
read from the ledger and from what the system says of itself: the same report for an hour as for
two days.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.live import NOBODY, Live, live_system
from benchmarks.scores import show

HEADING, TOOL, OUT = "Soak", "benchmarks.soak", Path("docs/venue.md")
STEP_MS, DAY_MS = 300_000, 86_400_000
FAULTS = {"longest_s": 20, "seed": 7, "classes": ["stream", "rest"]}


def main() -> None:
    """Run for so many hours of wall time, print and write the report."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=2.0, help="of wall time")
    parser.add_argument("--speed", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two faults")
    parser.add_argument("--local", action="store_true", help="without Ray")
    parser.add_argument("--calm", action="store_true", help="without faults")
    parser.add_argument("--set", action="append", default=[], help="a setting, NAME=VALUE")
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    flags = ["--source", "auto", "--speed", str(told.speed), *(["--local"] if told.local else [])]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "faults.yml"
        body = {"random": {**FAULTS, "every_s": told.every}}
        file.write_text(json.dumps(body), encoding="utf-8")  # which is YAML as well
        settings = [NOBODY, *told.set, *([] if told.calm else [f"feed.faults={file}"])]
        with live_system(*flags, settings=settings) as system:
            report = soaked(system, told.hours, told.speed, calm=told.calm)
            rows = list(lines_of(report))
    print(f"{(time.monotonic() - began) / 60:.0f} minutes in all")
    show(told.out, HEADING, TOOL, rows)


def soaked(system: Live, hours: float, speed: float, *, calm: bool) -> dict[str, Any]:
    """Let the system live for so long and return what came of it."""
    until, said = time.monotonic() + hours * 3_600, 0.0
    start = last_open(system)
    report: dict[str, Any] = {}
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(30.0, left))
        if time.monotonic() - said >= 300.0 or left < 31.0:
            said = time.monotonic()
            report = figures(system, start, speed, calm=calm)
            print(json.dumps({k: v for k, v in report.items() if k != "memory"}), flush=True)
    report = figures(system, start, speed, calm=calm)
    report["sound"] = asked(system, "ledger", "verify") == 0
    report["parity"] = asked(system, "parity") == 0
    return report


def figures(system: Live, start: int, speed: float, *, calm: bool) -> dict[str, Any]:
    """Return what the ledger and the system tell of the time since an open (ms)."""
    health = told(f"{system.url}/v1/system/health")
    bars = {
        symbol: [row[0] for row in asked_of(
            system, "SELECT open_ms FROM bars WHERE symbol = ? AND open_ms > ? ORDER BY seq",
            symbol, start)]
        for symbol in ("BTC/USDT", "BTC/USDT:USDT")
    }  # fmt: skip
    ages = np.array([row[0] for row in asked_of(
        system, "SELECT ts - as_of FROM decisions WHERE origin = 'bar' AND as_of > ? ORDER BY seq",
        start + STEP_MS)], dtype=float)  # fmt: skip
    memory = [
        tuple(row)
        for row in asked_of(
            system, "SELECT at, rss_bytes FROM service_health WHERE service = 'desk' ORDER BY at"
        )
    ]
    feed = health["feed"] or {}
    venue = json.loads((system.folder / "run.json").read_text())["exchange_url"]
    faults = {} if calm else told(f"{venue}/admin/faults")
    spot = bars["BTC/USDT"]
    return {
        "days": (spot[-1] - spot[0] + STEP_MS) / DAY_MS if spot else 0.0,
        "bars": {symbol: len(opens) for symbol, opens in bars.items()},
        "lost": {symbol: lost(opens) for symbol, opens in bars.items()},
        "doubled": {symbol: len(opens) - len(set(opens)) for symbol, opens in bars.items()},
        "decisions": len(ages),
        "on_time": float(np.mean(ages <= STEP_MS)) if len(ages) else None,
        "within_s": [round(float(x) / 1e3 / speed, 3) for x in np.percentile(ages, (50, 99, 100))]
        if len(ages) else None,
        "down": float(np.mean(ages > 2 * STEP_MS)) if len(ages) else None,
        "feed": {name: feed.get(name) for name in (
            "messages", "bytes", "garbage", "reconnects", "longest_away_s", "gaps", "filled",
            "repeated", "compared", "different")},
        "faults": dict(Counter(faults.get("counts", {}))),
        "resources": {one["name"]: one["value"] for one in health["resources"]},
        "memory": memory,
        "slope_mb_h": slope(memory),
        "trades": health["rows"]["trades"],
    }  # fmt: skip


def lost(opens: Sequence[int]) -> int:
    """Return how many bars are missing between the first and the last."""
    ordered = sorted(set(opens))
    return sum((later - one) // STEP_MS - 1 for one, later in pairwise(ordered))


def slope(rows: Sequence[tuple[int, int]]) -> float | None:
    """Return how memory grows in the later half, MB per hour of wall time, by least squares.

    Of one process, resident: a share of pages that others use too moves with the others.
    """
    late = rows[len(rows) // 2 :]
    if len(late) < 5:
        return None
    hours = np.array([at for at, _ in late]) / 3.6e6
    return float(np.polyfit(hours - hours[0], [rss / 1e6 for _, rss in late], 1)[0])


def lines_of(report: dict[str, Any]) -> list[str]:
    """Return the report as rows of a table."""
    used, feed = report["resources"], report["feed"]

    def of(value: float | None, text: str) -> str:
        return "–" if value is None else text.format(value)

    within = ", ".join(f"{one:g}" for one in report["within_s"] or ())
    rows = [
        ("market days", f"{report['days']:.2f}"),
        ("bars, spot and perpetual", ", ".join(map(str, report["bars"].values()))),
        ("lost", ", ".join(map(str, report["lost"].values()))),
        ("doubled", ", ".join(map(str, report["doubled"].values()))),
        ("decisions", str(report["decisions"])),
        ("decided within a bar", of(report["on_time"], "{:.2%}")),
        ("close to decision, wall s: 50 %, 99 %, all", within),
        ("down: decided after two bars or more", of(report["down"], "{:.2%}")),
        ("lines opened again", str(feed["reconnects"])),
        ("longest until a lost line told something, s", of(feed["longest_away_s"], "{:.1f}")),
        ("bars by REST, told again", f"{feed['filled']}, {feed['repeated']}"),
        ("bars compared with those of 1m, different", f"{feed['compared']}, {feed['different']}"),
        ("messages, of them garbage", f"{feed['messages']}, {feed['garbage']}"),
        ("processor, share of all cores (limit .7)", of(used["cpu"], "{:.2f}")),
        ("memory, GB (limit 4)", of(used["memory"], "{:.2f}")),
        (
            "the desk's memory, later half, MB per hour",
            of(report["slope_mb_h"], "{:+.1f}"),
        ),
        ("received, MB per market hour (limit 100)", of(used["network"], "{:.1f}")),
        ("reconnects per market hour (limit 10)", of(used["reconnects"], "{:.2f}")),
        ("ledger", "sound" if report["sound"] else "BROKEN"),
        ("the session again, from its ledger", "equal" if report["parity"] else "DIFFERENT"),
        ("closed trades", str(report["trades"])),
        ("faults that struck", ", ".join(f"{k} {v}" for k, v in sorted(report["faults"].items()))),
    ]
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def last_open(system: Live) -> int:
    """Return the open of the last bar that was learned from, ms."""
    query = "SELECT max(as_of) FROM decisions WHERE origin = 'warm_up'"
    return int(asked_of(system, query)[0][0]) - STEP_MS


def asked_of(system: Live, query: str, *values: Any) -> list[Any]:
    """Read the ledger past everybody."""
    file = f"file:{system.folder / 'ledger.db'}?mode=ro"
    with sqlite3.connect(file, uri=True, timeout=30.0) as database:
        return database.execute(query, values).fetchall()


def asked(system: Live, *words: str) -> int:
    """Return the exit code of a command."""
    env = {**os.environ, "VAR_DIR": str(system.folder)}
    return subprocess.run([sys.executable, "-m", "serving.cli", *words], env=env, check=False,
                          stdout=subprocess.DEVNULL).returncode  # fmt: skip


def told(url: str) -> Any:
    """Return what a server answers; the venue may be struck by a fault of its own."""
    for wait in (0.5, 1.0, 2.0, 5.0, 10.0, None):
        try:
            return httpx.get(url, timeout=10.0).raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            if wait is None:
                raise
            time.sleep(wait)
    return None


if __name__ == "__main__":
    main()
