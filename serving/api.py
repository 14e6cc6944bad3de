"""HTTP: the application around the routes. Every error has one shape, every reply an id."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from domain.errors import ConclaveError
from serving.routes import router
from serving.service import CouncilService

MAX_BODY_BYTES = 64 * 1024
_STATUS = {
    "usage": 422,
    "setting": 422,
    "data_refused": 422,
    "not_found": 404,
    "unauthorized": 401,
    "forbidden": 403,
    "duplicate_record": 409,
    "service_unreachable": 503,
    "desk_unavailable": 503,
}
_HTTP_CODES = {
    400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found",
    405: "method_not_allowed", 413: "body_too_large", 422: "invalid_request", 503: "unavailable",
}  # fmt: skip
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]


def create_api(service: CouncilService) -> FastAPI:
    """Return the HTTP application over a council service."""
    app = FastAPI(
        title="Conclave",
        version="1",
        description="A council of forecasters that decides LONG, SHORT or NO_TRADE, "
        "and says how far it can be trusted.",
    )
    app.state.service = service
    app.include_router(router)
    app.add_exception_handler(ConclaveError, _on_conclave_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_crash)
    app.add_middleware(Envelope)
    return app


class Envelope:
    """Limit the body, give every exchange an id, add the security headers, count."""

    def __init__(self, app: ASGI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one exchange."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def tagged(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-frame-options", b"DENY"),
                ]
            await send(message)

        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            await _too_large(scope, receive, tagged)
            return
        body = await _read_body(receive)
        if body is None:
            await _too_large(scope, receive, tagged)
            return
        await self._app(scope, _replay(body, receive), tagged)


async def _read_body(receive: Receive) -> bytes | None:
    """Return the whole body, or None as soon as it outgrows the limit."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def once() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    reply = error_reply(
        Request(scope), 413, "body_too_large", f"bodies are at most {MAX_BODY_BYTES} bytes", ""
    )
    reply.headers["connection"] = "close"
    await reply(scope, receive, send)


def error_reply(request: Request, status: int, code: str, message: str, hint: str) -> JSONResponse:
    """Return an error in the one shape all errors have."""
    request_id = getattr(request.state, "request_id", "")
    body = {"error": {"code": code, "message": message, "hint": hint, "request_id": request_id}}
    headers = {"Retry-After": "2"} if status == 503 else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status, headers)


async def _on_conclave_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ConclaveError):
        raise error
    status = _STATUS.get(error.code, 500)
    return error_reply(request, status, error.code, error.message, error.hint)


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    if first["type"] == "json_invalid":
        return error_reply(
            request, 400, "bad_json", "the body is no valid JSON", 'Send {"symbol": "BTC/USDT"}.'
        )
    return error_reply(
        request, 422, "invalid_request", f"{where}: {first['msg']}", "See /docs for the fields."
    )


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code = _HTTP_CODES.get(error.status_code, "http_error")
    return error_reply(request, error.status_code, code, str(error.detail), "See /docs.")


async def _on_crash(request: Request, error: Exception) -> JSONResponse:
    return error_reply(
        request, 500, "internal", "something failed here; it was logged", type(error).__name__
    )
