"""What Ray's proxy answers by itself becomes an error worth coming back for; all else passes."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from serving.proxy_replies import middlewares
from serving.refusals import SECURITY


def asked(path: str, status: int, *, ours: bool) -> httpx.Response:
    """Ask a proxy that answers with a status; with our headers if the council wrote it."""

    async def answer(_: Request) -> Response:
        headers = {name.decode(): value.decode() for name, value in SECURITY} if ours else {}
        return PlainTextResponse("said behind", status, headers)

    app = Starlette(routes=[Route("/{rest:path}", answer)], middleware=middlewares())

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.mark.parametrize("status", [404, 500, 503])
def test_proxy_when_it_fails_by_itself_then_the_caller_is_told_to_come_back(status: int) -> None:
    reply = asked("/v1/signals", status, ours=False)

    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) > 0
    error = reply.json()["error"]
    assert error["code"] == "service_unreachable"
    assert error["request_id"] == reply.headers["x-request-id"]
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "status", "ours"),
    [
        ("/v1/signals", 200, True),
        ("/v1/signals", 404, True),
        ("/v1/signals", 500, True),
        ("/v1/signals", 200, False),
        ("/-/healthz", 503, False),
    ],
)
def test_proxy_when_the_council_or_a_probe_answers_then_it_passes_as_it_is(
    path: str, status: int, ours: bool
) -> None:
    reply = asked(path, status, ours=ours)

    assert (reply.status_code, reply.text) == (status, "said behind")
