"""HTTP: the application around the routes. Every error has one shape, every reply an id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from domain.errors import ConclaveError
from serving.api_docs import add_docs
from serving.envelope import Envelope
from serving.refusals import on_conclave_error, on_crash, on_http_error, on_validation_error
from serving.routes import router
from serving.scopes import SCOPES, scope_of
from serving.service import CouncilService
from serving.settings.model import is_loopback

_ABOUT = """A council of forecasters that decides LONG, SHORT or NO_TRADE, and says how far it can
be trusted.

**Units.** Probabilities, shares and returns are fractions (returns: log), unless a name ends in
`_bps` (basis points) or `_1e4`. Money is decimal text, quote currency. Times are ISO-8601 UTC:
market time, except of proposals, jobs and tokens.

**Lists** come newest first as `{"items": […], "next": cursor}`; pass `next` as `cursor` for the
following page. **Errors** are `{"error": {"code", "message", "hint", "request_id"}}`; with 429 and
503 `Retry-After` says for how many seconds to wait.

**Tokens.** On loopback every GET and `POST /v1/signals` is free; all else needs
`Authorization: Bearer …` with the scope that each route names (`x-scope`): """


def create_api(service: CouncilService) -> FastAPI:
    """Return the HTTP application over a council service."""
    scopes = " · ".join(f"`{name}`: {words}" for name, words in SCOPES.items())

    @asynccontextmanager
    async def greeting(_: FastAPI) -> AsyncIterator[None]:
        meeting = asyncio.create_task(service.greet())
        yield
        meeting.cancel()

    app = FastAPI(
        title="Conclave",
        lifespan=greeting,
        version="1",
        description=_ABOUT + scopes,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # the address would be made from the caller's Host header
    )
    app.state.service = service
    app.include_router(router)
    add_docs(app)
    app.add_exception_handler(ConclaveError, on_conclave_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_crash)
    plan = service.plan
    guard = service.surface.guard(
        service.token, loopback=is_loopback(plan.host), proxied=not plan.local, now=service.clock
    )
    app.add_middleware(Envelope, guard=guard)
    _tell_scopes(app)
    return app


def _tell_scopes(app: FastAPI) -> None:
    """Write on every operation which scope it needs; made once, when somebody asks."""
    plainly = app.openapi

    def openapi() -> dict[str, Any]:
        made = app.openapi_schema is not None
        schema = plainly()
        if not made:
            for path, operations in schema["paths"].items():
                for method, operation in operations.items():
                    operation["x-scope"] = scope_of(method.upper(), path)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
