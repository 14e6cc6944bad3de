"""Asking for faults while the venue runs: ``/admin/faults``, from this machine only."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from domain.errors import NotFound, UsageError
from sim.venue.faults.model import fault_of
from sim.venue.faults.running import Faults

PATH = "/admin/faults"
Handler = Callable[[web.Request], Awaitable[web.Response]]


def routes(faults: Faults) -> list[web.RouteDef]:
    """Return the routes."""

    async def asked(request: web.Request) -> web.Response:
        del request
        faults.look()
        return web.json_response(faults.told())

    async def wanted(request: web.Request) -> web.Response:
        try:
            body: Any = await request.json()
        except ValueError:
            raise UsageError(
                "fault", "must be sent as JSON", hint='Try {"fault": "drop"}'
            ) from None
        fault = fault_of(body, "fault")
        refusal = None if faults.reach is None else faults.reach.refusal(fault, "fault")
        if refusal is not None:
            raise refusal
        found = faults.add(fault)
        faults.look()
        return web.json_response(faults.one(found), status=201)

    async def unwanted(request: web.Request) -> web.Response:
        number = request.match_info.get("id")
        ended = faults.remove(None if number is None else int(number))
        if number is not None and not ended:
            raise NotFound("fault", "must be one that is not over", int(number),
                           f"GET {PATH} lists them.")  # fmt: skip
        return web.json_response({"ended": ended})

    return [
        web.get(PATH, _guarded(asked)), web.post(PATH, _guarded(wanted)),
        web.delete(PATH, _guarded(unwanted)), web.delete(PATH + r"/{id:\d+}", _guarded(unwanted)),
    ]  # fmt: skip


def _guarded(handler: Handler) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        # nor for pages of other places, which may send a browser here
        here = _here(request.remote or "") and _here(request.url.host or "")
        if not here or "Origin" in request.headers:
            return _error(403, "forbidden", f"{PATH}: is for this machine only", "")
        try:
            return await handler(request)
        except UsageError as error:
            status = 404 if isinstance(error, NotFound) else 422
            return _error(status, error.code, error.message, error.hint)

    return handle


def _here(host: str) -> bool:
    """Return whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _error(status: int, code: str, message: str, hint: str) -> web.Response:
    told = {"code": code, "message": message, "hint": hint}
    return web.json_response({"error": told}, status=status)
