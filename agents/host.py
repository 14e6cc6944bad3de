"""Ask all agents at once, wait no longer than the deadline, and say who did not answer and why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from agents.contract import card_of, trim
from domain.cards import AgentCard
from domain.errors import ServiceUnreachable
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Agent, AsyncAgent, Needs

log = logging.getLogger(__name__)

PART = 64  # most states in one question: of many, those that were in time are not lost


class Overloaded(ServiceUnreachable):
    """An agent's queue is full."""

    code = "overloaded"


@dataclass(frozen=True, slots=True)
class Gathered:
    """What came back.

    Attributes
    ----------
    opinions : one mapping agent → opinion per state, in the order of the states.
    absent : agent → ``deadline``, ``failed``, ``unreachable``, ``overloaded`` or ``invalid``: why
        it is missing in one state or more.
    """

    opinions: tuple[Mapping[str, Opinion], ...]
    absent: Mapping[str, str] = field(default_factory=dict)

    def each(self) -> list[tuple[Mapping[str, Opinion], dict[str, str]]]:
        """Return for each state what was said, and who is missing there and why."""
        return [
            (row, {name: why for name, why in self.absent.items() if name not in row})
            for row in self.opinions
        ]


class LocalAgent:
    """An agent in this process: inline without an executor, else in one of its threads.

    Inline it cannot be late, it only makes the others wait: where a deadline must hold, use
    :func:`threaded`.
    """

    def __init__(self, agent: Agent, executor: Executor | None = None) -> None:
        self.agent, self._executor = agent, executor

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.agent.name

    async def describe(self) -> AgentCard:
        """Return what answers now."""
        return card_of(self.agent)

    async def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return the agent's opinions; it is sent no more of a state than it needs."""
        needs = self.agent.needs
        small = [trim(state, needs) for state in states]
        if self._executor is None:
            return self.agent.opine(small)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self.agent.opine, small)


def threaded(agent: Agent) -> LocalAgent:
    """Host an agent in a thread of its own, so that a slow one misses the deadline alone."""
    return LocalAgent(agent, ThreadPoolExecutor(1, thread_name_prefix=agent.name))


class HandleAgent:
    """An agent behind a Ray Serve handle whose deployment has ``opine(states)`` and ``describe()``.

    Parameters
    ----------
    needs : what to send of a state; None sends it whole, until the agent has described itself.
    """

    def __init__(self, name: str, handle: Any, needs: Needs | None = None) -> None:
        self.name, self.needs, self._handle = name, needs, handle

    async def describe(self) -> AgentCard:
        """Return what answers now, as one of the replicas says it."""
        card: AgentCard = await self._handle.describe.remote()
        self.needs = card.needs
        return card

    async def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return the deployment's opinions.

        Raises
        ------
        Overloaded : if its queue is full.
        ServiceUnreachable : if no replica can be reached.
        """
        from ray import exceptions
        from ray.serve import exceptions as serve_exceptions

        try:
            small = list(states) if self.needs is None else [trim(s, self.needs) for s in states]
            answer = self._handle.opine.remote(small)
            opinions: list[Opinion] = await answer
        except asyncio.CancelledError:
            answer.cancel()  # or the replica would still compute what nobody waits for
            raise
        except (
            serve_exceptions.BackPressureError,
            exceptions.PendingCallsLimitExceeded,
        ) as error:
            raise Overloaded(self.name, "its queue is full") from error
        except (
            exceptions.RayActorError,
            exceptions.RaySystemError,
            serve_exceptions.RayServeException,
            ConnectionError,
        ) as error:
            raise ServiceUnreachable(self.name, "has no replica in reach") from error
        return opinions


AgentHost = LocalAgent | HandleAgent


async def describe(agents: Mapping[str, AgentHost], deadline_s: float) -> dict[str, AgentCard]:
    """Ask every agent at once what it is; return what arrived by the deadline, by name."""
    calls = {name: asyncio.ensure_future(agent.describe()) for name, agent in agents.items()}
    if calls:
        await asyncio.wait(calls.values(), timeout=deadline_s)
    found = {}
    for name, call in calls.items():
        if not call.done():
            call.cancel()
        elif call.exception() is not None:
            log.warning("agent %s did not say what it is: %s", name, call.exception())
        else:
            found[name] = call.result()
    return found


async def gather(
    agents: Mapping[str, AsyncAgent], states: Sequence[MarketState], deadline_s: float
) -> Gathered:
    """Call every agent at once and return what arrived by the deadline; never raises for an agent.

    Parameters
    ----------
    agents : name → agent; names key the result.
    states : what to opine on.
    deadline_s : wall-clock seconds from now; late calls are cancelled.
    """
    parts = [(i, states[i : i + PART]) for i in range(0, len(states), PART)]
    calls = [
        (name, first, part, asyncio.ensure_future(agent.opine(part)))
        for first, part in parts
        for name, agent in sorted(agents.items())
    ]
    if not calls:
        return Gathered(tuple({} for _ in states))
    try:
        await asyncio.wait([call for *_, call in calls], timeout=deadline_s)
    finally:
        for *_, call in calls:
            call.cancel()  # what is done already stays as it is
    absent: dict[str, str] = {}
    rows: list[dict[str, Opinion]] = [{} for _ in states]
    for name, first, part, call in calls:
        why = _reason(name, call, part)
        if why is not None:
            absent.setdefault(name, why)
            continue
        for row, opinion in zip(rows[first : first + len(part)], call.result(), strict=True):
            row[name] = opinion
    return Gathered(tuple(rows), absent)


def _reason(
    name: str, call: asyncio.Future[list[Opinion]], states: Sequence[MarketState]
) -> str | None:
    if not call.done() or call.cancelled():
        log.warning("agent %s missed the deadline", name)
        return "deadline"
    error = call.exception()
    if error is not None:
        log.warning("agent %s did not answer", name, exc_info=error)
        if isinstance(error, Overloaded):
            return "overloaded"
        unreachable = isinstance(error, ServiceUnreachable | ConnectionError)
        return "unreachable" if unreachable else "failed"
    opinions = call.result()
    fits = isinstance(opinions, list) and len(opinions) == len(states)
    fits = fits and all(
        isinstance(opinion, Opinion)
        and (opinion.symbol, opinion.as_of) == (state.symbol, state.as_of)
        for opinion, state in zip(opinions, states, strict=True)
    )
    if not fits:
        log.warning("agent %s answered about other states", name)
        return "invalid"
    return None
