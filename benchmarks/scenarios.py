"""What held on bad days: ``python -m benchmarks.scenarios``.

Every scenario that ships, through the trading loop and its limits, as ``conclave scenario run
--all`` plays it. No time is measured: the same code gives the same table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.scores import show
from serving.commands.common import settings_from
from serving.scenarios import run, scenario_for, shipped, with_its_settings

HEADING, TOOL, OUT = "What held", "benchmarks.scenarios", Path("docs/scenarios.md")
HEAD = (
    "scenario", "what happens", "entries", "refused most", "closed most", "modes", "fall of equity",
    "highest exposure", "tests of laws", "broken",
)  # fmt: skip


def main() -> None:
    """Run them all, print and write the table."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    rows = [HEAD, ("---",) * len(HEAD)]
    for name in shipped():
        scenario = scenario_for([name])
        rows.append(_row(run(scenario, with_its_settings(scenario, settings_from), "")))
        print("  " + " | ".join(rows[-1]), flush=True)
    show(told.out, HEADING, TOOL, [f"| {' | '.join(row)} |" for row in rows])


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    modes = " → ".join(["ACTIVE", *(mode for _, mode in found["modes"])])
    missed = [each["what"] for each in found["expected"] if not each["met"]]
    broken = sum(law["broken"] for law in found["laws"])
    return (
        found["name"], found["about"], f"{found['entries']:,}", _most(found["refused"]),
        _most(found["exits"]), modes, f"{found['worst_fall']:.1%}",
        f"{found['highest_exposure']:.0%}", f"{sum(law['checked'] for law in found['laws']):,}",
        f"{broken}" + (f", not seen: {', '.join(missed)}" if missed else ""),
    )  # fmt: skip


def _most(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in list(counts.items())[:2]) or "–"


if __name__ == "__main__":
    main()
