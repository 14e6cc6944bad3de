"""The Ray Serve application: every agent a deployment, the council and HTTP in front.

``build(args)`` is what ``serve run``, ``serve build`` and a ``serveConfigV2`` import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from agents.host import AgentHost, HandleAgent, threaded
from domain.cards import AgentCard
from domain.market import MarketState
from domain.opinion import Opinion
from serving.api import create_api
from serving.bootstrap import council_service, live_agents, settings_of
from serving.plan import load_plan
from serving.promotion import Refresher

APP_NAME = "conclave"


class BuildArgs(BaseModel):
    """Arguments of :func:`build`.

    Attributes
    ----------
    plan : path of ``run.json``, readable on every node.
    remote : agents with a deployment of their own.
    in_process : light agents that think inside the council's replica.
    """

    model_config = ConfigDict(extra="forbid")

    plan: str
    remote: list[str] = Field(default_factory=list)
    in_process: list[str] = Field(default_factory=list)
    agent_cpus: float = 0.0
    max_ongoing_requests: int = 256


class AgentReplica:
    """One forecaster in a process of its own."""

    def __init__(self, name: str, plan: str) -> None:
        loaded = load_plan(Path(plan))
        agents = live_agents(settings_of(loaded), [name], loaded)
        self._agent = agents[name]
        self._agent.warm_up()  # before Serve calls it ready
        self._refresher = Refresher(agents).start()

    async def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Answer a batch of states."""
        return self._agent.opine(states)

    async def describe(self) -> AgentCard:
        """Say what answers here now, and with which models."""
        return self._agent.card

    def check_health(self) -> None:
        """Raise if this replica cannot answer; asks no other service."""


@serve.ingress()
class CouncilIngress:
    """Asks the agents, fuses what came, answers HTTP."""

    def __init__(self, plan: str, in_process: Sequence[str], **handles: DeploymentHandle) -> None:
        self._plan = load_plan(Path(plan))
        settings = settings_of(self._plan)
        mine = live_agents(settings, in_process, self._plan)
        self._refresher = Refresher(mine).start()
        agents: dict[str, AgentHost] = {name: threaded(agent) for name, agent in mine.items()}
        agents.update((name, HandleAgent(name, handle)) for name, handle in handles.items())
        self._service = council_service(self._plan, settings, agents)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_api(self._service)

    def check_health(self) -> None:
        """Raise if the database cannot be read."""
        self._service.ping()


def build(args: BuildArgs | Mapping[str, Any]) -> Application:
    """Return the application: one deployment per remote agent and the council in front.

    Raises
    ------
    pydantic.ValidationError : on unknown or malformed arguments.
    """
    wanted = args if isinstance(args, BuildArgs) else BuildArgs.model_validate(dict(args))
    handles = {
        name: serve.deployment(AgentReplica)
        .options(
            name=name,
            max_ongoing_requests=64,
            health_check_period_s=2,
            health_check_timeout_s=10,
            graceful_shutdown_timeout_s=2,
            ray_actor_options={"num_cpus": wanted.agent_cpus},
        )
        .bind(name, wanted.plan)
        for name in wanted.remote
    }
    council = serve.deployment(CouncilIngress).options(
        name="council",
        max_ongoing_requests=wanted.max_ongoing_requests,
        health_check_period_s=5,
        graceful_shutdown_timeout_s=2,
        ray_actor_options={"num_cpus": wanted.agent_cpus},
    )
    return council.bind(wanted.plan, wanted.in_process, **handles)
