"""The scoreboard: every agent, the council and the baselines over the same bars.

Rows, labels and scores follow the project's reference table. Bars before the range feed features;
bars after it are never read, so the last rows of the range have no label and no score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from agents.contract import IN_SAMPLE
from agents.volatility import LOOKBACK, day_sigma
from agents.windows import run_of, segments
from data.labels import Labels, make_labels
from data.memory import MarketMemory
from domain.canonical import plain
from domain.decision import Decision
from domain.errors import DataRefused
from domain.market import BarFrame, MarketState
from domain.opinion import Opinion, Outcome
from domain.ports import Agent, Strategy
from domain.times import iso
from sim import baselines as base
from sim.opinions import BATCH, CouncilRun, Progress, Recorder, ask, widest
from sim.scoring import DAY_BARS, Floats, Forecasts, Truth, scores, shuffled_gain

CONSENSUS = "consensus"


@dataclass(frozen=True, slots=True, eq=False)
class Forecasted:
    """Everything that was forecast over a stretch of n bars.

    Attributes
    ----------
    bars : the n bars that decide.
    labels : their outcomes; only ``labels.valid`` rows are scored.
    truth : the same outcomes as scores want them.
    agents, baselines : name → n forecasts.
    consensus : n forecasts, or None without a council.
    """

    bars: BarFrame
    labels: Labels
    truth: Truth
    agents: Mapping[str, Forecasts]
    consensus: Forecasts | None
    baselines: Mapping[str, Forecasts]


def evaluate(
    frame: BarFrame,
    agents: Mapping[str, Agent],
    council: Callable[[], Strategy] | None = None,
    *,
    start_ms: int | None = None,
    end_ms: int | None = None,
    horizon: int = 5,
    training_end: Mapping[str, int] | None = None,
    fitted: base.Fitted | None = None,
    controls: bool = False,
    sha256: str = "",
    commit: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the scoreboard in the shape of ``conclave evaluate --json``; no NaN in it.

    Parameters
    ----------
    frame : bars of one symbol, those before the range included.
    agents : name → forecaster.
    council : makes a council whose fold starts from its prior; None leaves ``consensus`` empty.
    start_ms, end_ms : bars that open in [start, end) decide; None means all there are.
    training_end : agent → UTC ms; it is not asked about bars that open earlier.
    fitted : parameters of the fitted baselines.
    controls : add ``controls``: the gain that is left when outcomes are shuffled by days.
    progress : called with rows done and rows in all.

    Raises
    ------
    DataRefused : if no bar opens in the range.
    """
    seen = forecast(
        frame, agents, council, start_ms=start_ms, end_ms=end_ms, horizon=horizon,
        training_end=training_end, fitted=fitted, progress=progress,
    )  # fmt: skip
    bars = seen.bars
    versions = {name: agent.version for name, agent in agents.items()}
    board: dict[str, Any] = {
        "data": {
            "symbol": bars.symbol,
            "timeframe": bars.timeframe,
            "start": iso(int(bars.ts[0])),
            "end": iso(int(bars.ts[-1]) + bars.step_ms),
            "bars": len(bars),
            "sha256": sha256,
        },
        "horizon_bars": horizon,
        **scoreboard(seen),
        "models": versions,
        "commit": commit,
    }
    if controls:
        board["controls"] = {"shuffled_labels": shuffled(seen)}
    made: dict[str, Any] = plain(board)
    return made


def forecast(
    frame: BarFrame,
    agents: Mapping[str, Agent],
    council: Callable[[], Strategy] | None = None,
    *,
    start_ms: int | None = None,
    end_ms: int | None = None,
    horizon: int = 5,
    training_end: Mapping[str, int] | None = None,
    fitted: base.Fitted | None = None,
    outcomes: Truth | None = None,
    on_decision: Callable[[Decision], object] | None = None,
    progress: Progress | None = None,
) -> Forecasted:
    """Ask everybody about every bar of the range, in batches; parameters as :func:`evaluate`.

    Parameters
    ----------
    outcomes : what the council is told instead of the truth, one row a bar of the range: the
        shuffled labels of a control.
    on_decision : called with every decision of the council.
    """
    past = frame.between(None, end_ms)
    bars = past.between(start_ms, None)
    if not len(bars):
        span = f"[{'…' if start_ms is None else iso(start_ms)}, "
        span += f"{'…' if end_ms is None else iso(end_ms)})"
        raise DataRefused(f"{frame.symbol} {frame.timeframe}", "has no bar in the range", span)
    first = len(past) - len(bars)
    labels = _part(make_labels(past, horizon), first)
    truth = Truth(
        labels.y, labels.drop, labels.rise, labels.ts,
        realised_variance(past, horizon)[first:], trailing_volatility(past, horizon)[first:],
    )  # fmt: skip
    told = truth if outcomes is None else outcomes
    asked = _Panel(agents, council, labels, told, dict(training_end or {}), on_decision)
    asked.hear(_memory(past, first), int(bars.ts[0]), progress)
    return Forecasted(
        bars,
        labels,
        truth,
        asked.columns(bars.ts),
        asked.published(),
        base.baselines(past, np.arange(first, len(past)), horizon, fitted),
    )


