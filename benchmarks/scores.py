"""Scores of agents on 2025 as rows whose mean they are, tables of them, and their document."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.files import read_bars
from domain import scores as proper
from domain.opinion import ADVERSE_MOVE
from domain.ports import Agent
from domain.times import parse_iso
from serving.system import SystemClock, git_commit
from serving.trials import Look, prepare, record
from sim.panel import Range, hear
from sim.scoring import SCORED, Floats, Forecasts, Mask, Truth, pinball_losses
from sim.statistics.comparing import block_bootstrap, dm_t
from sim.tapes import TapeStore

FILE = "{}USDT-binance-spot-5m-20220801-20251231.parquet"
MARKETS = ("BTC", "ETH", "SOL", "XRP")
START, STOP, HORIZON_BARS = parse_iso("2025-01-01"), parse_iso("2026-01-01"), 5
OUT, TRIALS = Path("docs/models.md"), Path("docs/trials.csv")


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
    """Return every score as values of the n rows used, whose mean it is; none of what is unsaid."""
    y, q, fell = truth.log_return[use], said.quantiles[use], truth.drop[use] > ADVERSE_MOVE
    p, risk, up = said.p_up[use], said.risk_down[use], truth.up[use]
    low, high = q[:, SCORED[0]], q[:, SCORED[2]]
    rows: dict[str, Floats] = {
        "gain": 1e4 * (0.25 - proper.brier(p, up)),
        "auc": auc_rows(p, up),
        "pinball": 1e4 * pinball_losses(q, y),
        "coverage": np.where(proper.covered(low, high, y), 100.0, 0.0),
    }
    if np.isfinite(risk).all():
        rows |= {"risk_brier": proper.brier(risk, fell), "risk_auc": auc_rows(risk, fell)}
    return rows


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


def asked(
    what: str, agents: Mapping[str, Agent], file: Path, tapes: TapeStore | None = None,
    log: Path | None = None,
) -> dict[str, Rows]:  # fmt: skip
    """Ask every agent about 2025, log the look, and return the rows of its scores, by label.

    Parameters
    ----------
    what : the question, for the trial log. ``agents`` : by label.
    tapes : where opinions are kept, and not asked for again.
    """
    where = Range.of(read_bars(file), START, STOP, HORIZON_BARS)
    question = f"{where.past.symbol} 5m: {what}; {len(agents)} configurations"
    look = Look("evaluate", START, STOP, question, git_commit())
    prepare(log, look)
    memory, found = where.memory(), {}
    for label, agent in agents.items():
        said = hear(where, memory, {agent.name: agent}, tapes=tapes).agents[agent.name]
        found[label] = rows_of(said, where.truth, where.labels.valid & said.awake)
        print(f"  {what}, {label}: {short(found[label])}", flush=True)
    told = "; ".join(f"{label}: {short(rows)}" for label, rows in found.items())
    record(log, look, told, SystemClock().now())
    return found


def short(rows: Rows) -> str:
    """Return every score's mean in one line."""
    return ", ".join(
        f"{score.title} {rows[key].mean():.{score.digits}f}"
        for key, score in SCORES.items()
        if key in rows
    )


def with_errors(rows: Rows) -> list[str]:
    """Return mean ± standard error of every score."""
    return [_cell(rows[key], score) if key in rows else "–" for key, score in SCORES.items()]


def difference(old: Rows, new: Rows) -> list[str]:
    """Return new − old, its error, and t, positive where new is better."""
    cells = []
    for key, score in SCORES.items():
        if not (key in old and key in new):
            cells.append("–")
            continue
        more = new[key] - old[key]
        t = dm_t(score.sign * more) if score.sign else None
        cells.append(_cell(more, score) + ("" if t is None else f" ({t:+.1f})"))
    return cells


def _cell(values: Floats, score: Score) -> str:
    found = block_bootstrap(values)
    assert found is not None
    return f"{found.mean:.{score.digits}f} ± {found.se:.{score.digits}f}"


def table(
    heads: Sequence[str], lines: Sequence[Sequence[str]], more: Sequence[str] = ()
) -> list[str]:
    """Return a Markdown table: columns of ``heads``, then every score's, then ``more``."""
    titles = [*heads, *(score.title for score in SCORES.values()), *more]
    return [f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *lines)]


def arguments(tool: str, doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of a tool that scores agents by tapes and writes into the document."""
    parser = argparse.ArgumentParser(prog=tool, description=(doc or "").splitlines()[0])
    samples = Path(os.environ.get("CONCLAVE_SAMPLES", "."))
    parser.add_argument("--data", type=Path, default=samples, metavar="FOLDER")
    parser.add_argument(
        "--tapes", type=lambda text: TapeStore(Path(text)), metavar="FOLDER",
        help="to keep opinions in",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--trials", type=Path, default=TRIALS)
    return parser


def show(path: Path, heading: str, tool: str, lines: Sequence[str]) -> None:
    """Print a table and put it into the document."""
    section = ["", *lines, ""]
    print("\n".join(section))
    write(path, heading, tool, section)


def write(path: Path, heading: str, tool: str, section: Sequence[str]) -> None:
    """Put the tables between the two marks of a document; what stands around them stays."""
    begin, end = f"<!-- by python -m {tool} -->", "<!-- end -->"
    text = path.read_text(encoding="utf-8") if path.exists() else "# Models\n"
    if begin not in text:
        text += f"\n## {heading}\n\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    body = "\n".join(section)
    path.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")
