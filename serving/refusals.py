"""Errors as the API tells them: one shape for all of them, the framework's own included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from domain.errors import ConclaveError

log = structlog.get_logger("api")

RETRY_SECONDS = 2
SHOWN_CHARACTERS = 80  # of a value that was refused
SHOWN_PROBLEMS = 5
STATUS = {
    "usage": 422,
    "data_refused": 422,
    "not_found": 404,
    "unauthorized": 401,
    "forbidden": 403,
    "body_too_slow": 408,
    "duplicate_record": 409,
    "body_too_large": 413,
    "rate_limited": 429,
    "service_unreachable": 503,
    "desk_unavailable": 503,
    "overloaded": 503,
}
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


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
        more.setdefault("Retry-After", str(RETRY_SECONDS))
    if status == 401:
        more["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status, more)


async def on_conclave_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ConclaveError):
        raise error
    status = STATUS.get(error.code, 500)
    if status == 500:
        log.error("request_failed", path=request.url.path, error=str(error),
                  request_id=getattr(request.state, "request_id", ""))  # fmt: skip
    wait = getattr(error, "retry_after", None)
    headers = None if wait is None else {"Retry-After": str(wait)}
    return error_reply(request, status, error.code, error.message, error.hint, headers)


async def on_validation_error(request: Request, error: Exception) -> JSONResponse:
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


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    path, allowed = request.url.path[:SHOWN_CHARACTERS], ""
    if error.status_code == 404:
        code, message, hint = "not_found", f"{path}: is no route of this API", "See /docs."
    elif error.status_code == 405:
        allowed = Headers(error.headers).get("allow", "")
        if "GET" in allowed and "HEAD" not in allowed:
            allowed = allowed.replace("GET", "GET, HEAD")
        code, message = "method_not_allowed", f"{path}: does not take {request.method}"
        hint = f"It takes {allowed}." if allowed else "See /docs."
    elif (
        error.status_code == 400
    ):  # all the framework calls a bad request is a body it cannot parse
        return _bad_json(request)
    else:
        code, message, hint = "http_error", str(error.detail), "See /docs."
    headers = {**(error.headers or {}), **({"Allow": allowed} if allowed else {})}
    return error_reply(request, error.status_code, code, message, hint, headers)


async def on_crash(request: Request, error: Exception) -> JSONResponse:
    request_id = getattr(request.state, "request_id", "")
    log.error("request_crashed", path=request.url.path, request_id=request_id,
              error=type(error).__name__)  # fmt: skip
    headers = {name.decode(): value.decode() for name, value in SECURITY}
    return error_reply(  # the server closes the connection after a crash
        request, 500, "internal", "something failed here; it was logged",
        "Look for the request id in the log files.",
        {**headers, "X-Request-Id": request_id, "Connection": "close"},
    )  # fmt: skip
