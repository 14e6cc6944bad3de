"""The council on four markets of 2025: ``python -m benchmarks.council``.

    python -m benchmarks.council --data FOLDER_OF_BARS [--tapes FOLDER]

What ships, trained on bars before 2025, with default settings. Beside the consensus stand its
agents, what one gets by pooling them simply, the best of them in hindsight, and EWMA with residual
quantiles of the market's own past. Everybody is scored on the rows on which all agents that ever
speak were awake, by the code of ``conclave evaluate``; looks go to the trial log. The candidates
before and after the debate are those of the compiled fold, which is held against the council here
once more, bar by bar.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.markets import EWMA, ewma_of
from benchmarks.scores import (
    FILE,
    HORIZON_BARS,
    MARKETS,
    SCORES,
    START,
    STOP,
    Rows,
    arguments,
    rows_of,
    short,
    show,
    with_errors,
)
from consensus.kernel import Folded, fold
from consensus.kernel.state import BRIER, DEBATED
from consensus.pooling import (
    BOA_POOL,
    BRIER_POOL,
    CONSTANT,
    EQUAL_POOL,
    RECALIBRATED,
    STACKED,
)
from consensus.pooling import DEBATED as DEBATED_POOL
from data.files import read_bars
from serving.deciders import trained_until
from serving.evaluating import Panel, panel_for
from serving.rules import council_settings, decision_rules
from serving.settings import Settings, load_settings
from serving.system import SystemClock, git_commit
from serving.trials import Look, prepare, record
from sim.baselines import shipped
from sim.comparisons import compare
from sim.council_panel import panel_of
from sim.evaluate import CONSENSUS, Forecasted, common_rows, fitted_baselines, forecast, scoreboard
from sim.panel import Range
from sim.pools import BEST_AGENT
from sim.pools import POOLS as SIMPLE
from sim.scoring import Forecasts, Mask
from sim.tapes import TapeStore

HEADING, TOOL, OUT = "Four markets of 2025", "benchmarks.council", Path("docs/consensus.md")
HAR, BASE_RATE = "har_ranges", "base_rate"
BEFORE, AFTER = "before the debate", "after it"
Cells = Sequence[str]


class Played(NamedTuple):
    """A market's year: forecasts, who is scored on which rows, and the compiled fold of it."""

    name: str
    seen: Forecasted
    use: Mask
    rows: Mapping[str, Rows]
    folded: Folded


def beside(where: Range) -> dict[str, Forecasts]:
    """Return the baselines that the market has: EWMA always, the others where they were fitted."""
    known = fitted_baselines(shipped())(where)
    said = {name: columns for name, columns in known.items() if name in (HAR, BASE_RATE)}
    return {"ewma": ewma_of(where), **said}


def played(name: str, file: Path, settings: Settings, tapes: TapeStore, log: Path | None) -> Played:
    """Ask everybody about a market's 2025 and log the look."""
    frame, commit = read_bars(file), git_commit()
    panel = panel_for(settings, frame, commit)
    where = Range.of(frame, START, STOP, HORIZON_BARS)
    what = f"{frame.symbol} 5m: council of {', '.join(panel.names)}, simple pools, the debate"
    look = Look("evaluate", START, STOP, what, commit)
    prepare(log, look)
    seen = forecast(
        where, panel.agents, panel.council, training_end=trained_until(panel.agents),
        baselines=beside, tapes=tapes,
    )  # fmt: skip
    use, names = common_rows(seen), (*seen.agents, *SIMPLE, "ewma")
    scored = {CONSENSUS: seen.everybody[CONSENSUS]} | {n: seen.everybody[n] for n in names}
    rows = {n: rows_of(x, seen.truth, use) for n, x in scored.items() if (x.awake & use).any()}
    told = "; ".join(f"{name}: {short(each)}" for name, each in rows.items())
    record(log, look, told, SystemClock().now())
    print(f"  {what}: {int(use.sum()):,} rows", flush=True)
    return Played(name, seen, use, rows, compiled(seen, panel, settings, tapes))


def compiled(seen: Forecasted, panel: Panel, settings: Settings, tapes: TapeStore) -> Folded:
    """Return the compiled fold of the same year.

    Raises
    ------
    SystemExit : if it publishes another probability than the council.
    """
    where, rules, own = seen.where, decision_rules(settings), council_settings(settings)
    memory = where.memory()
    tape = tapes.record(panel.agents, memory, where.start_ms, horizon=HORIZON_BARS)
    told = panel_of(where, memory, tape, panel.agents, own, rules.min_liquidity)
    folded = fold(told, own)
    assert seen.consensus is not None
    off = float(np.nanmax(np.abs(folded.p_up - seen.consensus.p_up)))
    print(f"  council and compiled fold: |difference of p| ≤ {off:.1e}", flush=True)
    if not off <= 1e-10:
        raise SystemExit("the compiled fold is not the council")
    return folded