def realised_variance(bars: BarFrame, horizon: int) -> Floats:
    """Return RV = Σ r² over the next ``horizon`` bars, (n,); NaN where they are not contiguous."""
    squares = np.diff(np.log(bars.close)) ** 2
    squares[np.diff(bars.ts) != bars.step_ms] = np.nan
    out = np.full(len(bars), np.nan)
    if len(squares) >= horizon:
        out[: len(squares) - horizon + 1] = sliding_window_view(squares, horizon).sum(axis=1)
    return out


def trailing_volatility(bars: BarFrame, horizon: int) -> Floats:
    """Return σ25, the root mean square of the last day's horizon returns, (n,)."""
    parts = [
        day_sigma(run_of(bars.slice(start, stop), LOOKBACK), horizon)
        for start, stop in segments(bars)
    ]
    return np.concatenate(parts)


def scoreboard(seen: Forecasted) -> dict[str, Any]:
    """Return ``agents``, ``consensus``, ``baselines`` and ``common`` of the scoreboard."""
    truth, valid = seen.truth, seen.labels.valid
    both = valid.copy()
    for columns in seen.agents.values():
        if (columns.awake & valid).any():
            both &= columns.awake
    council = seen.consensus or Forecasts.silent(len(truth))
    everybody = {**seen.agents, CONSENSUS: council, **seen.baselines}
    return {
        "agents": {name: scores(c, truth, valid) for name, c in seen.agents.items()},
        "consensus": scores(council, truth, valid),
        "baselines": {name: scores(c, truth, valid) for name, c in seen.baselines.items()},
        "common": {name: scores(c, truth, both) for name, c in everybody.items()},
    }


def shuffled(seen: Forecasted, shuffles: int = 20, seed: int = 7) -> dict[str, dict[str, Any]]:
    """Return :func:`sim.scoring.shuffled_gain` of everybody's forecasts as they stand."""
    everybody = dict(seen.agents)
    if seen.consensus is not None:
        everybody[CONSENSUS] = seen.consensus
    out: dict[str, dict[str, Any]] = {}
    for name, columns in everybody.items():
        rows = np.flatnonzero(seen.labels.valid & columns.awake & np.isfinite(columns.p_up))
        if len(rows) > DAY_BARS:
            fixed = _Fixed(columns.p_up[rows])
            out[name] = dict(shuffled_gain(fixed, seen.truth.take(rows), shuffles, seed))
    return out


def to_text(board: Mapping[str, Any]) -> str:
    """Return the scoreboard as a table for a terminal; a dash where there is nothing to score."""
    data = board["data"]
    lines = [
        f"{data['symbol']} {data['timeframe']}, bars open {data['start']} to {data['end']}: "
        f"{data['bars']} bars, horizon {board['horizon_bars']} bars",
        f"{'':<15}" + "".join(f"{title:>{width}}" for title, _, _, width in _TABLE),
    ]
    groups = (board["agents"], {CONSENSUS: board[CONSENSUS]}, board["baselines"])
    for group in groups:
        lines += [f"{name:<15}" + _cells(row) for name, row in group.items()]
    lines.append(
        "gain = (0.25 − Brier) × 10⁴; DM t against ½, Newey-West lag 60; pinball and interval "
        "in bp of log return; coverage of p10–p90; risk = a fall beyond 0.5 %"
    )
    return "\n".join(lines)


_TABLE: tuple[tuple[str, str, str, int], ...] = (
    ("n", "n", "d", 8), ("Brier", "brier", ".6f", 10), ("gain", "brier_skill_1e4", ".2f", 8),
    ("DM t", "dm_t", ".1f", 7), ("log loss", "log_loss", ".5f", 10), ("AUC", "auc", ".4f", 8),
    ("accuracy", "accuracy", ".4f", 10), ("pinball", "pinball_bps", ".3f", 9),
    ("coverage", "coverage_80", ".3f", 10), ("interval", "interval_score_bps", ".2f", 10),
    ("risk Brier", "risk_brier", ".5f", 12), ("risk AUC", "risk_auc", ".4f", 10),
    ("weight", "weight_mean", ".3f", 8),
)  # fmt: skip


