"""Stage 7: who has heard the others may answer, with evidence of its own.

Round 0 is what everybody said blind. In the first round an agent that has an argument moves:

``jump``       the last bar moved more than :data:`JUMP` of its standard deviations; part of such a
               move is taken back, so the logit leans against it;
``conflict``   short and long timeframes point in opposite directions: the logit shrinks towards 0;
``thin_book``  the top of the book holds less than it should: the logit moves towards the pool.

In the second one those that had none see the pool and the strongest dissenter, and meet it half way
if it brought an argument (``concession``). Nobody ends further than Δ from what it said blind.

An exchange of beliefs alone is a martingale and adds nothing in expectation (Choi, Zhu and Li,
*Debate or Vote*, 2025), so what comes out is one more candidate of the no-harm layer, scored beside
the blind pools.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from consensus.pooling import logit
from consensus.recalibration import sigmoid
from consensus.settings import UNINFORMED

JUMP = 3.0  # standard deviations of a bar
CONFLICT = 1.0  # standard deviations of each of the two moves
CONCEDED = 0.5
SETTLED = 1e-4  # logits: a round that moved nobody further ends the debate


@dataclass(frozen=True, slots=True)
class Case:
    """What there is to point at besides opinions; None is what nobody measured.

    Attributes
    ----------
    last, short, long : log return of the last 1, 3 and 48 bars, in standard deviations of such a
        move.
    liquidity : top of the book, as a share of what the rules require.
    """

    last: float | None = None
    short: float | None = None
    long: float | None = None
    liquidity: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Return JSON's types."""
        return {
            "last": self.last, "short": self.short, "long": self.long, "liquidity": self.liquidity,
        }  # fmt: skip


def covered(liquidity: float | None, required: float) -> float | None:
    """Return :attr:`Case.liquidity` of a book, quote units; None where nothing is required."""
    return None if liquidity is None or required <= 0.0 else liquidity / required


@dataclass(frozen=True, slots=True)
class Answer:
    """What one debater said in one round.

    Attributes
    ----------
    argument : ``jump``, ``conflict``, ``thin_book`` or ``concession``.
    to : whom it concedes to, else empty. ``because`` : the number it points at.
    before, after : its p.
    """

    round: int
    agent: str
    argument: str
    to: str
    because: float
    before: float
    after: float

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {
            "round": self.round, "agent": self.agent, "argument": self.argument, "to": self.to,
            "because": self.because, "before": self.before, "after": self.after,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Debate:
    """``p`` of everybody afterwards, and the transcript in the order in which it was spoken."""

    p: Mapping[str, float]
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class _Argument:
    name: str
    because: float
    aim: float  # logit
    to: str = ""


def debate(
    p: Mapping[str, float], weights: Mapping[str, float], case: Case, most: float
) -> Debate:  # fmt: skip
    """Let awake members answer each other; the order of agents is irrelevant.

    Parameters
    ----------
    p : agent → admitted p, blind. ``weights`` : theirs, summing to 1.
    most : Δ ≥ 0, logits; 0 = nobody moves.
    """
    if most <= 0.0 or _quiet(case):
        return Debate(p)
    blind = {agent: logit(chance) for agent, chance in sorted(p.items())}
    pool = _pool(blind, weights)
    first = {
        agent: said for agent, own in blind.items() if (said := _own(agent, own, pool, case, most))
    }
    after, answers = _spoken(1, first, blind, blind, most)
    if not answers:
        return Debate(p)
    second = _concessions(after, weights, first)
    after, more = _spoken(2, second, after, blind, most)
    moved = {answer.agent for answer in (*answers, *more)}
    now = {agent: sigmoid(x) if agent in moved else p[agent] for agent, x in after.items()}
    return Debate(now, (*answers, *more))


def _quiet(case: Case) -> bool:
    """Whether nobody can have an argument, as on most bars."""
    calm = case.last is None or abs(case.last) <= JUMP
    thick = case.liquidity is None or case.liquidity >= 1.0
    return calm and thick and not _conflicting(case)


def _conflicting(case: Case) -> bool:
    return case.short is not None and case.long is not None and case.short * case.long < 0.0


def _pool(logits: Mapping[str, float], weights: Mapping[str, float]) -> float:
    return math.fsum(weights[agent] * x for agent, x in logits.items())


def _own(agent: str, own: float, pool: float, case: Case, most: float) -> _Argument | None:
    """The argument that an agent brings by itself."""
    return ROLES.get(agent, _nothing)(own, pool, case, most)


def jump(own: float, _: float, case: Case, most: float) -> _Argument | None:
    if case.last is None or abs(case.last) <= JUMP:
        return None
    strength = min(1.0, abs(case.last) / JUMP - 1.0)
    return _Argument("jump", case.last, own - math.copysign(most * strength, case.last))


def conflict(own: float, _: float, case: Case, most: float) -> _Argument | None:  # noqa: ARG001
    if case.short is None or case.long is None or not _conflicting(case):
        return None
    strength = min(1.0, min(abs(case.short), abs(case.long)) / CONFLICT - 1.0)
    return _Argument("conflict", case.short, own * (1.0 - strength)) if strength > 0.0 else None


def thin_book(own: float, pool: float, case: Case, most: float) -> _Argument | None:  # noqa: ARG001
    if case.liquidity is None or case.liquidity >= 1.0:
        return None
    return _Argument("thin_book", case.liquidity, own + (1.0 - case.liquidity) * (pool - own))


def _nothing(own: float, pool: float, case: Case, most: float) -> _Argument | None:  # noqa: ARG001
    return None


ROLES: Mapping[str, Callable[[float, float, Case, float], _Argument | None]] = {
    "technical": jump, "baseline": jump, "tft": jump, "risk": jump,
    "chronos": conflict, "microstructure": thin_book,
}  # fmt: skip


def _concessions(
    now: Mapping[str, float], weights: Mapping[str, float], argued: Mapping[str, _Argument]
) -> dict[str, _Argument]:
    """What those say who had no argument, to the strongest dissenter if it had one."""
    pool = _pool(now, weights)
    dissenter = max(now, key=lambda agent: (weights[agent] * abs(now[agent] - pool), agent))
    if dissenter not in argued:
        return {}
    return {
        agent: _Argument("concession", now[dissenter] - own,
                         own + CONCEDED * (now[dissenter] - own), dissenter)
        for agent, own in now.items()
        if agent not in argued and agent not in UNINFORMED
    }  # fmt: skip


def _spoken(
    number: int, said: Mapping[str, _Argument], now: Mapping[str, float],
    blind: Mapping[str, float], most: float,
) -> tuple[dict[str, float], tuple[Answer, ...]]:  # fmt: skip
    """Everybody's logit after a round, nobody further than Δ from the start, and the answers."""
    after = dict(now)
    for agent, argument in said.items():
        after[agent] = min(max(argument.aim, blind[agent] - most), blind[agent] + most)
    if all(abs(after[agent] - now[agent]) < SETTLED for agent in said):
        return dict(now), ()
    answers = tuple(
        Answer(number, agent, argument.name, argument.to, argument.because,
               sigmoid(now[agent]), sigmoid(after[agent]))
        for agent, argument in said.items()
    )  # fmt: skip
    return after, answers
