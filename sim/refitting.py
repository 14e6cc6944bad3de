"""Models fitted anew every quarter, each on what was known before it: purged walk-forward.

The headline of every claim: a model that is fitted once and tested years later answers another
question than the one a desk asks that trains on. Each fold's models see bars that opened before
the fold, less an embargo of H bars, and labels that were known by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from agents.contract import asleep
from data.labels import Labels, training_rows
from data.splits import WalkFold, quarters, walk_forward
from domain.canonical import short_hash
from domain.errors import DataRefused
from domain.market import BarFrame, MarketState
from domain.opinion import Opinion
from domain.ports import Agent, Needs
from domain.times import iso

NOT_FITTED = "not_fitted"  # why an agent is silent before its first fold
MIN_ROWS = 5_000  # training rows below which nothing is fitted

Trainer = Callable[[BarFrame, int], Agent]  # all bars, fit instant (ms) → agent that saw none later
Progress = Callable[[int, int], None]


def folds_of(
    labels: Labels, step_ms: int, start_ms: int, end_ms: int, min_rows: int = MIN_ROWS
) -> list[WalkFold]:
    """Return the calendar quarters of [start, end) that have enough rows to train on before them.

    Parameters
    ----------
    labels : of all bars there are, those before the range included.

    Raises
    ------
    DataRefused : if no quarter has.
    """
    embargo, most, spans = labels.horizon, 0, []
    for start, end in quarters(start_ms, end_ms):
        known = training_rows(labels.ts, start - embargo * step_ms, labels.horizon, step_ms)
        rows = int((labels.valid & known).sum())
        tested = labels.valid & (labels.ts >= start) & (labels.ts < end)
        most = max(most, rows)
        if rows >= min_rows and tested.any():
            spans.append((start, end))
    if not spans:
        raise DataRefused(
            "refit", f"needs {min_rows} valid rows before a quarter of the range", most,
            "Give a file with more history: agents are fitted on what lies before each quarter.",
        )  # fmt: skip
    return walk_forward(labels.ts, labels.valid, labels.horizon, step_ms, spans, embargo, min_rows)


def told(fold: WalkFold) -> dict[str, str]:
    """Return a fold's instants as text, for reports."""
    return {
        "start": iso(fold.start_ms),
        "end": iso(fold.end_ms),
        "trained_until": iso(fold.fit_ms),
    }


class Refitted:
    """An agent whose model is another one in every fold (:class:`domain.ports.Agent`).

    Parameters
    ----------
    parts : folds in order, each with the agent fitted for it. Bars outside all folds are met with
        silence.
    horizon_bars : bars ahead that they speak about.
    """

    def __init__(self, parts: Sequence[tuple[WalkFold, Agent]], horizon_bars: int) -> None:
        self._parts = list(parts)
        agents = [agent for _, agent in self._parts]
        self.name = agents[0].name
        self.version = "refit-" + short_hash([agent.version for agent in agents], 12)
        self.horizon_bars = horizon_bars
        self.needs = Needs(
            max(agent.needs.bars for agent in agents),
            max(agent.needs.feature_rows for agent in agents),
        )
        self.first_ms = self._parts[0][0].start_ms
        self._starts: NDArray[np.int64] = np.array([fold.start_ms for fold, _ in self._parts])

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return one opinion per state, each by the model of its fold."""
        out: list[Opinion | None] = [None] * len(states)
        groups: dict[int, list[int]] = {}
        for row, state in enumerate(states):
            groups.setdefault(self._fold(int(state.bars.ts[-1])), []).append(row)
        for fold, rows in groups.items():
            said = self._ask(fold, [states[row] for row in rows])
            for row, opinion in zip(rows, said, strict=True):
                out[row] = opinion
        return [opinion for opinion in out if opinion is not None]

    def _fold(self, opened: int) -> int:
        at = int(np.searchsorted(self._starts, opened, side="right")) - 1
        return at if at >= 0 and opened < self._parts[at][0].end_ms else -1

    def _ask(self, fold: int, states: Sequence[MarketState]) -> list[Opinion]:
        if fold >= 0:
            said = self._parts[fold][1].opine(states)
            return [replace(opinion, model_version=self.version) for opinion in said]
        return [
            asleep(self.name, self.version, state, self.horizon_bars, NOT_FITTED)
            for state in states
        ]


def refit_agents(
    names: Sequence[str],
    agents: Mapping[str, Agent],
    trainers: Mapping[str, Trainer],
    frame: BarFrame,
    folds: Sequence[WalkFold],
    horizon_bars: int,
    progress: Progress | None = None,
) -> dict[str, Agent]:
    """Train every agent that has a trainer once a fold; the others learn nothing ahead and stay.

    Parameters
    ----------
    names : of all agents, in their order.
    agents : those without a trainer.
    trainers : name → trainer.
    progress : called with fits done and fits in all.
    """
    fits = sum(name in trainers for name in names) * len(folds)
    done = 0
    out: dict[str, Agent] = {}
    for name in names:
        if name not in trainers:
            out[name] = agents[name]
            continue
        parts = []
        for fold in folds:
            parts.append((fold, trainers[name](frame.between(None, fold.fit_ms), fold.fit_ms)))
            done += 1
            if progress is not None:
                progress(done, fits)
        out[name] = Refitted(parts, horizon_bars)
    return out
