"""One forecaster in a process of its own: what Ray Serve runs for every agent's deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, chain, pairwise

import structlog
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from agents.host import PART
from domain.cards import AgentCard
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Agent
from serving.bootstrap.agents import live_agents
from serving.bootstrap.settings import settings_of
from serving.logs import start_logging
from serving.plan import RunPlan, known
from serving.promotion import RELOAD_SECONDS, Refresher

log = structlog.get_logger("replica")

BATCH_STATES = 2 * PART  # most states in one forward pass: beyond it nothing is gained

Question = Sequence[MarketState]
Answer = list[Opinion] | Exception


class AgentUserConfig(BaseModel):
    """What ``user_config`` may say of an agent; a changed one reaches replicas without a restart.

    Attributes
    ----------
    look_every_s : seconds between two looks at what is promoted.
    promoted : any text; a new one makes every replica look at once.
    """

    model_config = ConfigDict(extra="forbid")

    look_every_s: float = Field(RELOAD_SECONDS, gt=0, le=3600)
    promoted: str = ""


class AgentReplica:
    """One forecaster; questions that arrive while it thinks are answered together after that.

    Parameters
    ----------
    name : of the agent.
    plan : of the run, or the path of ``run.json``.
    """

    def __init__(self, name: str, plan: str | RunPlan) -> None:
        plan = known(plan)
        settings = settings_of(plan)
        start_logging(settings, f"agent-{name}", console=True)
        agents = live_agents(settings, [name], plan)
        self._agent = agents[name]
        self._agent.warm_up()  # before Serve calls it ready
        # A thread, so that health checks are answered while a network computes; and only one.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._refresher = Refresher(agents.values()).start()

    async def reconfigure(self, user_config: dict[str, object]) -> None:
        """Look for promoted models now, and from now on as often as is said."""
        wanted = AgentUserConfig.model_validate(user_config)
        self._refresher.seconds = wanted.look_every_s
        await asyncio.get_running_loop().run_in_executor(self._thread, self._agent.refresh)

    async def opine(self, states: Question) -> list[Opinion]:
        """Answer a batch of states."""
        answer: Answer = await self._together(states)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @serve.batch(  # type: ignore[untyped-decorator] # Ray has no types for it
        max_batch_size=BATCH_STATES,
        batch_wait_timeout_s=0.0,  # nobody waits for company; what came meanwhile goes together
        batch_size_fn=lambda questions: sum(map(len, questions)),
    )
    async def _together(self, questions: list[Question]) -> list[Answer]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, answers, self._agent, questions)

    async def describe(self) -> AgentCard:
        """Say what answers here now, and with which models."""
        return self._agent.card

    def check_health(self) -> None:
        """Raise if this replica cannot answer; asks no other service."""


def answers(agent: Agent, questions: Sequence[Question]) -> list[Answer]:
    """Answer questions in one pass; if that fails, one by one, so that one alone fails.

    Returns
    -------
    For each question its opinions, or why there are none.
    """
    if len(questions) == 1:
        return [_answer(agent, questions[0])]
    together = _answer(agent, list(chain.from_iterable(questions)))
    sizes = list(map(len, questions))
    if isinstance(together, list) and len(together) == sum(sizes):
        return [together[a:b] for a, b in pairwise(accumulate(sizes, initial=0))]
    log.warning("batch_failed", questions=len(questions))
    return [_answer(agent, question) for question in questions]


def _answer(agent: Agent, states: Question) -> Answer:
    try:
        return agent.opine(states)
    except Exception as error:  # noqa: BLE001 - told to who asked, and to nobody else
        return error
