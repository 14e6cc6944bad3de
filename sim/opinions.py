"""Ask agents and council about every bar of a stretch, and keep what they say as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.contract import trim
from domain.decision import Decision
from domain.errors import CheckFailed, ConclaveError
from domain.market import MarketState
from domain.opinion import Opinion, Outcome
from domain.ports import Agent, Needs, Strategy
from domain.quantiles import CANONICAL_LEVELS
from domain.times import iso
from sim.scoring import Forecasts

SIGMA = "sigma"  # evidence key of a forecast standard deviation, log return over the horizon
BATCH = 2_048  # states an agent sees at a time; changes no opinion

_CHANCES = ("p_up", "risk_down", "risk_up")


class Recorder:
    """Writes what a council publishes into columns of n rows."""

    def __init__(self, n: int) -> None:
        self.forecasts = Forecasts.silent(n)

    def publish(self, row: int, decision: Decision) -> None:
        """Record what the council published on one row."""
        columns, quantiles = self.forecasts, decision.quantiles
        if decision.prob_up is not None:
            columns.p_up[row] = decision.prob_up
        if decision.risk_down is not None:
            columns.risk_down[row] = decision.risk_down
        if decision.risk_up is not None:
            columns.risk_up[row] = decision.risk_up
        if quantiles is None:
            return
        if quantiles.levels == CANONICAL_LEVELS:
            columns.quantiles[row] = quantiles.values
        else:
            columns.quantiles[row] = quantiles.table().ppf(CANONICAL_LEVELS)[0]


class CouncilRun:
    """Sits a council bar by bar and tells it every outcome when it is due, as the desk does.

    Parameters
    ----------
    council : a fresh strategy; its fold starts from the prior.
    """

    def __init__(self, council: Strategy, n: int, agents: Sequence[str]) -> None:
        self.council = council
        self.recorder = Recorder(n)
        self.weights = {name: np.full(n, np.nan) for name in agents}
        self._numbers: Iterator[int] = count(1)

    def sit(
        self,
        row: int,
        state: MarketState,
        opinions: Sequence[Opinion],
        absent: Mapping[str, str],
        due: Outcome | None,
    ) -> Decision:
        """Fold the outcome that is due now, decide, and fold opinions and decision.

        Returns
        -------
        The decision.
        """
        if due is not None:
            self._observe([due])
        prepared = self.council.prepare_state(state, opinions, absent)
        decision = self.council.generate_signal(prepared, state.as_of)
        self._observe([*opinions, decision])
        self.recorder.publish(row, decision)
        for name, weight in decision.weights.items():
            if name in self.weights:
                self.weights[name][row] = weight
        return decision

    def _observe(self, records: Sequence[Any]) -> None:
        self.council.observe([(next(self._numbers), record) for record in records])


def ask(
    agents: Mapping[str, Agent],
    states: Sequence[MarketState],
    asleep_until: Mapping[str, int],
) -> tuple[dict[str, list[Opinion]], dict[str, int]]:
    """Ask every agent about a batch, except on bars that it was trained on.

    Parameters
    ----------
    asleep_until : agent → end of its training, UTC ms of bar open.

    Raises
    ------
    CheckFailed : if an agent fails, gives too few opinions, or numbers that cannot be.

    Returns
    -------
    Opinions by agent, and by agent the index of the state that the first of them is about.
    """
    said: dict[str, list[Opinion]] = {}
    first: dict[str, int] = {}
    for name, agent in agents.items():
        until = asleep_until.get(name)
        start = 0 if until is None else _first_after(states, until)
        first[name] = start
        said[name] = _heard(name, agent, [trim(state, agent.needs) for state in states[start:]])
    return said, first


def _heard(name: str, agent: Agent, states: Sequence[MarketState]) -> list[Opinion]:
    try:
        said = list(agent.opine(states))
    except ConclaveError:
        raise
    except Exception as error:  # whatever somebody's forecaster may do: in words, with its name
        told = f"{type(error).__name__}: {error}"
        raise CheckFailed(name, f"failed: {told}", hint="Leave it out, or mend it.") from error
    if len(said) != len(states):
        rule = f"must give one opinion for each of {len(states)} states"
        raise CheckFailed(name, rule, len(said))
    for opinion in said:
        where = f"{name} at {iso(opinion.as_of)}"
        if not opinion.finite:
            raise CheckFailed(where, "must give finite numbers, or None")
        for part in _CHANCES:
            chance = getattr(opinion, part)
            if chance is not None and not 0.0 <= chance <= 1.0:
                raise CheckFailed(where, f"{part} is in [0, 1]", chance)
    return said


def widest(agents: Mapping[str, Agent]) -> Needs:
    """Return how much of a state the most demanding agent reads."""
    needs = [agent.needs for agent in agents.values()]
    return Needs(
        max((need.bars for need in needs), default=1),
        max((need.feature_rows for need in needs), default=1),
    )


def _first_after(states: Sequence[MarketState], until: int) -> int:
    opens: NDArray[np.int64] = np.array([state.bars.ts[-1] for state in states], dtype=np.int64)
    return int(np.searchsorted(opens, until))
