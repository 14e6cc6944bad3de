"""The scoreboard: every agent, the council and the baselines over the same bars.

Rows, labels and scores follow the project's reference table. Bars before the range feed features;
bars after it are never read, so the last rows of the range have no label and no score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from data.features import MIN_BARS, REFERENCE_54
from data.memory import MarketMemory
from data.splits import WalkFold
from domain.canonical import plain
from domain.market import BarFrame
from domain.ports import Agent
from domain.times import iso
from sim import baselines as base
from sim.abstention import Abstentions
from sim.baselines import Fitted
from sim.baselines.fitting import ALL, taken
from sim.comparisons import compare
from sim.derived import with_derived
from sim.detail import Judge, weights_over_time
from sim.drift import drift_of
from sim.feature_drift import shipped_reference
from sim.notes import notes_of, require_scorable
from sim.panel import CouncilMaker, Range, hear
from sim.pools import BEST_AGENT, pooled
from sim.progress import Progress, Steps, quiet, unseen
from sim.scoring import Forecasts, Mask, Truth, scores
from sim.selection import choice
from sim.tapes import TapeStore

CONSENSUS = "consensus"

Baselines = Callable[[Range], Mapping[str, Forecasts]]


def fitted_baselines(fitted: Fitted | None) -> Baselines:
    """Return baselines with parameters that were fitted beforehand; None leaves the free ones."""

    def ask(where: Range) -> Mapping[str, Forecasts]:
        rows = np.arange(where.first, len(where.past))
        return base.baselines(where.past, rows, where.labels.horizon, fitted)

    return ask


def refitted_baselines(folds: Sequence[WalkFold], progress: Progress = unseen) -> Baselines:
    """Return baselines that are fitted anew for every fold.

    Parameters
    ----------
    progress : called with fits done and fits in all.
    """

    def ask(where: Range) -> Mapping[str, Forecasts]:
        done, fits = count(1), len(folds) * sum(each.learns for each in ALL)
        rows = np.arange(where.first, len(where.past))
        found = base.refit_forward(
            where.past, folds, where.labels.horizon,
            progress=lambda _: progress(min(next(done), fits), fits),
        )  # fmt: skip
        return {name: taken(columns, rows) for name, columns in found.items()}

    return ask


@dataclass(frozen=True, slots=True, eq=False)
class Forecasted:
    """Everything that was forecast over a range of n bars, name → n forecasts."""

    where: Range
    memory: MarketMemory
    agents: Mapping[str, Forecasts]
    consensus: Forecasts | None
    baselines: Mapping[str, Forecasts]
    abstentions: Abstentions | None = None

    @property
    def truth(self) -> Truth:
        """What happened, (n,)."""
        return self.where.truth

    @property
    def valid(self) -> Mask:
        """(n,) rows that can be scored."""
        return self.where.labels.valid

    @property
    def everybody(self) -> dict[str, Forecasts]:
        """Agents, then the council, then the baselines."""
        council = self.consensus or Forecasts.silent(len(self.truth))
        return {**self.agents, CONSENSUS: council, **self.baselines}


def evaluate(
    frame: BarFrame,
    agents: Mapping[str, Agent],
    council: CouncilMaker | None = None,
    *,
    start_ms: int | None = None,
    end_ms: int | None = None,
    horizon: int = 5,
    training_end: Mapping[str, int] | None = None,
    baselines: Baselines | None = None,
    tapes: TapeStore | None = None,
    sha256: str = "",
    commit: str = "",
    steps: Steps = quiet,
) -> dict[str, Any]:
    """Return the scoreboard in the shape of ``conclave evaluate --json``; no NaN in it.

    Parameters
    ----------
    frame : bars of one symbol, those before the range included.
    agents : name → forecaster.
    council : makes a council whose fold starts from its prior; None leaves ``consensus`` empty.
    start_ms, end_ms : bars that open in [start, end) decide; None means all there are.
    training_end : agent → UTC ms; it is not asked about bars that open earlier.
    baselines : forecasts the range without agents.
    tapes : where opinions are kept between runs.
    steps : called with the name of each part of the work.

    Raises
    ------
    DataRefused : if no bar opens in the range, or none of them can be scored.
    """
    where = Range.of(frame, start_ms, end_ms, horizon)
    bars = where.bars
    require_scorable(where.past, where.first, where.labels.valid, horizon, MIN_BARS)
    seen = forecast(
        where, agents, council, training_end=training_end, baselines=baselines, tapes=tapes,
        steps=steps,
    )  # fmt: skip
    board: dict[str, Any] = {
        "data": {
            "symbol": bars.symbol,
            "timeframe": bars.timeframe,
            "start": iso(int(bars.ts[0])),
            "end": iso(int(bars.ts[-1]) + bars.step_ms),
            "bars": len(bars),
            "sha256": sha256,
            "mean_move_bps": _mean_move(seen),
        },
        "horizon_bars": horizon,
        **scoreboard(seen, steps("forecasters scored")),
        "comparisons": _comparisons(seen, steps("pairs compared")),
        "overfitting": choice(seen.everybody, seen.truth, seen.valid),
        "abstention": None if seen.abstentions is None else seen.abstentions.summary(bars.step_ms),
        "drift": _drift(seen),
        "weights": weights_over_time(seen.agents, seen.truth, bars.step_ms),
        "notes": notes_of(bars, agents, seen.agents, seen.consensus, seen.truth, seen.valid),
        "models": {name: agent.version for name, agent in agents.items()},
        "commit": commit,
    }
    made: dict[str, Any] = plain(board)
    return made


def forecast(
    where: Range,
    agents: Mapping[str, Agent],
    council: CouncilMaker | None = None,
    *,
    training_end: Mapping[str, int] | None = None,
    baselines: Baselines | None = None,
    tapes: TapeStore | None = None,
    steps: Steps = quiet,
) -> Forecasted:
    """Ask agents, council and baselines about every bar; parameters as :func:`evaluate`."""
    memory = where.memory()
    declined = None if council is None else Abstentions(where.truth, where.labels.valid)
    heard = hear(
        where, memory, agents, council, training_end=training_end, tapes=tapes,
        on_decision=None if declined is None else declined.hear, progress=steps("bars forecast"),
    )  # fmt: skip
    beside = {} if baselines is None else dict(baselines(where))
    pools = pooled(heard.agents, where.truth, where.labels.valid, where.labels.horizon)
    beside |= _with_derived(pools, where.truth)
    said = _with_derived(heard.agents, where.truth)
    made = None if heard.consensus is None else with_derived(heard.consensus, where.truth)
    return Forecasted(where, memory, said, made, beside, declined)


def _with_derived(said: Mapping[str, Forecasts], truth: Truth) -> dict[str, Forecasts]:
    return {name: with_derived(columns, truth) for name, columns in said.items()}


def scoreboard(seen: Forecasted, progress: Progress | None = None) -> dict[str, Any]:
    """Return ``agents``, ``consensus``, ``baselines`` and ``common`` of the scoreboard."""
    truth, valid, rows = seen.truth, seen.valid, {}
    judge = Judge.of(
        truth, valid, seen.where.labels.horizon, seen.where.past.step_ms, seen.baselines
    )
    for done, (name, columns) in enumerate(seen.everybody.items(), 1):
        rows[name] = judge.row(columns)
        if progress is not None:
            progress(done, len(seen.everybody))
    both = common_rows(seen)
    return {
        "agents": {name: rows[name] for name in seen.agents},
        CONSENSUS: rows[CONSENSUS],
        "baselines": {name: rows[name] for name in seen.baselines},
        "common": {
            name: scores(columns, truth, both, horizon=seen.where.labels.horizon)
            for name, columns in seen.everybody.items()
        },
    }


def common_rows(seen: Forecasted) -> Mask:
    """Return the rows on which every agent that scored anywhere was awake, (n,)."""
    both = seen.valid.copy()
    for columns in seen.agents.values():
        if (columns.awake & seen.valid).any():
            both &= columns.awake
    return both


def _mean_move(seen: Forecasted) -> float:
    """Mean |r| over the scored rows, bp: what a perfect forecast of the sign would earn a bar."""
    return float(np.abs(seen.truth.log_return[seen.valid]).mean() * 1e4)


def _drift(seen: Forecasted) -> dict[str, Any] | None:
    """Compare the range's features with what the shipped models trained on, and watch the council.

    None without a council: there is nobody to watch.
    """
    council, truth = seen.consensus, seen.truth
    if council is None:
        return None
    features = seen.memory.features()
    pick = [features.names.index(name) for name in REFERENCE_54]
    rows = features.values[-len(truth) :, pick]
    reference = shipped_reference()
    bars, known = seen.where.past, seen.valid
    if reference is None or not reference.suits(bars.symbol, bars.timeframe):
        reference, why = None, f"no reference for {bars.symbol} {bars.timeframe}"
    elif seen.where.start_ms < reference.end_ms:
        reference, why = None, "these bars are part of the reference"
    else:
        why = "" if known.sum() >= reference.window else "fewer than 30 days"
    found = drift_of(
        reference, rows[known], council.p_up[known], truth.up[known], council.quantiles[known],
        truth.log_return[known], truth.ts[known], horizon=seen.where.labels.horizon,
    )  # fmt: skip
    return {**found, "note": f"Inputs were not compared: {why}." if why else ""}


def _comparisons(seen: Forecasted, progress: Progress) -> list[dict[str, Any]]:
    if seen.consensus is None:
        return []
    others = {**seen.agents, **seen.baselines}
    others.pop(BEST_AGENT, None)  # it is one of the agents
    out = []
    for done, (name, columns) in enumerate(others.items(), 1):
        out += compare(
            CONSENSUS, seen.consensus, {name: columns}, seen.truth, common_rows(seen),
            seen.where.labels.horizon, step_ms=seen.where.past.step_ms,
        )  # fmt: skip
        progress(done, len(others))
    return out
