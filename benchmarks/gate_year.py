"""Tables of what gates were worth: ``python -m benchmarks.gate_year REPORT.json …``.

Reads reports that ``conclave gate evaluate --json`` printed, one table each, and computes nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.scores import show
from rl.evaluate import GATE, HOLD, NONE, RANDOM, SKIPS

HEADING, TOOL, OUT = "What it was worth in 2025", "benchmarks.gate_year", Path("docs/gate.md")
HEAD = (
    "who", "net, bp", "over no gate, bp", "95 %", "trades", "turnover", "costs, bp", "vetoed",
    "by seed, bp",
)  # fmt: skip
WHO = (GATE, NONE, RANDOM, SKIPS, HOLD)


def main() -> None:
    """Print and write a table for every report."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    lines: list[str] = []
    for path in told.reports:
        report = json.loads(path.read_text(encoding="utf-8"))
        lines += [*([""] if lines else []), _about(report), ""]
        rows = [HEAD, ("---",) * len(HEAD)]
        rows += [_row(who, report["contestants"][who]) for who in WHO]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    show(told.out, HEADING, TOOL, lines)


def _about(report: dict[str, Any]) -> str:
    folds, data = report["folds"], report["data"]
    learned = f"{folds[0]['learned_on']:,}"
    if len(folds) > 1:
        learned += f" to {folds[-1]['learned_on']:,}"
    asked = report["contestants"][GATE]["asked"]
    return (
        f"`{report['strategy']}`, profile {report['profile']}, {data['symbol']} "
        f"{data['start'][:10]} to {data['end'][:10]}, {1e4 * report['cost']:.0f} bp a round trip; "
        f"{len(report['seeds'])} seeds, {len(folds)} × trained, on {learned} bars before; "
        f"{asked:,.0f} sides to judge:"
    )


def _row(who: str, row: dict[str, Any]) -> tuple[str, ...]:
    ends, veto, seeds = row["over_no_gate_interval"], row.get("veto"), row.get("net_bps_by_seed")
    return (
        who, f"{row['net_bps']:+,.0f}", f"{row['over_no_gate_bps']:+,.0f}",
        "" if ends is None or who == NONE else f"{ends[0]:+,.0f} … {ends[1]:+,.0f}",
        f"{row['trades']:,.0f}", f"{row['turnover']:,.0f}", f"{row['costs_bps']:,.0f}",
        "" if veto is None else f"{veto:.2%}",
        "" if not seeds else ", ".join(f"{value:+,.0f}" for value in seeds),
    )  # fmt: skip


if __name__ == "__main__":
    main()
