"""How much a model's scores on 2025 owe to its seed: ``python -m benchmarks.seeds``.

    for n in 8 9 10 11; do
        python scripts/train_shipped.py BARS --names tft/trend tft/return tft/risk chronos \
            --seed $n --out MODELS/$n
    done
    python -m benchmarks.seeds --data BARS --models MODELS/* --agents tft chronos

What ships is the first seed; each folder of ``--models`` is one more. All are asked about BTC/USDT
spot bars of 2025, every look goes to the trial log, and nothing is chosen by it: what ships is the
seed that was fixed beforehand. With ``--tapes`` opinions are kept and not asked for again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agents.artifacts import FolderStore, load, versions
from agents.registry import load_agent
from benchmarks.scores import (
    FILE,
    HORIZON_BARS,
    SCORES,
    Rows,
    arguments,
    asked,
    show,
    table,
    with_errors,
)  # fmt: skip
from domain.ports import Agent

AGENTS = ("tft", "chronos")
HEADING, TOOL = "Seeds", "benchmarks.seeds"
MARKET = "BTC"


def agent_of(name: str, folder: Path) -> tuple[Agent, int]:
    """Return an agent with the models of a folder, none of them another's, and their seed.

    Raises
    ------
    SystemExit : if the folder lacks one of them, or they are not of one seed.
    """
    loaded = load_agent(name, FolderStore(folder), HORIZON_BARS)
    seeds = set()
    for model in loaded.models:
        if model.problem or not versions(folder, model.name):
            raise SystemExit(f"{folder} lacks {model.name}")
        seeds.add(load(folder / model.name / model.version).card.seed)
    if len(seeds) != 1:
        raise SystemExit(f"{folder}: {name} must be of one seed, not of {sorted(seeds)}")
    return loaded.agent, seeds.pop()


def lines(name: str, found: Mapping[str, Rows]) -> list[list[str]]:
    """Return a row per seed, and the mean and standard deviation over them."""
    made = [[name, seed, *with_errors(rows)] for seed, rows in found.items()]
    cells = []
    for key, score in SCORES.items():
        means = np.array([rows[key].mean() for rows in found.values()])
        cells.append(f"{means.mean():.{score.digits}f} (s.d. {means.std(ddof=1):.{score.digits}f})")
    return [*made, [name, f"mean of {len(found)}", *cells]]


def main() -> None:
    """Score every seed, print and write."""
    parser = arguments(TOOL, __doc__)
    parser.add_argument("--models", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--agents", nargs="+", default=AGENTS, choices=("baseline", *AGENTS))
    told = parser.parse_args()
    made: list[Sequence[str]] = []
    for name in told.agents:
        shipped = load_agent(name, FolderStore(Path(os.devnull)), HORIZON_BARS)
        own = {str(card_seed(shipped.models[0].name)): shipped.agent}
        own |= {str(seed): agent for agent, seed in (agent_of(name, f) for f in told.models)}
        file, what = told.data / FILE.format(MARKET), f"{name}, seeds {', '.join(own)}"
        made += lines(name, asked(what, own, file, told.tapes, told.trials))
    show(told.out, HEADING, TOOL, table((MARKET, "seed"), made))


def card_seed(name: str) -> int:
    """Return the seed of what ships."""
    return FolderStore(Path(os.devnull)).open(name).card.seed


if __name__ == "__main__":
    main()
