"""What ships, on four markets of 2025, beside EWMA and the agents' plain average.

    python -m benchmarks.markets --data FOLDER_OF_BARS [--tapes FOLDER]

All models were trained on bars before 2025. EWMA's residual quantiles and its curve of adverse
moves are each market's own, of the same time. Only rows on which everybody spoke are scored; looks
go to the trial log. Standard errors and t are those of ``conclave evaluate``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agents.registry import build_agents
from agents.training.dataset import VOLATILITY_FROM, build_dataset
from agents.training.volatility import fit_logistic
from benchmarks.scores import (
    FILE,
    HORIZON_BARS,
    MARKETS,
    START,
    STOP,
    Rows,
    arguments,
    rows_of,
    short,
    show,
    table,
    with_errors,
)
from data.files import read_bars
from domain.quantiles import CANONICAL_LEVELS, QuantileTable
from serving.system import SystemClock, git_commit
from serving.trials import Look, prepare, record
from sim.panel import Range, hear
from sim.pools import equal_weight
from sim.scoring import Forecasts
from sim.statistics.comparing import dm_t
from sim.tapes import TapeStore

HEADING, TOOL = "Four markets of 2025", "benchmarks.markets"
NAMES = ("baseline", "tft", "chronos", "risk", "climatology")
MEAN, EWMA = "mean of these five", "EWMA"


def ewma_of(where: Range) -> Forecasts:
    """Return EWMA's forecasts of a range, everything fitted on bars before 2025."""
    data = build_dataset(where.past, STOP, HORIZON_BARS, features=False)
    known = data.known_by(VOLATILITY_FROM, START)
    unit = np.quantile(data.labels.y[known] / data.ewma[known], CANONICAL_LEVELS)
    sigma = data.ewma[where.first :]
    said = Forecasts.silent(len(sigma))
    said.quantiles[:], said.sigma[:] = sigma[:, None] * unit, sigma
    said.p_up[:] = 1.0 - float(QuantileTable.of(CANONICAL_LEVELS, unit).cdf(0.0)[0])
    said.risk_down[:] = fit_logistic(data.ewma, data.down, known).chance(sigma)
    return said


def scored(file: Path, tapes: TapeStore | None, log: Path | None) -> dict[str, Rows]:
    """Ask everybody about a market's 2025, log the look, and return the rows of their scores."""
    where = Range.of(read_bars(file), START, STOP, HORIZON_BARS)
    what = f"{where.past.symbol} 5m: {', '.join(NAMES)}, their mean and EWMA"
    look = Look("evaluate", START, STOP, what, git_commit())
    prepare(log, look)
    agents = build_agents(NAMES, horizon_bars=HORIZON_BARS)
    said: dict[str, Forecasts] = dict(hear(where, where.memory(), agents, tapes=tapes).agents)
    said |= {MEAN: equal_weight(said), EWMA: ewma_of(where)}
    use = where.labels.valid.copy()
    for columns in said.values():
        use &= columns.awake
    found = {name: rows_of(columns, where.truth, use) for name, columns in said.items()}
    told = "; ".join(f"{name}: {short(rows)}" for name, rows in found.items())
    record(log, look, told, SystemClock().now())
    print(f"  {what}: {int(use.sum()):,} rows", flush=True)
    return found


def lines(market: str, found: Mapping[str, Rows]) -> list[list[str]]:
    """Return a row per forecaster: scores, and how it compares with EWMA, baseline and mean."""
    ewma, trees, mean = (found[name] for name in (EWMA, "baseline", MEAN))
    made = []
    for name, rows in found.items():
        percent = 100.0 * (rows["pinball"].mean() / ewma["pinball"].mean() - 1.0)
        cells = [
            f"{percent:+.2f} % ({_t(ewma['pinball'] - rows['pinball'])})",
            f"{_t(rows['gain'] - trees['gain'])} / {_t(trees['pinball'] - rows['pinball'])}",
            f"{_t(mean['gain'] - rows['gain'])} / {_t(rows['pinball'] - mean['pinball'])}",
        ]
        made.append([market, name, *with_errors(rows), *cells])
    return made


def _t(better: np.ndarray) -> str:
    t = dm_t(better) if np.any(better != 0.0) else None
    return "–" if t is None else f"{t:+.1f}"


def main() -> None:
    """Score every market, print and write."""
    parser = arguments(TOOL, __doc__)
    told = parser.parse_args()
    made: list[Sequence[str]] = []
    for market in MARKETS:
        made += lines(market, scored(told.data / FILE.format(market), told.tapes, told.trials))
    heads = ("pinball vs EWMA (t)", "t of gain / pinball over baseline", "t of the mean over it")
    show(told.out, HEADING, TOOL, table(("market", "forecaster"), made, heads))


if __name__ == "__main__":
    main()
