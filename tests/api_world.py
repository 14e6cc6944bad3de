"""The API over a desk at work, in one process: what its tests ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from agents.host import threaded
from serving.api import create_api
from serving.bootstrap.agents import live_agents
from serving.bootstrap.desk import build_desk
from serving.bootstrap.service import council_service
from serving.http_server import http_server
from serving.limits import Limiter
from serving.plan import RunPlan
from serving.processes import choose_port
from serving.service import CouncilService
from serving.settings import Settings, load_settings

PLAN = RunPlan("demo", "demo-7", "demo", 60.0, warm_up_days=1, local=True)
EXERCISE = RunPlan("demo", "demo-7", "exercise", 1200.0, warm_up_days=1, local=True)


@dataclass(frozen=True, slots=True)
class World:
    """A running system to ask."""

    service: CouncilService
    app: FastAPI
    client: httpx.AsyncClient
    var_dir: Path

    @property
    def token(self) -> str:
        return (self.var_dir / "api_token").read_text().strip()

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = "", **more: Any
    ) -> httpx.Response:
        """Call with the owner's token, another one, or none."""
        shown = self.token if token == "" else token
        headers = {} if shown is None else {"Authorization": f"Bearer {shown}"}
        headers |= more.pop("headers", {})
        return await self.client.request(method, path, json=body, headers=headers, **more)


def settings_in(
    var_dir: Path, profile: str = "demo", overrides: Mapping[str, str] | None = None
) -> Settings:
    given = {
        "VAR_DIR": str(var_dir), "models.agents": "climatology,technical",
        "serving.monitor": "false", **(overrides or {}),
    }  # fmt: skip
    return load_settings(env={}, profile=profile, overrides=given)


def api_of(plan: RunPlan, settings: Settings) -> FastAPI:
    """The API alone, with no desk."""
    agents = {name: threaded(agent) for name, agent in live_agents(settings).items()}
    return create_api(council_service(plan, settings, agents))


def stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass for what limits callers: a busy machine takes seconds for a few requests."""
    monkeypatch.setattr("serving.surface.Limiter", lambda rates, _: Limiter(rates, lambda: 0.0))


@asynccontextmanager
async def asking(app: FastAPI, var_dir: Path) -> AsyncIterator[World]:
    """Ask an application in this process."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", timeout=30
    ) as client:
        yield World(app.state.service, app, client, var_dir)


@asynccontextmanager
async def at_work(plan: RunPlan, settings: Settings) -> AsyncIterator[World]:
    """Have a desk work while somebody asks."""
    desk = build_desk(plan, settings)
    work = asyncio.create_task(desk.run())
    try:
        while desk.progress.phase != "live" and not work.done():
            await asyncio.sleep(0.05)
        async with asking(api_of(plan, settings), settings.data.var_dir) as world:
            yield world
    finally:
        desk.leave.set()
        await work


def run(scene: Callable[[], Awaitable[None]]) -> None:
    """Run a scene to its end."""
    asyncio.run(scene())  # type: ignore[arg-type]


@asynccontextmanager
async def served(app: FastAPI, patience: float = 10.0, port: int = 0) -> AsyncIterator[int]:
    """Serve an application on a real port of loopback, as ``up --local`` does."""
    port = choose_port("127.0.0.1", port, "API_PORT")
    server = http_server(app, "127.0.0.1", port, patience)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        await serving
