"""The laws of an agent. Every implementation passes :func:`check_agent`, ours and yours."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from agents.contract import sleep_reason, trim
from domain.canonical import canonical_json
from domain.errors import CheckFailed
from domain.market import BarFrame, MarketState
from domain.opinion import Opinion
from domain.ports import Agent
from domain.quantiles import REQUIRED_LEVELS

_BAR_COLUMNS = ("ts", "open", "high", "low", "close", "volume")

StatesOf = Callable[[BarFrame], Sequence[MarketState]]


def check_agent(agent: Agent, states: Sequence[MarketState]) -> None:
    """Check the laws that need nothing but states.

    One opinion per state, in order and about it; probabilities and quantiles well formed; the same
    answer again; the same answer whatever else is in the batch; no more is read than ``needs``
    says; inputs stay as they were; a row of NaN features is met with an answer, not a crash.

    Parameters
    ----------
    states : at least 8 consecutive ones, at least one of which the agent speaks about.

    Raises
    ------
    CheckFailed : naming the agent, the law and what was seen.
    """
    states = list(states)
    if len(states) < 8:
        raise CheckFailed("check_agent", "needs at least 8 states", len(states))
    before = [_fingerprint(state) for state in states]
    opinions = agent.opine(states)
    check_opinions(agent, states, opinions)
    if all(sleep_reason(opinion) for opinion in opinions):
        raise CheckFailed(agent.name, "must speak about at least one of the states")
    _equal(agent, "must give the same answer twice", opinions, agent.opine(states))
    for batch in _batches(states):
        at = [i for i, _ in batch]
        got = agent.opine([state for _, state in batch])
        _equal(agent, "must not depend on its batch", [opinions[i] for i in at], got)
    small = [trim(state, agent.needs) for state in states]
    _equal(agent, "must read no more than it needs", opinions, agent.opine(small))
    if before != [_fingerprint(state) for state in states]:
        raise CheckFailed(agent.name, "must leave its inputs as they are")
    check_opinions(agent, states, agent.opine([_without_features(state) for state in states]))
    if agent.opine([]) != []:
        raise CheckFailed(agent.name, "must answer an empty batch with an empty list")


def check_opinions(
    agent: Agent, states: Sequence[MarketState], opinions: Sequence[Opinion]
) -> None:
    """Check that every opinion is about its state and that its numbers can be.

    Probabilities in [0, 1], quantiles finite and sorted, silence exactly where it is explained.

    Raises
    ------
    CheckFailed : naming the agent, the law and what was seen.
    """
    if len(opinions) != len(states):
        raise CheckFailed(
            agent.name, f"must give one opinion for each of {len(states)} states", len(opinions)
        )
    for state, opinion in zip(states, opinions, strict=True):
        key = (state.symbol, state.timeframe, state.as_of, agent.name, agent.version)
        seen = (
            opinion.symbol, opinion.timeframe, opinion.as_of, opinion.agent, opinion.model_version,
        )  # fmt: skip
        if seen != key:
            raise CheckFailed(agent.name, f"must speak about {key}, in order", seen)
        if opinion.horizon_bars < 1:
            raise CheckFailed(agent.name, "must look at least one bar ahead", opinion.horizon_bars)
        _finite(agent, opinion)
        _quantiles(agent, opinion)
        silent = opinion.p_up is None and opinion.quantiles is None
        if silent != (sleep_reason(opinion) is not None):
            raise CheckFailed(agent.name, "must be silent exactly where it is asleep", opinion)
        canonical_json(opinion)


def check_blindness(agent: Agent, bars: BarFrame, states_of: StatesOf, rows: Sequence[int]) -> None:
    """Check that the future changes nothing: scrambled or cut off, the opinion is the same.

    Parameters
    ----------
    states_of : makes the states of all bars, e.g. with :class:`data.memory.MarketMemory`.
    rows : indices of the bars whose closes are the instants to check.

    Raises
    ------
    CheckFailed : naming the agent and the instant.
    """
    whole = states_of(bars)
    for row in rows:
        expected = agent.opine([whole[row]])
        for future in (bars.slice(0, row + 1), _scrambled(bars, row)):
            got = agent.opine([states_of(future)[row]])
            _equal(agent, "must not see the future", expected, got)


def _batches(states: list[MarketState]) -> Iterator[list[tuple[int, MarketState]]]:
    numbered = list(enumerate(states))
    for size in (1, 7):
        for start in range(0, min(len(states), 4 * size), size):
            yield numbered[start : start + size]
    yield numbered[::-1]
    yield numbered[::3]


def _finite(agent: Agent, opinion: Opinion) -> None:
    for name in ("p_up", "risk_down", "risk_up"):
        value = getattr(opinion, name)
        if value is not None and not 0.0 <= value <= 1.0:  # NaN fails as well
            raise CheckFailed(agent.name, f"its {name} must be in [0, 1] or None", value)
    expected = opinion.expected_return
    if expected is not None and not math.isfinite(expected):
        raise CheckFailed(agent.name, "its expected_return must be finite or None", expected)


def _quantiles(agent: Agent, opinion: Opinion) -> None:
    if opinion.quantiles is None:
        return
    levels, values = opinion.quantiles.levels, opinion.quantiles.values
    if not set(REQUIRED_LEVELS) <= set(levels) or len(levels) != len(values):
        raise CheckFailed(agent.name, f"its levels must contain {REQUIRED_LEVELS}", levels)
    if not np.isfinite(values).all() or (np.diff(values) < 0).any():
        raise CheckFailed(agent.name, "its quantiles must be finite and sorted", values)


def _equal(agent: Agent, law: str, expected: Sequence[Opinion], got: Sequence[Opinion]) -> None:
    for before, after in zip(expected, got, strict=True):
        if canonical_json(before) != canonical_json(after):
            raise CheckFailed(
                f"{agent.name} at {before.as_of}", law, f"{_core(before)} ≠ {_core(after)}"
            )


def _core(opinion: Opinion) -> str:
    return canonical_json([opinion.p_up, opinion.quantiles, opinion.risk_down, opinion.risk_up])


def _fingerprint(state: MarketState) -> str:
    hashed = hashlib.sha256(state.features.values.tobytes())
    for name in _BAR_COLUMNS:
        hashed.update(getattr(state.bars, name).tobytes())
    return hashed.hexdigest()


def _without_features(state: MarketState) -> MarketState:
    blank = np.full_like(state.features.values, np.nan)
    return replace(state, features=replace(state.features, values=blank))


def _scrambled(bars: BarFrame, row: int) -> BarFrame:
    columns = {name: getattr(bars, name).copy() for name in _BAR_COLUMNS}
    for name in ("open", "high", "low", "close"):
        columns[name][row + 1 :] = columns[name][row + 1 :][::-1] * 1.5
    columns["volume"][row + 1 :] *= 3.0
    return BarFrame(bars.symbol, bars.timeframe, **columns)