def scores_table(every: Sequence[Played]) -> list[Cells]:
    """Return everybody's scores, and how much better the consensus is, with t."""
    titles = [score.title for score in SCORES.values()]
    better = ("gain: consensus − it, 95 % interval", "t", "p at any time", "pinball: t", "risk: t")
    made: list[Cells] = [("market", "forecaster", *titles, "pinball vs EWMA", *better)]
    for one in every:
        assert one.seen.consensus is not None
        others = {name: one.seen.everybody[name] for name in one.rows if name != CONSENSUS}
        found = {
            (row["b"], row["score"]): row
            for row in compare(
                CONSENSUS, one.seen.consensus, others, one.seen.truth, one.use, HORIZON_BARS
            )
        }
        for name, rows in one.rows.items():
            label = f"best agent: {best_of(one)}" if name == BEST_AGENT else name
            label = EWMA if name == "ewma" else label
            part = rows["pinball"].mean() / one.rows["ewma"]["pinball"].mean() - 1.0
            cells = _better(found.get((name, "brier")))
            cells += [_t(found.get((name, score))) for score in ("pinball", "risk_brier")]
            made.append((one.name, label, *with_errors(rows), f"{100 * part:+.2f} %", *cells))
    return made


def best_of(one: Played) -> str:
    """Return the agent with the lowest Brier score of the year."""
    best = one.seen.everybody[BEST_AGENT]
    return next(name for name, said in one.seen.agents.items() if said.p_up is best.p_up)


def bound_table(every: Sequence[Played]) -> list[Cells]:
    """Return what the no-harm layer promises, and what came of it."""
    made: list[Cells] = [
        ("market", "best candidate", "its loss in all", "published", "more", "bound (H/2) ln m")
    ]
    for one in every:
        up, said = one.seen.truth.up, one.folded.candidates
        use = one.use & np.isfinite(said).any(axis=1)
        names = [*_POOLS, *sorted(one.seen.agents)]
        spoke = np.isfinite(said[use]).all(axis=0)  # the others are no rivals here
        losses = ((said[use] - up[use, None]) ** 2).sum(axis=0)
        at = int(np.nanargmin(np.where(spoke, losses, np.nan)))
        own = float(((one.folded.p_up[use] - up[use]) ** 2).sum())
        bound = HORIZON_BARS / 2 * math.log(said.shape[1])
        made.append(
            (one.name, names[at], f"{losses[at]:,.2f}", f"{own:,.2f}", f"{own - losses[at]:+.2f}",
             f"{bound:.2f}")
        )  # fmt: skip
    return made


_POOLS = (EQUAL_POOL, BRIER_POOL, BOA_POOL, STACKED, RECALIBRATED, DEBATED_POOL, CONSTANT)


def debate_table(every: Sequence[Played]) -> list[Cells]:
    """Return the Brier pool after the debate against the one before it."""
    made: list[Cells] = [
        ("market", "bars that it moved", "mean move, logits", "Brier gain ×10⁴ before", "after",
         "what it adds, 95 % interval", "t", "p at any time", "share in what is published")
    ]  # fmt: skip
    for one in every:
        pools = {BEFORE: _saying(one.folded, BRIER), AFTER: _saying(one.folded, DEBATED)}
        use = one.use & np.isfinite(pools[AFTER].p_up)
        before, after = (pools[name].p_up[use] for name in (BEFORE, AFTER))
        moved = np.abs(_logit(after) - _logit(before))
        row = next(
            iter(compare(AFTER, pools[AFTER], {BEFORE: pools[BEFORE]}, one.seen.truth, use, 5)),
            None,
        )
        gains = [1e4 * (0.25 - ((p - one.seen.truth.up[use]) ** 2).mean()) for p in (before, after)]
        some = moved > 1e-12
        made.append(
            (one.name, f"{100 * some.mean():.1f} %", f"{moved[some].mean():.4f}",
             *(f"{gain:.3f}" for gain in gains), *_better(row, 3),
             f"{100 * one.folded.shares[use, DEBATED].mean():.1f} %")
        )  # fmt: skip
    return made


def target_table(one: Played) -> list[Cells]:
    """Return the reference's targets for BTC and what the consensus reaches."""
    board = scoreboard(one.seen)
    own, others = board[CONSENSUS], board["baselines"]
    made: list[Cells] = [("score", "must", "stretch", "consensus", "")]
    for title, must, stretch, value, digits in _targets(own, others):
        low, high = must
        held = "holds" if low <= value <= high else "**missed**"
        held = "" if math.isinf(low) and math.isinf(high) else held
        held = "stretch" if stretch[0] <= value <= stretch[1] else held
        made.append(
            (title, _span(must, digits), _span(stretch, digits), f"{value:.{digits}f}", held)
        )
    return made


