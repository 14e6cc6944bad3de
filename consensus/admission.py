"""Stage 1: which opinions count, and why the others do not.

An opinion that breaks a rule is *asleep*: it changes neither pool nor score. ``absent`` keeps
one word per agent (a word of :data:`domain.decision.DEGRADING` if a part failed), ``details``
the sentence behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consensus.rounds import Said
from consensus.settings import CouncilSettings
from domain.opinion import Opinion
from domain.quantiles import (
    CANONICAL_LEVELS,
    REQUIRED_LEVELS,
    QuantileTable,
    canonical_moments,
)

Floats = NDArray[np.float64]
Levels = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """An opinion that counts.

    Attributes
    ----------
    p_up : clipped P(r > 0), or None where the agent forecasts risk only.
    said : the same in numbers: quantiles on the canonical levels, non-decreasing.
    """

    opinion: Opinion
    p_up: float | None
    said: Said


@dataclass(frozen=True, slots=True)
class Asleep:
    """Why an opinion does not count: one word, and the sentence behind it."""

    why: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """Everybody's standing at one instant.

    Attributes
    ----------
    awake : admitted opinions, sorted by agent.
    absent : agent → why it does not count.
    details : agent → the sentence behind it, where there is one.
    versions : agent → model version of every agent that answered at all.
    """

    awake: tuple[Admitted, ...]
    absent: Mapping[str, str]
    details: Mapping[str, str]
    versions: Mapping[str, str]


def admit(
    symbol: str,
    timeframe: str,
    as_of: int,
    opinions: Sequence[Opinion],
    absent: Mapping[str, str],
    settings: CouncilSettings,
    judge: Callable[[Opinion, CouncilSettings], Admitted | Asleep] | None = None,
) -> Admission:
    """Sort opinions on (symbol, timeframe, as_of) into awake and absent, in any order given.

    An agent the host reports absent stays absent though its opinion came (late). The same
    opinion twice is one; two that differ are both refused. Members nobody heard of are
    ``silent``. ``judge`` is :func:`examine` or something that remembers its answers.
    """
    judge = judge or examine
    found: dict[str, Admitted | Asleep] = {}
    said: dict[str, Opinion] = {}
    versions: dict[str, str] = {}
    for opinion in opinions:
        agent = opinion.agent
        if agent not in said:
            said[agent], versions[agent] = opinion, opinion.model_version
            found[agent] = _misplaced(opinion, symbol, timeframe, as_of) or judge(opinion, settings)
        elif opinion != said[agent]:
            found[agent] = Asleep("invalid", "two opinions that differ")
            versions[agent] = min(versions[agent], opinion.model_version)
    why = dict.fromkeys(settings.members, "silent")
    details: dict[str, str] = {}
    for agent, verdict in found.items():
        why.pop(agent, None)
        if isinstance(verdict, Asleep):
            why[agent] = verdict.why
            if verdict.detail:
                details[agent] = verdict.detail
    why |= absent
    awake = [
        x for agent, x in sorted(found.items()) if isinstance(x, Admitted) and agent not in why
    ]
    return Admission(tuple(awake), _sorted(why), _sorted(details), _sorted(versions))


def examine(opinion: Opinion, settings: CouncilSettings) -> Admitted | Asleep:
    """Judge one opinion by itself: the same rules for the decision and for the score."""
    if not isinstance(opinion.agent, str) or not opinion.agent or opinion.agent[0] == "_":
        return Asleep("invalid", "agent names must not be empty nor start with _")
    if opinion.horizon_bars != settings.horizon_bars:
        return Asleep("invalid", f"horizon {opinion.horizon_bars}, not {settings.horizon_bars}")
    silent = opinion.p_up is None and opinion.quantiles is None
    if silent and "asleep" in (opinion.evidence or {}):
        return Asleep(str(opinion.evidence["asleep"]))
    for name in ("p_up", "risk_down", "risk_up"):
        value = getattr(opinion, name)
        if value is not None and not 0.0 <= _number(value) <= 1.0:
            return Asleep("invalid", f"{name} {value} is no probability")
    if opinion.expected_return is not None and math.isnan(_number(opinion.expected_return)):
        return Asleep("invalid", f"expected_return {opinion.expected_return} is no finite number")
    if silent and opinion.risk_down is None and opinion.risk_up is None:
        return Asleep("invalid", "says nothing and gives no reason")
    return _measured(opinion, settings)


def _measured(opinion: Opinion, settings: CouncilSettings) -> Admitted | Asleep:
    levels: Levels = ()
    values: tuple[float, ...] = ()
    if opinion.quantiles is not None:
        known = opinion.quantiles.levels is CANONICAL_LEVELS  # as nearly always
        levels = CANONICAL_LEVELS if known else _numbers(opinion.quantiles.levels)
        values = tuple(sorted(_numbers(opinion.quantiles.values)))
        if fault := _fault(levels, values, settings.max_quantile):
            return Asleep("invalid", fault)
    if opinion.p_up is not None:
        p = float(opinion.p_up)
    elif levels:
        p = 1.0 - _below_zero(levels, values)
    else:
        return _admitted(opinion, None, None)
    low, high = settings.clip
    row = _canonical(levels, values) if levels else None
    return _admitted(opinion, min(max(p, low), high), row)


def _admitted(opinion: Opinion, p_up: float | None, row: tuple[float, ...] | None) -> Admitted:
    down, up = (None if x is None else float(x) for x in (opinion.risk_down, opinion.risk_up))
    return Admitted(opinion, p_up, Said(p_up, row, down, up))


def _below_zero(levels: Levels, values: tuple[float, ...]) -> float:
    """F(0)."""
    if levels == CANONICAL_LEVELS:
        return canonical_moments(values)[2]
    return float(QuantileTable.of(levels, values).cdf(0.0)[0])


def _canonical(levels: Levels, values: tuple[float, ...]) -> tuple[float, ...]:
    """Quantiles on the canonical levels, (13,), non-decreasing."""
    if levels == CANONICAL_LEVELS:
        return values
    return tuple(sorted((_expansion(levels) @ np.array(values)).tolist()))


def _misplaced(opinion: Opinion, symbol: str, timeframe: str, as_of: int) -> Asleep | None:
    if opinion.symbol != symbol or opinion.timeframe != timeframe:
        return Asleep("invalid", f"speaks of {opinion.symbol} {opinion.timeframe}")
    if opinion.as_of < as_of:
        return Asleep("stale", f"made {as_of - opinion.as_of} ms before this bar closed")
    if opinion.as_of > as_of:
        return Asleep("invalid", f"made {opinion.as_of - as_of} ms after this bar closed")
    return None


def _fault(levels: Levels, values: tuple[float, ...], largest: float) -> str:
    """What is wrong with sorted values on levels; empty if nothing."""
    if not levels or not values:
        return "quantiles must be finite numbers"
    if len(levels) != len(values):
        return f"{len(levels)} levels but {len(values)} quantiles"
    if levels is not CANONICAL_LEVELS and not _usable(levels):
        return "levels must increase strictly inside (0, 1) and contain .1, .5 and .9"
    worst = max(abs(values[0]), abs(values[-1]))
    return f"a quantile of {worst:.3g} is beyond ±{largest:g}" if worst > largest else ""


def _number(value: Any) -> float:
    """The value as a float; NaN for whatever is no finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _numbers(values: Any) -> tuple[float, ...]:
    """The values as floats; empty if one of them is no finite number."""
    try:
        numbers = tuple(map(float, values))
    except (TypeError, ValueError, OverflowError):
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


@lru_cache(maxsize=256)
def _usable(levels: Levels) -> bool:
    inside = levels[0] > 0.0 and levels[-1] < 1.0
    rising = all(a < b for a, b in pairwise(levels))
    return inside and rising and {*levels} >= {*REQUIRED_LEVELS}


@lru_cache(maxsize=256)
def _expansion(levels: Levels) -> Floats:
    """The completed quantile function is linear in sorted values: its matrix, (13, k)."""
    k = len(levels)
    steps = np.triu(np.ones((k, k)))  # row j is 1 from level j on
    rows = QuantileTable.of(levels, steps).ppf(CANONICAL_LEVELS)  # (k, 13)
    rows[:-1] -= rows[1:].copy()
    return np.ascontiguousarray(rows.T)


def _sorted(items: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(items.items()))
