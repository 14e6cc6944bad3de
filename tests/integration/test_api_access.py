"""Who may do what: every route with every kind of token, and what stays of it in the audit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from serving.bootstrap.storage import open_storage
from serving.routes import PARTS
from serving.scopes import SCOPES, scope_of
from serving.tokens import TokenFile
from storage.audit import Audit
from tests.api_world import PLAN, World, api_of, asking, at_work, run, settings_in

NOW = 1_735_689_600_000
BEYOND = replace(PLAN, host="0.0.0.0")
PROBES = {"/health/live", "/health/ready"}
FREE = {("GET", path) for path in PROBES}


def operations() -> Iterator[tuple[str, str]]:
    """Every (method, path) there is, with something in place of its parameters."""
    for part in PARTS:
        for route in part.routes:
            if isinstance(route, APIRoute) and route.path != "/v1/stream":
                path = route.path.replace("{symbol}", "BTC-USDT")
                for name in ("signal_id", "trade_id"):
                    path = path.replace(f"{{{name}}}", "unknown")
                for name in ("proposal_id", "job_id"):
                    path = path.replace(f"{{{name}}}", "7")
                for method in sorted(route.methods):
                    yield method, path
    yield from (("POST", "/nope"), ("DELETE", "/v1/signals"), ("PUT", "/"), ("GET", "/nope"))


OPERATIONS = sorted(operations())


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A VAR_DIR with a token for each scope, one for two, and one that was revoked."""
    var_dir = tmp_path_factory.mktemp("access")
    file = TokenFile(var_dir / "tokens.json")
    made = {scope: file.create(scope, [scope], NOW) for scope in SCOPES}
    made["two"] = file.create("two", ["read", "trade"], NOW)
    made["gone"] = file.create("gone", list(SCOPES), NOW)
    file.revoke("gone", NOW)
    return var_dir, made


async def statuses(
    world: World, shown: str | None
) -> AsyncIterator[tuple[str, str, httpx.Response]]:
    for method, path in OPERATIONS:
        yield method, path, await world.ask(method, path, token=shown)


def refused(reply: httpx.Response, status: int, code: str) -> None:
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"code", "message", "hint", "request_id"}
    assert error["code"] == code


def passed(reply: httpx.Response) -> bool:
    return reply.status_code not in (401, 403, 429)


@pytest.mark.parametrize("plan", [PLAN, BEYOND], ids=["loopback", "beyond"])
def test_access_when_no_good_token_is_shown_then_only_what_is_free_passes(
    tokens: tuple[Path, dict[str, str]], plan: Any
) -> None:
    var_dir, made = tokens
    settings = settings_in(var_dir, overrides={"serving.rate_reads": "0"})

    async def scene() -> None:
        async with asking(api_of(plan, settings), var_dir) as world:
            for shown in (None, "wrong", made["gone"], made["read"][:-1], "x" * 5000):
                async for method, path, reply in statuses(world, shown):
                    local = plan is PLAN
                    free = (method, path) in FREE or (
                        local and (method == "GET" or (method, path) == ("POST", "/v1/signals"))
                    )
                    if free:
                        assert passed(reply), f"{method} {path}"
                    else:
                        refused(reply, 401, "unauthorized")
                        assert reply.headers["www-authenticate"] == "Bearer"
                    assert shown is None or shown not in reply.text

    run(scene)


@pytest.mark.long
@pytest.mark.parametrize("name", [*SCOPES, "two", "owner"])
def test_access_when_a_token_has_a_scope_then_exactly_its_routes_pass(
    tokens: tuple[Path, dict[str, str]], name: str
) -> None:
    var_dir, made = tokens
    overrides = {f"serving.rate_{kind}": "0" for kind in ("reads", "writes", "signals")}
    settings = settings_in(var_dir, overrides=overrides)
    scopes = {"two": {"read", "trade"}, "owner": set(SCOPES)}.get(name, {name})

    async def scene() -> None:
        async with asking(api_of(BEYOND, settings), var_dir) as world:
            shown = world.token if name == "owner" else made[name]
            async for method, path, reply in statuses(world, shown):
                if (method, path) in FREE or scope_of(method, path) in scopes:
                    assert passed(reply), f"{method} {path}: {reply.text}"
                else:
                    refused(reply, 403, "forbidden")
                    assert scope_of(method, path) in reply.json()["error"]["hint"]

    run(scene)


def test_scopes_when_every_route_is_looked_at_then_each_scope_is_some_routes() -> None:
    needed = {scope_of(*operation) for operation in OPERATIONS}
    assert needed == set(SCOPES)
    assert {path for method, path in OPERATIONS if scope_of(method, path) == "admin"} >= {
        "/v1/symbols", "/v1/system/jobs", "/v1/assertions", "/v1/proposals/7", "/nope", "/",
    }  # fmt: skip


