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
from typing import NamedTuple

import numpy as np

from agents.artifacts import load, versions
from agents.baseline import Baseline
from agents.heads import TARGETS
from agents.training.baseline import BaselineConfig, BaselineModel
from agents.training.dataset import LIBRARIES, Source
from data.files import file_sha256, read_bars
from domain import scores as proper
from domain.opinion import ADVERSE_MOVE
from domain.times import parse_iso
from serving.system import SystemClock, git_commit
from serving.trials import Look, prepare, record
from sim.panel import Range, hear
from sim.scoring import SCORED, Floats, Forecasts, Mask, Truth, pinball_losses
from sim.statistics.comparing import block_bootstrap, dm_t

FILE = "{}USDT-binance-spot-5m-20220801-20251231.parquet"
MARKETS = ("BTC", "ETH", "SOL", "XRP")
START, STOP, HORIZON_BARS = parse_iso("2025-01-01"), parse_iso("2026-01-01"), 5
OUT, TRIALS = Path("docs/models.md"), Path("docs/trials.csv")
HEADING = "## Baseline: scikit-learn or LightGBM"
BEGIN, END = "<!-- by python -m benchmarks.libraries -->", "<!-- end -->"
NAMES = dict(zip(LIBRARIES, ("scikit-learn", "LightGBM"), strict=True))


class Score(NamedTuple):
    """A column of the tables; ``sign`` is 1 where more is better, −1 where less is, else 0."""

    title: str
    digits: int
    sign: int


SCORES = {
    "gain": Score("Brier gain ×10⁴", 2, 1),
    "auc": Score("AUC", 4, 1),
    "pinball": Score("pinball, bp", 4, -1),
    "coverage": Score("coverage, %", 2, 0),
    "risk_brier": Score("risk Brier", 5, -1),
    "risk_auc": Score("risk AUC", 4, 1),
}
Rows = Mapping[str, Floats]  # score → (n,) values whose mean it is


def rows_of(said: Forecasts, truth: Truth, use: Mask) -> Rows:
    """Return every score as values of the n rows used, whose mean it is."""
    y, q, fell = truth.log_return[use], said.quantiles[use], truth.drop[use] > ADVERSE_MOVE
    p, risk, up = said.p_up[use], said.risk_down[use], truth.up[use]
    low, high = q[:, SCORED[0]], q[:, SCORED[2]]
    return {
        "gain": 1e4 * (0.25 - proper.brier(p, up)),
        "auc": auc_rows(p, up),
        "pinball": 1e4 * pinball_losses(q, y),
        "coverage": 100.0 * proper.covered(low, high, y),
        "risk_brier": proper.brier(risk, fell),
        "risk_auc": auc_rows(risk, fell),
    }


def auc_rows(p: Floats, event: Mask) -> Floats:
    """Return AUC plus each row's influence on it (DeLong et al. 1988), (n,); the mean is AUC."""
    yes, no = np.sort(p[event]), np.sort(p[~event])
    over_no, over_yes = (
        (np.searchsorted(one, p, "left") + np.searchsorted(one, p, "right")) / (2 * len(one))
        for one in (no, yes)
    )
    area, share = over_no[event].mean(), event.mean()
    pull = np.where(event, (over_no - area) / share, (1.0 - over_yes - area) / (1.0 - share))
    return np.asarray(area + pull)


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


def short(rows: Rows) -> str:
    return ", ".join(
        f"{score.title} {rows[key].mean():.{score.digits}f}" for key, score in SCORES.items()
    )


def with_errors(rows: Rows) -> list[str]:
    """Return mean ± standard error of every score."""
    cells = []
    for key, score in SCORES.items():
        found = block_bootstrap(rows[key])
        assert found is not None
        cells.append(f"{found.mean:.{score.digits}f} ± {found.se:.{score.digits}f}")
    return cells


def difference(sklearn: Rows, lightgbm: Rows) -> list[str]:
    """Return LightGBM − scikit-learn, its error, and t, positive where LightGBM is better."""
    cells = with_errors({key: lightgbm[key] - sklearn[key] for key in SCORES})
    for at, (key, score) in enumerate(SCORES.items()):
        t = dm_t(score.sign * (lightgbm[key] - sklearn[key])) if score.sign else None
        cells[at] += "" if t is None else f" ({t:+.1f})"
    return cells


def table(head: str, lines: Sequence[Sequence[str]]) -> list[str]:
    titles = [head, "library", *(score.title for score in SCORES.values())]
    return [f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *lines)]


def by_market(found: Mapping[str, Sequence[Rows]]) -> list[str]:
    """Return the table of one seed: a market's two libraries and their difference."""
    lines = []
    for market, both in found.items():
        lines += [
            [market, NAMES[name], *with_errors(r)] for name, r in zip(LIBRARIES, both, strict=True)
        ]
        lines.append([market, "difference (t)", *difference(*both)])
    return table("market", lines)


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
    return table("BTC", lines)


def write(path: Path, section: Sequence[str]) -> None:
    """Put the tables between the two marks of a document; what stands around them stays."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Models\n"
    if BEGIN not in text:
        text += f"\n{HEADING}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    body = "\n".join(section)
    path.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


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
    write(told.out, section)


if __name__ == "__main__":
    main()