def _targets(
    own: Mapping[str, Any], others: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[float, float], tuple[float, float], float, int]]:
    ewma, har, top = others["ewma"], others[HAR], math.inf

    def percent(key: str, other: Mapping[str, Any]) -> float:
        return float(100.0 * (own[key] / other[key] - 1.0))

    def skill(key: str) -> float:
        return float(100.0 * (1.0 - own[key] / others[BASE_RATE][key]))

    yield "Brier gain ×10⁴", (7.5, top), (12.0, top), own["brier_skill_1e4"], 2
    yield "Diebold–Mariano t against ½", (2.3, top), (top, top), own["dm_t"], 2
    yield "AUC", (0.533, top), (0.540, top), own["auc"], 4
    yield "calibration slope", (0.75, 1.3), (0.9, 1.15), own["calibration_slope"], 3
    yield "pinball against EWMA, %", (-top, -1.4), (-top, -2.0), percent("pinball_bps", ewma), 2
    yield "against HAR + ranges, %", (-top, -0.3), (-top, -0.8), percent("pinball_bps", har), 2
    parts = own["detail"]["coverage"]
    yield "coverage of p10–p90, points from 80", (-1, 1), (-0.5, 0.5), _off(own["coverage_80"]), 2
    for name, key, must, stretch in (
        ("volatility tercile", "terciles", 2.0, 1.0),
        ("6-hour block", "blocks", 2.5, 1.5),
        ("month", "months", 3.5, 2.5),
    ):
        worst = max((_off(part.coverage) for part in getattr(parts, key)), key=abs)
        yield f"the same, worst {name}", (-must, must), (-stretch, stretch), worst, 2
    yield "QLIKE against EWMA", (-top, -0.10), (-top, -0.15), own["qlike"] - ewma["qlike"], 3
    yield "fall > .5 %: AUC", (0.838, top), (0.850, top), own["risk_auc"], 4
    yield "Brier against EWMA, %", (-top, -3.5), (-top, -5.0), percent("risk_brier", ewma), 2
    yield "ECE, points", (0.0, 1.5), (0.0, 0.7), 100 * own["risk_ece"], 2
    yield "skill against the base rate, %", (-top, top), (17.0, top), skill("risk_brier"), 2
    yield "fall > 1 σ: AUC", (0.712, top), (0.725, top), own["risk_sigma_auc"], 4
    yield "skill against the base rate, %", (10.5, top), (11.5, top), skill("risk_sigma_brier"), 2


def _off(coverage: float) -> float:
    return 100.0 * coverage - 80.0


def _span(bounds: tuple[float, float], digits: int) -> str:
    low, high = bounds
    if math.isinf(low) and math.isinf(high):
        return "–"
    if math.isinf(high):
        return f"≥ {low:.{digits}f}".rstrip("0").rstrip(".")
    if math.isinf(low):
        return f"≤ {high:.{digits}f}".rstrip("0").rstrip(".")
    return f"{low:g} … {high:g}"


def _saying(folded: Folded, at: int) -> Forecasts:
    said = Forecasts.silent(len(folded.p_up))
    said.p_up[:] = folded.candidates[:, at]
    return said


def _logit(p: Any) -> Any:
    return np.log(p) - np.log1p(-p)


def _better(row: Mapping[str, Any] | None, digits: int = 2) -> list[str]:
    if row is None:
        return ["–"] * 3
    span = f"{row['difference']:+.{digits}f} [{row['lo']:+.{digits}f}, {row['hi']:+.{digits}f}]"
    return [span, _t(row), f"{row['p_any_time']:.2g}"]


def _t(row: Mapping[str, Any] | None) -> str:
    return "–" if row is None or row["dm_t"] is None else f"{row['dm_t']:+.1f}"


def _lines(cells: Sequence[Cells]) -> list[str]:
    head, *body = cells
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]


def main() -> None:
    """Play every market, print and write."""
    parser = arguments(TOOL, __doc__)
    parser.add_argument("--markets", nargs="+", default=MARKETS)
    parser.set_defaults(out=OUT)
    told = parser.parse_args()
    settings, tapes = load_settings(env={}, profile=None), told.tapes or TapeStore()
    every = [
        played(name, told.data / FILE.format(name), settings, tapes, told.trials)
        for name in told.markets
    ]
    section = _lines(scores_table(every))
    if (btc := next((one for one in every if one.name == "BTC"), None)) is not None:
        section += ["", "Against the reference, BTC:", "", *_lines(target_table(btc))]
    section += ["", "What no harm means:", "", *_lines(bound_table(every))]
    section += ["", "What the debate adds:", "", *_lines(debate_table(every))]
    show(told.out, HEADING, TOOL, section)


if __name__ == "__main__":
    main()
