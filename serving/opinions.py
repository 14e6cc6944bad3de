"""How the desk gets opinions: through Ray Serve, or from light agents in its own process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx
import structlog

from agents.host import Gathered, gather
from domain.market import MarketState
from domain.ports import AsyncAgent
from serving.wire import opinion_from

log = structlog.get_logger("opinions")


class Opinions(Protocol):
    """A way to ask all agents about states of one instant."""

    @property
    def via(self) -> str:
        """``serve`` or ``in_process``: where the last answer came from."""
        ...

    async def ask(self, states: Sequence[MarketState]) -> Gathered:
        """Return what was said and who is absent; never raises for an agent's failure."""
        ...

    async def arrived(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for the agents to be there; return whether they are."""
        ...


@dataclass(slots=True)
class InProcessOpinions:
    """Agents in this process."""

    agents: Mapping[str, AsyncAgent]
    deadline_s: float
    via: str = "in_process"

    async def ask(self, states: Sequence[MarketState]) -> Gathered:
        """Ask every agent here."""
        return await gather(self.agents, states, self.deadline_s)

    async def arrived(self, seconds: float) -> bool:  # noqa: ARG002 - they are here
        """Return True."""
        return True


def _way(states: int) -> float:
    """Return the seconds that bars and opinions may take there and back beside the thinking."""
    return 1.0 + 0.01 * states


@dataclass(slots=True)
class ServeOpinions:
    """Agents behind Serve, with the light ones here as what remains when Serve is gone."""

    client: httpx.AsyncClient
    fallback: InProcessOpinions
    deadline_s: float
    via: str = "in_process"

    async def ask(self, states: Sequence[MarketState]) -> Gathered:
        """Ask Serve; on any failure of the way there, ask the light agents in this process."""
        body = {"items": [{"symbol": state.symbol, "as_of": state.as_of} for state in states]}
        try:
            reply = await self.client.post(
                "/internal/opinions", json=body, timeout=self.deadline_s + _way(len(states))
            )
            reply.raise_for_status()
            answer = reply.json()
            rows = tuple(
                {body["agent"]: opinion_from(body) for body in row} for row in answer["opinions"]
            )
            if len(rows) != len(states):
                raise ValueError(f"{len(rows)} answers to {len(states)} questions")
            gathered = Gathered(rows, answer["absent"])
        except (httpx.HTTPError, KeyError, ValueError, TypeError) as error:
            if self.via == "serve":
                log.warning("serve_unreachable", error=f"{type(error).__name__}: {error}")
            self.via = "in_process"
            return await self.fallback.ask(states)
        if self.via != "serve":
            log.info("serve_reached")
        self.via = "serve"
        return gathered

    async def arrived(self, seconds: float) -> bool:
        """Poll Serve until it answers."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                reply = await self.client.get("/health/live", timeout=2.0)
                if reply.is_success:
                    return True
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.25)
        return False