@pytest.mark.long
def test_token_when_revoked_then_a_running_api_refuses_it_within_two_seconds(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path)
    file = TokenFile(settings.tokens_file())
    token = file.create("short", ["risk"], NOW)

    async def scene() -> None:
        async with asking(api_of(BEYOND, settings), tmp_path) as world:
            body = {"why": "drill"}
            assert (await world.ask("POST", "/v1/risk/arm", body, token=token)).status_code == 503
            file.revoke("short", NOW)
            for _ in range(40):
                reply = await world.ask("POST", "/v1/risk/arm", body, token=token)
                if reply.status_code == 401:
                    return
                await asyncio.sleep(0.05)
            raise AssertionError("it still passes")

    run(scene)


@pytest.mark.long
def test_audit_when_something_changes_then_a_row_tells_who_and_what_and_how_it_ended(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path)
    token = TokenFile(settings.tokens_file()).create("anna", ["risk", "admin"], NOW)

    async def scene() -> None:
        async with at_work(PLAN, settings) as world:

            async def ask(method: str, path: str, body: Any = None, **more: Any) -> int:
                headers = {"X-Request-Id": f"id-{len(rows)}"}
                reply = await world.ask(method, path, body, headers=headers, **more)
                return reply.status_code

            rows: list[tuple[str, str, int]] = []
            for method, path, body, shown, wanted in (
                ("POST", "/v1/risk/kill", {"why": "drill"}, token, 200),
                ("POST", "/v1/symbols", {"symbol": "ETH/USDT"}, token, 201),
                ("POST", "/v1/symbols", {"symbol": "ETH/USDT"}, token, 409),
                ("POST", "/v1/symbols", {"symbol": 5}, token, 422),
                ("DELETE", "/v1/symbols/ETH-USDT", None, token, 200),
                ("POST", "/v1/trades", {}, token, 403),
                ("POST", "/v1/risk/events", {"id": "a", "text": "b"}, "", 200),
            ):
                status = await ask(method, path, body, token=shown)
                assert status == wanted, (method, path)
                rows.append(("anna" if shown else "api", f"{method} {path}", status))
            assert await ask("GET", "/v1/symbols", token=token) == 200
            assert await ask("POST", "/v1/risk/kill", token=None) == 401
            assert await ask("POST", "/v1/signals", {"symbol": "BTC/USDT"}, token=None) == 200
            entries = Audit(open_storage(settings)).list(limit=100)[::-1]
            told = [
                (entry.actor, entry.action, entry.body["status"])
                for entry in entries
                if " /v1/" in entry.action
            ]
            assert told == rows
            assert [entry.body["request_id"] for entry in entries[:2]] == ["id-0", "id-1"]
            assert token not in str(entries)
            assert world.token not in str(entries)
            events = (await world.ask("GET", "/v1/risk/events")).json()["items"]
            assert {row["by"] for row in events} == {"anna", "api"}

    run(scene)


@pytest.mark.long
@pytest.mark.parametrize(
    ("host", "passes"),
    [("localhost:8000", True), ("LOCALHOST", True), ("127.0.0.1:8000", True), ("127.9.9.9", True),
     ("[::1]:8000", True), ("desk.example.com", True), ("evil.example.com:8000", False),
     ("localhost.evil.example.com", False), ("192.0.2.1", False), ("[2001:db8::1]", False)],
)  # fmt: skip
def test_host_when_it_is_another_machines_then_a_loopback_api_tells_nothing(
    tmp_path: Path, host: str, passes: bool
) -> None:
    settings = settings_in(
        tmp_path, overrides={"serving.allowed_hosts": "desk.example.com,other.example.com"}
    )

    async def scene() -> None:
        headers = {"Host": host}
        async with asking(api_of(PLAN, settings), tmp_path) as world:
            for method, path in (("GET", "/v1/symbols"), ("GET", "/"), ("POST", "/v1/risk/kill")):
                reply = await world.ask(method, path, {"why": 5}, headers=headers)
                if passes:
                    assert reply.status_code in (200, 422)
                else:
                    refused(reply, 403, "forbidden")
            probe = await world.ask("GET", "/health/live", headers=headers)
            assert probe.status_code == 200
        async with asking(api_of(BEYOND, settings), tmp_path) as world:
            reply = await world.ask("GET", "/v1/symbols", headers=headers)
            assert reply.status_code == 200  # there the token decides

    run(scene)
