"""Choose the council's settings: ``python -m benchmarks.choose``.

    python scripts/train_shipped.py BARS --end 2024-01-01 --out MODELS
    python -m benchmarks.choose --data BARS --models MODELS --tapes TAPES

Agents that have seen nothing of 2024 are asked about it, four markets, and the compiled consensus
plays their opinions under every setting: one moved at a time, the others as the specification
starts them. A setting leaves its start only if another value is better on the score that it is
about by more than twice the standard error of the difference (markets averaged hour by hour, so
that what they share counts once). Nothing of 2025 is read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.artifacts import FolderStore, versions
from agents.registry import load_agent
from benchmarks.scores import FILE, HORIZON_BARS, MARKETS, Rows, arguments, rows_of, show
from consensus.kernel import Panel, fold
from consensus.settings import AGENTS, CouncilSettings, DecisionRules
from data.files import read_bars
from domain.ports import Agent
from domain.times import parse_iso
from sim.council_panel import forecasts_of, panel_of
from sim.panel import Range
from sim.scoring import Floats, Mask, Truth
from sim.statistics.comparing import dm_t
from sim.tapes import TapeStore

HEADING, TOOL = "How its settings were chosen", "benchmarks.choose"
START, STOP = parse_iso("2024-01-01"), parse_iso("2025-01-01")
OUT = Path("docs/consensus.md")


class Grid(NamedTuple):
    """Values of a setting, and the score of :data:`benchmarks.scores.SCORES` that it is about."""

    values: Sequence[Any]
    about: str


GRIDS: Mapping[str, Grid] = {
    "half_life": Grid((3_000, 5_000, 10_000, 20_000, 50_000), "gain"),
    "eta": Grid((0.25, 0.5, 1.0, 2.0), "gain"),
    "floor": Grid((1e-4, 1e-3, 1e-2), "gain"),
    "stack_spread": Grid((0.1, 0.3, 1.0), "gain"),
    "platt_spread": Grid(((0.01, 0.05), (0.02, 0.1), (0.05, 0.3)), "gain"),
    "base_weight": Grid((500, 2_000, 8_000), "gain"),
    "debate_step": Grid((0.0, 0.02, 0.05, 0.1, 0.2), "gain"),
    "boa_forget": Grid((0.0, 1e-5, 1e-4, 5e-4, 2e-3), "pinball"),
    "conformal_rate": Grid((0.0, 2e-4, 5e-4, 0.002, 0.005), "pinball"),
    "risk_spread": Grid(((0.02, 0.01), (0.1, 0.05), (0.3, 0.2), (1.0, 0.5)), "risk_brier"),
}
START_SETTINGS = replace(CouncilSettings(), boa_forget=5e-4, conformal_rate=0.002)


class Market(NamedTuple):
    """A market's panel and what happened on it."""

    name: str
    panel: Panel
    truth: Truth
    use: Mask


def loaded(models: Path) -> dict[str, Agent]:
    """Return every agent that can speak of bars alone, by the models of a folder."""
    store = FolderStore(models)
    found = {}
    for name in AGENTS:
        if name == "microstructure":  # bars have no book
            continue
        agent = load_agent(name, store, HORIZON_BARS)
        if any(model.problem or not versions(models, model.name) for model in agent.models):
            print(f"  {name} is left out: {models} has no model of it", file=sys.stderr)
            continue
        found[name] = agent.agent
    return found


def market_of(name: str, file: Path, agents: Mapping[str, Agent], tapes: TapeStore) -> Market:
    """Ask everybody about a market's 2024."""
    where = Range.of(read_bars(file), START, STOP, HORIZON_BARS)
    memory = where.memory()
    tape = tapes.record(agents, memory, where.start_ms, horizon=HORIZON_BARS)
    panel = panel_of(where, memory, tape, agents, CouncilSettings(), DecisionRules().min_liquidity)
    return Market(name, panel, where.truth, where.labels.valid)


def scored(market: Market, settings: CouncilSettings) -> Rows:
    """Return the rows of the council's scores on a market, and ``ts`` of each."""
    said = forecasts_of(fold(market.panel, settings))
    use = market.use & said.awake
    return {**rows_of(said, market.truth, use), "ts": market.truth.ts[use].astype(np.float64)}


def hourly(one: Sequence[Rows], other: Sequence[Rows], about: str) -> Floats:
    """Return the differences of two settings, hour by hour over all markets."""
    stamps = np.concatenate([rows["ts"] for rows in one]) // 3_600_000
    more = np.concatenate([b[about] - a[about] for a, b in zip(one, other, strict=True)])
    _, at = np.unique(stamps, return_inverse=True)
    return np.asarray(np.bincount(at, more) / np.bincount(at))


def moved(markets: Sequence[Market]) -> list[list[str]]:
    """Return the table's lines, and print each as it comes."""
    start, chosen = START_SETTINGS, CouncilSettings()
    base, lines = [scored(market, start) for market in markets], []
    for name, grid in GRIDS.items():
        for value in grid.values:
            own = value == getattr(start, name)
            rows = base if own else [scored(m, replace(start, **{name: value})) for m in markets]
            more = hourly(base, rows, grid.about)
            t = None if own else dm_t(more if grid.about == "gain" else -more)
            better = "" if t is None else f"{t:+.1f}"
            means = [
                f"{np.mean([r[key].mean() for r in rows]):.{digits}f}"
                for key, digits in (("gain", 3), ("pinball", 4), ("coverage", 2), ("risk_brier", 6))
            ]
            mark = " **chosen**" if value == getattr(chosen, name) else " start" if own else ""
            line = [f"`{name}`", f"{value}{mark}", *means, grid.about, better]
            lines.append(line)
            print("  " + " | ".join(line), flush=True)
    return lines


def main() -> None:
    """Ask, search, print and write."""
    parser = arguments(TOOL, __doc__)
    parser.add_argument("--models", type=Path, required=True, help="trained on bars before 2024")
    parser.add_argument("--markets", nargs="+", default=MARKETS)
    parser.set_defaults(out=OUT)
    told = parser.parse_args()
    agents, tapes = loaded(told.models), told.tapes or TapeStore()
    markets = []
    for name in told.markets:
        markets.append(market_of(name, told.data / FILE.format(name), agents, tapes))
        print(f"  {name}: {int(markets[-1].use.sum()):,} rows, {', '.join(agents)}", flush=True)
    heads = (
        "setting",
        "value",
        "gain ×10⁴",
        "pinball, bp",
        "coverage, %",
        "risk Brier",
        "about",
        "t",
    )
    lines = [f"| {' | '.join(line)} |" for line in (heads, ["---"] * 8, *moved(markets))]
    who = f"2024, {', '.join(told.markets)}; agents: {', '.join(agents)}; means over markets."
    show(told.out, HEADING, TOOL, [who, "", *lines])


if __name__ == "__main__":
    main()
