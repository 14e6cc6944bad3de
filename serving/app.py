"""The Ray Serve application: every agent a deployment, the council and HTTP in front.

``build(args)`` is what ``serve run``, ``serve build`` and a ``serveConfigV2`` import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application, metrics
from ray.serve.handle import DeploymentHandle

from agents.host import AgentHost, Gathered, HandleAgent, threaded
from serving.bootstrap.agents import live_agents
from serving.bootstrap.settings import settings_of, settings_wished
from serving.logs import start_logging
from serving.plan import RunPlan, known
from serving.planning import Wish, resolve
from serving.promotion import Refresher
from serving.replica import AgentReplica, AgentUserConfig

APP_NAME = "conclave"
COUNCIL = "council"
AGENT_ONGOING = 64  # questions an agent's replica has at once; more wait in line at who asks
AGENT_QUEUED = 256  # a longer line is refused: what waits there would be late anyway


class BuildArgs(BaseModel):
    """Arguments of :func:`build`.

    Attributes
    ----------
    plan : path of ``run.json``, readable on every node; without one the settings of the
        environment say what runs, with ``source``, ``data`` and ``profile`` as of ``conclave up``.
    remote : agents with a deployment of their own; None = as the settings say.
    agent_cpus : CPUs that a replica reserves.
    replicas : of every deployment; more than one go to as many nodes, so that one may be lost.

    A serveConfigV2 may set others for each deployment.
    """

    model_config = ConfigDict(extra="forbid")

    plan: str | None = None
    source: Literal["auto", "live", "replay", "demo"] | None = None
    data: list[str] = Field(default_factory=list)
    profile: str | None = None
    remote: list[str] | None = None
    agent_cpus: float = Field(0.0, ge=0)
    replicas: int = Field(1, ge=1)


@serve.ingress()
class CouncilIngress:
    """Asks the agents, fuses what came, answers HTTP."""

    def __init__(
        self, plan: str | RunPlan, in_process: Sequence[str], **handles: DeploymentHandle
    ) -> None:
        from serving.bootstrap.service import council_service  # who deploys does not wait for it

        plan = known(plan)
        settings = settings_of(plan)
        start_logging(settings, COUNCIL, console=True)
        mine = live_agents(settings, in_process, plan)
        for agent in mine.values():
            agent.warm_up()
        self._refresher = Refresher(mine.values()).start()
        agents: dict[str, AgentHost] = {name: threaded(agent) for name, agent in mine.items()}
        agents.update((name, HandleAgent(name, handle)) for name, handle in handles.items())
        self._service = council_service(plan, settings, agents)
        self._service.heard = _counting()

    def __serve_build_asgi_app__(self) -> FastAPI:
        from serving.api import create_api

        return create_api(self._service)

    def check_health(self) -> None:
        """Raise if the database cannot be read."""
        self._service.ping()


def _counting() -> Callable[[Gathered], None]:
    """Count on Ray's own metrics port what came of the questions to the agents."""
    opinions = metrics.Counter(
        "conclave_opinions", "Opinions asked for, by what came", ("agent", "result")
    )

    def count(gathered: Gathered) -> None:
        for row, absent in gathered.each():
            for agent in row:
                opinions.inc(1, {"agent": agent, "result": "heard"})
            for agent, why in absent.items():
                opinions.inc(1, {"agent": agent, "result": why})

    return count


def build(args: BuildArgs | Mapping[str, Any]) -> Application:
    """Return the application: one deployment per remote agent and the council in front.

    Raises
    ------
    pydantic.ValidationError : on unknown or malformed arguments.
    ConclaveError : if there is no such plan, or the settings make no sense.
    """
    wanted = args if isinstance(args, BuildArgs) else BuildArgs.model_validate(dict(args))
    plan = wanted.plan or _planned(wanted)
    settings = settings_of(known(plan))
    remote = list(settings.models.remote) if wanted.remote is None else wanted.remote
    where: dict[str, Any] = {
        "num_replicas": wanted.replicas,
        "max_replicas_per_node": 1 if wanted.replicas > 1 else None,
        "ray_actor_options": {"num_cpus": wanted.agent_cpus},
    }
    handles = {
        name: serve.deployment(AgentReplica)
        .options(
            name=name,
            max_ongoing_requests=AGENT_ONGOING,
            max_queued_requests=AGENT_QUEUED,
            user_config=AgentUserConfig().model_dump(),
            health_check_period_s=2,
            health_check_timeout_s=10,
            graceful_shutdown_timeout_s=2,
            **where,
        )
        .bind(name, plan)
        for name in remote
    }
    council = serve.deployment(CouncilIngress).options(
        name=COUNCIL,
        max_ongoing_requests=settings.serving.max_ongoing_requests,
        health_check_period_s=2,
        health_check_timeout_s=10,  # three in a row: a council that hangs is the whole API
        graceful_shutdown_timeout_s=2,
        **where,
    )
    here = [name for name in settings.models.agents if name not in remote]
    return council.bind(plan, here, **handles)


def _planned(wanted: BuildArgs) -> RunPlan:
    """Plan a run that other machines take part in: each reads its settings from its environment."""
    wish = Wish(wanted.source, tuple(map(Path, wanted.data)), profile=wanted.profile)
    resolved = resolve(wish, partial(settings_wished, wish))
    return resolved.plan((resolved.settings.serving.api_port, 0))
