"""Ask everybody about every bar of a range: agents through a tape, the council bar by bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from data.labels import Labels, make_labels
from data.memory import MarketMemory
from domain.decision import Decision
from domain.errors import DataRefused
from domain.market import BarFrame, MarketState
from domain.opinion import Outcome
from domain.ports import Agent, Strategy
from domain.times import iso
from sim.opinions import CouncilRun, widest
from sim.outcomes import truth_of
from sim.progress import Progress
from sim.scoring import Forecasts, Truth
from sim.tapes import Tape, TapeStore

CouncilMaker = Callable[[], Strategy]  # makes a council whose fold starts from its prior


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """A stretch of bars that decide, and everything known about it beforehand and afterwards.

    Attributes
    ----------
    past : all bars up to the end of the range; what follows it is never read.
    first : index of the range's first bar in ``past``.
    labels : outcomes of the range's n bars; only ``labels.valid`` rows are scored.
    truth : the same outcomes as scores want them.
    """

    past: BarFrame
    first: int
    labels: Labels
    truth: Truth

    @classmethod
    def of(cls, frame: BarFrame, start_ms: int | None, end_ms: int | None, horizon: int) -> Range:
        """Cut a range out of a file's bars.

        Raises
        ------
        DataRefused : if no bar opens in [start, end).
        """
        past = frame.between(None, end_ms)
        first = 0 if start_ms is None else int(past.ts.searchsorted(start_ms))
        if first >= len(past):
            span = f"[{'…' if start_ms is None else iso(start_ms)}, "
            span += f"{'…' if end_ms is None else iso(end_ms)})"
            raise DataRefused(f"{frame.symbol} {frame.timeframe}", "has no bar in the range", span)
        labels = make_labels(past, horizon)
        rows = np.arange(first, len(past))
        return cls(past, first, _part(labels, first), truth_of(past, labels).take(rows))

    @property
    def bars(self) -> BarFrame:
        """The n bars that decide."""
        return self.past.slice(self.first, len(self.past))

    @property
    def start_ms(self) -> int:
        """Open of the first of them, UTC ms."""
        return int(self.past.ts[self.first])

    def memory(self) -> MarketMemory:
        """Remember everything since the last gap before the range; no feature sees further."""
        since = int(self.past.bars_since_gap()[self.first])
        memory = MarketMemory(self.past.symbol, self.past.timeframe, keep=None)
        memory.append(self.past.slice(self.first - since + 1, len(self.past)))
        return memory


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What was said about a range.

    Attributes
    ----------
    agents : name → n forecasts, with the weight each had in the council.
    consensus : n forecasts, or None without a council.
    """

    agents: Mapping[str, Forecasts]
    consensus: Forecasts | None


def hear(
    where: Range,
    memory: MarketMemory,
    agents: Mapping[str, Agent],
    council: CouncilMaker | None = None,
    *,
    training_end: Mapping[str, int] | None = None,
    tapes: TapeStore | None = None,
    outcomes: Truth | None = None,
    on_decision: Callable[[Decision], object] | None = None,
    progress: Progress | None = None,
) -> Heard:
    """Ask agents and council about every bar of a range.

    Parameters
    ----------
    memory : of the range, :meth:`Range.memory`.
    training_end : agent → UTC ms; it is not asked about bars that open earlier.
    tapes : where opinions are kept; None forgets them afterwards.
    outcomes : what the council is told instead of the truth, one row a bar of the range.
    on_decision : called with every decision of the council.
    progress : called with bars done and bars in all; each counts once for the agents and once
        for the council.
    """
    n = len(where.labels)
    total = n if council is None else 2 * n

    def tick(done: int) -> None:
        if progress is not None:
            progress(done, total)

    tape = (tapes or TapeStore()).record(
        agents, memory, where.start_ms, horizon=where.labels.horizon, asleep_until=training_end,
        progress=lambda done, all_: tick(done * n // all_),
    )  # fmt: skip
    columns = {name: tape.columns(name) for name in agents}
    if council is None:
        return Heard(columns, None)
    run = CouncilRun(council(), n, list(agents))
    told = where.truth if outcomes is None else outcomes
    for row, decision in enumerate(_sit(run, tape, memory, where, told, agents)):
        if on_decision is not None:
            on_decision(decision)
        if (row + 1) % 512 == 0 or row + 1 == n:
            tick(n + row + 1)
    weighed = {name: replace(columns[name], weight=run.weights[name]) for name in agents}
    return Heard(weighed, run.recorder.forecasts)


def outcome_due(labels: Labels, told: Truth, row: int, state: MarketState) -> Outcome | None:
    """Return what the close of a row's bar resolves; None where nothing was due or known.

    Parameters
    ----------
    told : (n,) what is said to have happened, the truth or a shuffle of it.
    """
    step, past = state.bars.step_ms, row - labels.horizon
    if past < 0 or labels.ts[past] + labels.horizon * step != labels.ts[row]:
        return None
    if not (labels.valid[past] and np.isfinite(told.log_return[past])):
        return None
    return Outcome(
        state.symbol, state.timeframe, int(labels.ts[past]) + step, labels.horizon, state.as_of,
        float(told.log_return[past]), float(told.drop[past]), float(told.rise[past]),
    )  # fmt: skip


def _sit(
    run: CouncilRun,
    tape: Tape,
    memory: MarketMemory,
    where: Range,
    told: Truth,
    agents: Mapping[str, Agent],
) -> Iterator[Decision]:
    need = widest(agents)
    states = memory.states(where.start_ms, None, need.bars, need.feature_rows)
    for row, (state, (opinions, absent)) in enumerate(zip(states, tape.rounds(), strict=True)):
        due = outcome_due(where.labels, told, row, state)
        yield run.sit(row, state, opinions, absent, due)


def _part(labels: Labels, first: int) -> Labels:
    columns = ("ts", "y", "up", "drop", "rise", "valid")
    return replace(labels, **{name: getattr(labels, name)[first:] for name in columns})
