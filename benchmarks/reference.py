"""The reference table, made again: ``python -m benchmarks.reference [--data FILE] [--quarterly]``.

Every row is fitted once on BTC/USDT spot bars before 2025 and scored on 2025, as the project's
reference table defines it. Ours stands beside the reference, with the difference and, where one is
set, the tolerance. Definitions are fixed; nothing is chosen on 2025.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.training.dataset import Dataset, build_dataset
from data.files import read_bars
from domain import scores as proper
from domain.market import BarFrame
from domain.times import DAY_MS, parse_iso
from sim.baselines import Inputs, fit_all, forecast_all, refit_forward
from sim.baselines.contract import Rows
from sim.baselines.fitting import taken
from sim.baselines.logistic import RSI_REFERENCE, Line
from sim.outcomes import truth_of
from sim.scoring import Floats, Forecasts, Scores, Truth, scores
from sim.statistics.comparing import block_bootstrap, ratio_bootstrap

FILE = "BTCUSDT-binance-spot-5m-20220801-20251231.parquet"
OUT = Path("docs/baselines.md")
END, STOP = parse_iso("2025-01-01"), parse_iso("2026-01-01")
HORIZON_BARS = 5
MEMORY_MS = 91 * DAY_MS  # forecasts before 2025 that the rescaled width remembers
_LOW, _HIGH = 2, 10  # .1 and .9 among the canonical levels

# tolerances: gain 1 where the row is fully defined, else two standard errors of the reference;
# pinball .02 bp; AUC of an adverse event .002
DIRECTIONS = (
    # label, row, gain, tolerance, AUC, accuracy, DM t against ½
    ("½", "half", 0.0, 1.0, 0.5, 50.0, None),
    ("base rate", "base_rate", -0.2, 1.0, 0.5, 50.0, -0.9),
    ("logistic on RSI(14) alone", "rsi_logistic", -0.3, 1.0, 0.5226, 51.4, -0.1),
    ("logistic, 54 features", "logistic_54", 5.8, 5.4, 0.5344, 52.6, 2.2),
    ("boosting, 54 features", "boosting", 8.8, 4.2, 0.5356, 52.6, 4.0),
    ("logistic + 3 boosted, × 0.8", "blend", 10.0, 3.6, 0.5361, 52.6, 5.4),
)
DISTRIBUTIONS = (
    # label, row, pinball bp, against EWMA %, coverage %, by tercile of σ25 %
    ("trailing 30-day quantiles", "trailing", 6.840, 5.3, 80.3, (88.0, 80.0, 72.0)),
    ("EWMA λ=.94", "ewma", 6.497, 0.0, 78.2, (76.6, 78.0, 80.0)),
    ("GARCH(1,1)-t", "garch", 6.482, -0.2, 78.6, (81.1, 77.8, 77.0)),
    ("HAR with intraday season", "har", 6.449, -0.7, 78.3, (78.5, 78.3, 78.1)),
    ("HAR + Parkinson ranges", "har_ranges", 6.421, -1.2, 78.6, (78.8, 78.6, 78.3)),
    ("boosted quantiles on y/σ̂", "boosting_quantile", 6.403, -1.4, 79.1, (79.3, 79.1, 78.9)),
    ("boosted variance", "boosting", 6.405, -1.4, 79.6, (80.5, 79.2, 79.1)),
    ("mean of the three best", "blend", 6.392, -1.62, 79.3, (79.9, 79.1, 78.9)),
    ("that, rescaled online", "blend_rescaled", 6.390, -1.64, 80.1, (80.5, 79.9, 79.9)),
)
RISKS = (
    # label, row, Brier, AUC, skill %
    ("base rate", "base_rate", 0.07352, 0.5, 0.0),
    ("logistic on EWMA σ", "ewma", 0.06418, 0.811, 12.7),
    ("logistic on HAR σ (with ranges)", "har_ranges", 0.06223, 0.836, 15.4),
    ("boosting", "boosting", 0.06160, 0.842, 16.2),
    ("mean of the last two", "blend", 0.06149, 0.843, 16.4),
)
ONE_SIGMA = (
    # label, row, AUC, skill %
    ("logistic on EWMA σ", "ewma", 0.682, 7.5),
    ("logistic on HAR σ (with ranges)", "har_ranges", 0.707, 9.9),
    ("boosting", "boosting", 0.717, 10.9),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure beside the reference's; ``error`` is its standard error by block bootstrap."""

    table: str
    row: str
    what: str
    ours: float
    reference: float | None = None
    tolerance: float | None = None
    error: float | None = None
    digits: int = 2

    @property
    def ok(self) -> str:
        """Whether the difference is within the tolerance; a dash without one."""
        if self.tolerance is None or self.reference is None:
            return "–"
        return "yes" if abs(self.ours - self.reference) <= self.tolerance + 1e-9 else "NO"

    def cells(self) -> list[str]:
        """Return the columns of the table."""
        d = self.digits
        own = f"{self.ours:.{d}f}" + (f" ± {self.error:.{d}f}" if self.error is not None else "")
        if self.reference is None:
            return [self.row, self.what, own, "–", "–", "–", "–"]
        told = "–" if self.tolerance is None else f"{self.tolerance:g}"
        away = f"{round(self.ours - self.reference, d) + 0.0:+.{d}f}"
        return [self.row, self.what, own, f"{self.reference:.{d}f}", away, told, self.ok]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Forecasts of the test rows with their outcomes and scores."""

    forecasts: Mapping[str, Forecasts]
    truth: Truth
    scores: Mapping[str, Scores]

    @classmethod
    def of(cls, forecasts: Mapping[str, Forecasts], truth: Truth) -> Scored:
        return cls(forecasts, truth, {name: scores(f, truth) for name, f in forecasts.items()})

    def number(self, row: str, key: str) -> float:
        value = self.scores[row][key]
        return float("nan") if value is None else float(value)

    def gain_error(self, row: str) -> float | None:
        gain = 0.25 - proper.brier(self.forecasts[row].p_up, self.truth.up)
        found = block_bootstrap(gain * 1e4)
        return None if found is None else float(found.se)

    def pinball(self, row: str) -> Floats:
        q = self.forecasts[row].quantiles[:, [_LOW, 6, _HIGH]]
        losses = proper.pinball(q, self.truth.log_return[:, None], np.array([0.1, 0.5, 0.9]))
        return np.asarray(losses.mean(axis=1))

    def terciles(self, row: str) -> Floats:
        q, volatility = self.forecasts[row].quantiles, self.truth.volatility
        inside = proper.covered(q[:, _LOW], q[:, _HIGH], self.truth.log_return)
        group = np.digitize(volatility, np.quantile(volatility, (1 / 3, 2 / 3)))
        return np.array([100.0 * inside[group == k].mean() for k in range(3)])


def directions(seen: Scored) -> Iterator[Figure]:
    """Return the figures of the first table."""
    table = "prob_up"
    for label, row, gain, tolerance, auc, accuracy, dm_t in DIRECTIONS:
        error = seen.gain_error(row)
        ours = seen.number(row, "brier_skill_1e4")
        yield Figure(table, label, "Brier gain ×10⁴", ours, gain, tolerance, error, 1)
        yield Figure(table, label, "AUC", seen.number(row, "auc"), auc, digits=4)
        hits = 100.0 * seen.number(row, "accuracy")
        yield Figure(table, label, "accuracy %", hits, accuracy, digits=1)
        if dm_t is not None:
            yield Figure(table, label, "DM t", seen.number(row, "dm_t"), dm_t, digits=1)
    slope = seen.number("boosting", "calibration_slope")
    yield Figure(table, "boosting, 54 features", "calibration slope", slope, 0.76)


def distributions(seen: Scored) -> Iterator[Figure]:
    """Return the figures of the second table."""
    table = "Quantiles p10 / p50 / p90"
    ewma = seen.pinball("ewma")
    for label, row, pinball, against, coverage, terciles in DISTRIBUTIONS:
        ours = seen.pinball(row)
        yield Figure(table, label, "pinball bp", 1e4 * ours.mean(), pinball, 0.02, digits=3)
        if row != "ewma":
            ratio = ratio_bootstrap(ours, ewma)
            error = None if ratio is None else float(ratio.se)
            change = 100.0 * (ours.mean() / ewma.mean() - 1.0)
            yield Figure(table, label, "against EWMA %", change, against, None, error)
        inside = 100.0 * seen.number(row, "coverage_80")
        yield Figure(table, label, "coverage %", inside, coverage, digits=1)
        for k, (found, told) in enumerate(zip(seen.terciles(row), terciles, strict=True)):
            name = f"coverage %, σ25 tercile {k + 1}"
            yield Figure(table, label, name, float(found), told, digits=1)
    qlike = seen.number("boosting", "qlike") - seen.number("ewma", "qlike")
    yield Figure(table, "boosted variance", "QLIKE against EWMA", qlike, -0.128, digits=3)


def risks(seen: Scored) -> Iterator[Figure]:
    """Return the figures of the third table, and of the fall beyond one σ."""
    table, sigma = "Adverse event > 0.5 %", "Drop > 1 σ of the trailing day"
    base = seen.number("base_rate", "risk_brier")
    for label, row, brier, auc, skill in RISKS:
        ours = seen.number(row, "risk_brier")
        yield Figure(table, label, "Brier", ours, brier, digits=5)
        found = seen.number(row, "risk_auc")
        yield Figure(table, label, "AUC", found, auc, 0.002, digits=4)
        yield Figure(table, label, "skill %", 100.0 * (1.0 - ours / base), skill, digits=1)
    extra = seen.number("har", "risk_auc")
    yield Figure(table, "logistic on HAR σ, no ranges", "AUC", extra, digits=4)
    base = seen.number("base_rate", "risk_sigma_brier")
    for label, row, auc, skill in ONE_SIGMA:
        found = seen.number(row, "risk_sigma_auc")
        yield Figure(sigma, label, "AUC", found, auc, 0.002, digits=4)
        ours = 100.0 * (1.0 - seen.number(row, "risk_sigma_brier") / base)
        yield Figure(sigma, label, "skill %", ours, skill, digits=1)


@dataclass(frozen=True, slots=True)
class Span:
    """A quarter, fitted an embargo of H bars before it starts."""

    start_ms: int
    end_ms: int
    fit_ms: int


def quarterly(frame: BarFrame, where: Rows, truth: Truth) -> Iterator[Figure]:
    """Fit the boosted classifier before every quarter of 2025, and score the year."""
    starts = [parse_iso(f"2025-{month:02d}-01") for month in (1, 4, 7, 10)]
    embargo = HORIZON_BARS * frame.step_ms
    spans = [Span(a, b, a - embargo) for a, b in zip(starts, [*starts[1:], STOP], strict=True)]
    found = refit_forward(frame, spans, HORIZON_BARS, ("boosting",), progress=say)
    seen = Scored.of({"boosting": taken(found["boosting"], where)}, truth)
    table, label = "Refitted quarterly", "boosting, 54 features"
    gain, error = seen.number("boosting", "brier_skill_1e4"), seen.gain_error("boosting")
    yield Figure(table, label, "Brier gain ×10⁴", gain, 10.3, 3.6, error, 1)
    yield Figure(table, label, "AUC", seen.number("boosting", "auc"), 0.5371, digits=4)


def static(data: Dataset) -> tuple[Scored, Rows, Line]:
    """Fit everything before 2025 and forecast 2025; also which rows, and the RSI line we fit."""
    inputs, ts = Inputs.of(data), data.bars.ts
    fits = fit_all(data, END, progress=say, inputs=inputs)
    fitted_line: Line = fits["rsi_logistic"]
    fits["rsi_logistic"] = RSI_REFERENCE
    rows = np.flatnonzero((ts >= END - MEMORY_MS) & (ts < STOP))
    told = forecast_all(fits, inputs, rows)
    scored = np.flatnonzero(data.labels.valid[rows] & (ts[rows] >= END))
    truth = truth_of(data.bars, data.labels).take(rows[scored])
    mine = {name: taken(columns, scored) for name, columns in told.items()}
    return Scored.of(mine, truth), rows[scored], fitted_line


def to_markdown(figures: list[Figure], notes: list[str]) -> str:
    """Return the document: one table a section, then the notes."""
    head = "| model | figure | ours | reference | difference | tolerance | ok |"
    lines = [
        "# Baselines beside the reference table", "",
        "Written by `python -m benchmarks.reference`; do not edit. BTC/USDT spot, five-minute "
        "bars, horizon 5, fitted once on bars before 2025, scored on 2025. ± is the standard "
        "error of a circular block bootstrap (one day).",
    ]  # fmt: skip
    for table in dict.fromkeys(figure.table for figure in figures):
        lines += ["", f"## {table}", "", head, "|" + "---|" * 7]
        lines += [f"| {' | '.join(f.cells())} |" for f in figures if f.table == table]
    return "\n".join([*lines, "", "## Notes", "", *(f"- {note}" for note in notes), ""])


def say(text: str) -> None:
    """Print at once."""
    print(f"  {text}", flush=True)


def main() -> None:
    """Fit, score, print and write."""
    parser = argparse.ArgumentParser(prog="benchmarks.reference", description=__doc__)
    samples = os.environ.get("CONCLAVE_SAMPLES", ".")
    parser.add_argument("--data", type=Path, default=Path(samples) / FILE, metavar="FILE")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--quarterly", action="store_true", help="refit boosting every quarter too")
    arguments = parser.parse_args()
    wall, cpu = time.perf_counter(), time.process_time()
    frame = read_bars(arguments.data).between(None, STOP)
    data = build_dataset(frame, STOP, HORIZON_BARS, features=True)
    seen, where, line = static(data)
    figures = [*directions(seen), *distributions(seen), *risks(seen)]
    notes = notes_for(len(where), line, time.perf_counter() - wall, time.process_time() - cpu)
    if arguments.quarterly:
        figures += quarterly(frame, where, seen.truth)
    text = to_markdown(figures, notes)
    print(text)
    arguments.out.write_text(text)
    missed = [f"{f.row}: {f.what}" for f in figures if f.ok == "NO"]
    print(f"outside the tolerance: {', '.join(missed) or 'nothing'}")


def notes_for(n: int, line: Line, wall: float, cpu: float) -> list[str]:
    """Return what a reader must know about the figures."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0**2
    return [
        f"{n:,} rows are scored: the labels of the last five bars lie in 2026.",
        "Boosting is scikit-learn's histogram gradient boosting with the reference's settings; it "
        "does not bag rows, so these rows agree within their standard error, not exactly.",
        f"RSI row: the reference's coefficients. Fitted here: logit p = {line.intercept:.4f} "
        f"{line.slope:+.4f}·(RSI/50 − 1).",
        "GARCH(1,1)-t: mean zero; residual quantiles over all training rows from 2022-09 on, as "
        "for EWMA and HAR. Quantiles of t(ν) would give another row.",
        "Terciles are of σ25, the trailing one-day volatility, over the scored rows.",
        "The rescaled width remembers the 90 days before 2025, forecast in sample.",
        "The adverse event's HAR row reads σ̂ of HAR with ranges.",
        f"The static part took {wall:.0f} s of wall time, {cpu:.0f} s of CPU time and "
        f"{peak:.1f} GiB of memory at most.",
    ]


if __name__ == "__main__":
    main()
