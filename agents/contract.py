"""What every agent shares: how an opinion is filled in, and how silence is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.cards import AgentCard
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Agent, Needs
from domain.quantiles import CANONICAL_LEVELS, Quantiles

Floats = NDArray[np.float64]

HORIZON_BARS = 5  # what the shipped weights were trained for
MIN_BARS = 288  # contiguous bars before anybody speaks
ASLEEP = "asleep"  # evidence key that holds the reason for silence
DATA_GAP = "data_gap"
NO_MODEL = "no_model"  # why an agent is silent that has no model to speak with


def speak(
    agent: str, version: str, state: MarketState, horizon_bars: int, **content: Any
) -> Opinion:
    """Build an opinion about ``state``; ``content`` are the remaining fields of Opinion."""
    content.setdefault("p_up", None)
    content.setdefault("quantiles", None)
    return Opinion(
        agent, version, state.symbol, state.timeframe, state.as_of, horizon_bars, **content
    )


def asleep(
    agent: str, version: str, state: MarketState, horizon_bars: int, why: str = DATA_GAP
) -> Opinion:
    """Say nothing about ``state``: no probability, no quantiles, and the reason as evidence."""
    return speak(
        agent, version, state, horizon_bars, rationale=f"No opinion: {why}.", evidence={ASLEEP: why}
    )


def sleep_reason(opinion: Opinion) -> str | None:
    """Return why an opinion says nothing, or None if it says something."""
    reason = opinion.evidence.get(ASLEEP)
    return None if reason is None else str(reason)


def too_young(state: MarketState, needs: Needs) -> bool:
    """Return whether a gap lies so close that a bar-reading agent should say nothing."""
    return state.bars_since_gap < MIN_BARS or len(state.bars) < min(MIN_BARS, needs.bars)


def canonical(values: Floats) -> Quantiles:
    """Wrap values (13,) on the canonical levels, sorted; fractions of log return."""
    return Quantiles(CANONICAL_LEVELS, tuple(np.sort(values).tolist()))


def card_of(agent: Agent) -> AgentCard:
    """Return what an agent says of itself, or what can be seen of one that says nothing."""
    told = getattr(agent, "card", None)
    if isinstance(told, AgentCard):
        return told
    until = getattr(agent, "trained_until", None)
    return AgentCard(agent.name, agent.version, agent.needs, until)


def trim(state: MarketState, needs: Needs) -> MarketState:
    """Return ``state`` with no more bars and feature rows than ``needs``; views, no copies."""
    bars, features = state.bars, state.features
    if len(bars) > needs.bars:
        bars = bars.slice(len(bars) - needs.bars, len(bars))
    if len(features.values) > needs.feature_rows:
        features = replace(features, values=features.values[-needs.feature_rows :])
    if bars is state.bars and features is state.features:
        return state
    return replace(state, bars=bars, features=features)


IN_SAMPLE = "in_sample"  # why an agent is absent about bars that its model was trained on


def out_of_sample(
    agents: Mapping[str, Any],
    state: MarketState,
    opinions: Iterable[Opinion],
    absent: Mapping[str, str],
) -> tuple[list[Opinion], dict[str, str]]:
    """Leave out what models say about bars they were trained on; their agents are ``in_sample``.

    Parameters
    ----------
    agents : name → agent; ``trained_until`` (ms of bar open), where it has one, ends its training.
    """
    opened = int(state.bars.ts[-1])
    seen = {
        name
        for name, agent in agents.items()
        if (until := getattr(agent, "trained_until", None)) is not None and opened < until
    }
    kept = [opinion for opinion in opinions if opinion.agent not in seen]
    return kept, {**absent, **dict.fromkeys(sorted(seen), IN_SAMPLE)}
