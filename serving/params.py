"""What the routes share: parameters, documented errors, pages and their cursors."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Query, Request, Security
from fastapi.security import HTTPBearer

from domain.errors import UsageError
from serving.replies import ErrorReply, Listing
from serving.service import CouncilService

T = TypeVar("T")

_WORDS = {
    400: "the body is no JSON",
    401: "no token, or one that nobody knows",
    403: "a token without the scope",
    404: "nothing is there",
    405: "the route does not take this method",
    408: "the body did not arrive in time",
    409: "the id is taken by something else",
    413: "the body is larger than 64 KiB",
    415: "the body is not declared as JSON",
    422: "a field or parameter is out of its range",
    429: "too many requests from one caller",
    500: "something failed here; it was logged",
    503: "try again in a moment: no desk, or too much at once",
}
_RETRY = {
    "Retry-After": {
        "required": True, "description": "seconds to wait",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    }
}  # fmt: skip
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "model": ErrorReply, "description": words,
        **({"headers": _RETRY} if status in (429, 503) else {}),
    }
    for status, words in _WORDS.items()
}  # fmt: skip


def service_of(request: Request) -> CouncilService:
    """Return the service this application was made over."""
    service: CouncilService = request.app.state.service
    return service


Service = Annotated[CouncilService, Depends(service_of)]


async def met_service(service: Service) -> CouncilService:
    """Return the service once it has heard from its agents what they are."""
    await service.meet()
    return service


def who_asks(request: Request) -> str:
    """Return the name of the token that was shown, ``anonymous`` without one."""
    return str(request.state.who)


Met = Annotated[CouncilService, Depends(met_service)]
Who = Annotated[str, Depends(who_asks)]
# serving.envelope asks for the token; this only tells readers of /docs.
TOKEN = [Security(HTTPBearer(auto_error=False, scheme_name="token"))]

Limit = Annotated[int, Query(ge=1, le=1000, description="items of a page")]
Cursor = Annotated[
    str | None, Query(max_length=18, description="`next` of the page before; leave it out to start")
]
Id = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
Number = Annotated[int, Path(ge=1, le=2**53)]
Followed = Annotated[
    str | None, Query(max_length=40, description="only of this symbol", examples=["BTC-USDT"])
]


def listing(items: list[T], cursor: int | None = None) -> dict[str, Any]:
    """Return a page as :class:`serving.replies.Listing` has it."""
    return {"items": items, "next": None if cursor is None else str(cursor)}


def seq(cursor: str | None) -> int | None:
    """Read a cursor.

    Raises
    ------
    UsageError : if it is none of ours.
    """
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal()):
        raise UsageError(
            "cursor", "must be the `next` of an earlier page", cursor, "Leave it out to start."
        )
    return int(cursor)


__all__ = ["ERRORS", "TOKEN", "Cursor", "Followed", "Id", "Limit", "Listing", "Met", "Number",
           "Service", "Who", "listing", "seq"]  # fmt: skip
