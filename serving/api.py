"""HTTP: the application around the routes. Every error has one shape, every reply an id."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from domain.errors import ConclaveError
from serving.auth import Door
from serving.routes import router
from serving.service import CouncilService
from serving.settings.model import is_loopback

log = structlog.get_logger("api")

MAX_BODY_BYTES = 64 * 1024
SHOWN_CHARACTERS = 80  # of a value that was refused
SHOWN_PROBLEMS = 5
_STATUS = {
    "usage": 422,
    "data_refused": 422,
    "not_found": 404,
    "unauthorized": 401,
    "forbidden": 403,
    "duplicate_record": 409,
    "service_unreachable": 503,
    "desk_unavailable": 503,
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)

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
        redirect_slashes=False,  # the address would be made from the caller's Host header
    )
    app.state.service = service
    app.include_router(router)
    app.add_exception_handler(ConclaveError, _on_conclave_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_crash)
    app.add_middleware(Envelope, door=Door(service.token, is_loopback(service.plan.host)))
    return app


class Envelope:
    """Give every exchange an id and safe headers, ask for the token, limit the body."""

    def __init__(self, app: ASGI, door: Door) -> None:
        self._app, self._door = app, door

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
                    *_SECURITY,
                ]
            await send(message)

        try:
            self._door.demand(scope["method"], scope["path"], headers.get(b"authorization", b""))
        except ConclaveError as error:
            reply = await _on_conclave_error(Request(scope), error)
            reply.headers["connection"] = "close"  # its body stays unread
            await reply(scope, receive, tagged)
            return
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
        Request(scope), 413, "body_too_large", f"body: must be at most {MAX_BODY_BYTES} bytes",
        "Send less in one request.",
    )  # fmt: skip
    reply.headers["connection"] = "close"
    await reply(scope, receive, send)


def error_reply(
    request: Request,
    status: int,
    code: str,
    message: str,
    hint: str,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error in the one shape all errors have."""
    request_id = getattr(request.state, "request_id", "")
    body = {"error": {"code": code, "message": message, "hint": hint, "request_id": request_id}}
    more = dict(headers or {})
    if status == 503:
        more["Retry-After"] = "2"
    if status == 401:
        more["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status, more)


async def _on_conclave_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ConclaveError):
        raise error
    status = _STATUS.get(error.code, 500)
    if status == 500:
        log.error("request_failed", path=request.url.path, error=str(error),
                  request_id=getattr(request.state, "request_id", ""))  # fmt: skip
    return error_reply(request, status, error.code, error.message, error.hint)


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return _bad_json(request)
    given = request.headers.get("content-type", "")
    if problems[0]["loc"] == ("body",) and not _is_json(given):
        return error_reply(
            request, 415, "unsupported_media_type",
            f"Content-Type: must be application/json (got {given[:SHOWN_CHARACTERS]!r})",
            "Send `Content-Type: application/json`.",
        )  # fmt: skip
    told = "; ".join(_told(problem) for problem in problems[:SHOWN_PROBLEMS])
    return error_reply(request, 422, "invalid_request", told, "See /docs for the fields.")


def _told(problem: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part not in ("body", "query", "path"))
    rule = str(problem["msg"]).replace("Input should", "must").replace("String should", "must")
    text = f"{where or 'body'}: {rule}"
    if problem["type"] == "missing":
        return text
    seen = repr(problem.get("input"))
    short = seen if len(seen) <= SHOWN_CHARACTERS else f"{seen[:SHOWN_CHARACTERS]}…"
    return f"{text} (got {short})"


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def _bad_json(request: Request) -> JSONResponse:
    return error_reply(
        request, 400, "bad_json", "body: must be valid JSON in UTF-8",
        "Send an object, e.g. {\"symbol\": \"BTC/USDT\"}; see /docs.",
    )  # fmt: skip


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    path = request.url.path[:SHOWN_CHARACTERS]
    if error.status_code == 404:
        code, message, hint = "not_found", f"{path}: is no route of this API", "See /docs."
    elif error.status_code == 405:
        allowed = Headers(error.headers).get("allow", "")
        code, message = "method_not_allowed", f"{path}: does not take {request.method}"
        hint = f"It takes {allowed}." if allowed else "See /docs."
    elif (
        error.status_code == 400
    ):  # all the framework calls a bad request is a body it cannot parse
        return _bad_json(request)
    else:
        code, message, hint = "http_error", str(error.detail), "See /docs."
    return error_reply(request, error.status_code, code, message, hint, error.headers)


async def _on_crash(request: Request, error: Exception) -> JSONResponse:
    request_id = getattr(request.state, "request_id", "")
    log.error("request_crashed", path=request.url.path, request_id=request_id,
              error=type(error).__name__)  # fmt: skip
    headers = {name.decode(): value.decode() for name, value in _SECURITY}
    return error_reply(  # the server closes the connection after a crash
        request, 500, "internal", "something failed here; it was logged",
        "Look for the request id in the log files.",
        {**headers, "X-Request-Id": request_id, "Connection": "close"},
    )  # fmt: skip