def _cells(row: Mapping[str, Any]) -> str:
    values = ((row[key], form, width) for _, key, form, width in _TABLE)
    return "".join(f"{'–' if v is None else format(v, form):>{width}}" for v, form, width in values)


@dataclass(frozen=True, slots=True, eq=False)
class _Fixed:
    """A forecast that was made already and learns from nothing."""

    p_up: Floats

    def __call__(self, _: Truth) -> Floats:
        return self.p_up


def _memory(past: BarFrame, first: int) -> MarketMemory:
    """Everything since the last gap before the range; what is older no feature can see."""
    since = int(past.bars_since_gap()[first])
    memory = MarketMemory(past.symbol, past.timeframe, keep=None)
    memory.append(past.slice(first - since + 1, len(past)))
    return memory


def _part(labels: Labels, first: int) -> Labels:
    columns = ("ts", "y", "up", "drop", "rise", "valid")
    return replace(labels, **{name: getattr(labels, name)[first:] for name in columns})


class _Panel:
    """Everybody who is asked, with what they said so far."""

    def __init__(
        self,
        agents: Mapping[str, Agent],
        council: Callable[[], Strategy] | None,
        labels: Labels,
        outcomes: Truth,
        training_end: Mapping[str, int],
        on_decision: Callable[[Decision], object] | None,
    ) -> None:
        n, self.on_decision = len(labels), on_decision
        self.agents, self.labels, self.training_end = agents, labels, training_end
        self.told = outcomes
        self.recorders = {name: Recorder(n) for name in agents}
        self.run = None if council is None else CouncilRun(council(), n, list(agents))

    def hear(self, memory: MarketMemory, start_ms: int, progress: Progress | None) -> None:
        """Go through the range in order."""
        need, n = widest(self.agents), len(self.labels)
        states = memory.states(start_ms, None, need.bars, need.feature_rows)
        for first in range(0, n, BATCH):
            batch = list(states[first : first + BATCH])
            self._batch(first, batch)
            if progress is not None:
                progress(min(first + BATCH, n), n)

    def columns(self, opens: NDArray[np.int64]) -> dict[str, Forecasts]:
        """Return what each agent said, with weights and in-sample rows marked."""
        out = {}
        for name, recorder in self.recorders.items():
            in_sample = opens < self.training_end.get(name, -1)
            columns = replace(recorder.forecasts, in_sample=in_sample)
            if self.run is not None:
                columns = replace(columns, weight=self.run.weights[name])
            out[name] = columns
        return out

    def published(self) -> Forecasts | None:
        """Return what the council said."""
        return None if self.run is None else self.run.recorder.forecasts

    def _batch(self, first: int, batch: Sequence[MarketState]) -> None:
        said, starts = ask(self.agents, batch, self.training_end)
        for name, opinions in said.items():
            self.recorders[name].take(first + starts[name], opinions)
        if self.run is None:
            return
        for k, state in enumerate(batch):
            heard, absent = _round(said, starts, k)
            due = self._due(first + k, state)
            decision = self.run.sit(first + k, state, heard, absent, due)
            if self.on_decision is not None:
                self.on_decision(decision)

    def _due(self, row: int, state: MarketState) -> Outcome | None:
        """What the close of this row's bar resolves."""
        labels, step = self.labels, state.bars.step_ms
        past = row - labels.horizon
        if past < 0 or labels.ts[past] + labels.horizon * step != labels.ts[row]:
            return None
        if not (labels.valid[past] and np.isfinite(self.told.log_return[past])):
            return None
        return Outcome(
            state.symbol, state.timeframe, int(labels.ts[past]) + step, labels.horizon,
            state.as_of, float(self.told.log_return[past]), float(self.told.drop[past]),
            float(self.told.rise[past]),
        )  # fmt: skip


def _round(
    said: Mapping[str, Sequence[Opinion]], starts: Mapping[str, int], k: int
) -> tuple[list[Opinion], dict[str, str]]:
    heard = [said[name][k - starts[name]] for name in said if k >= starts[name]]
    return heard, dict.fromkeys((name for name in said if k < starts[name]), IN_SAMPLE)
