"""What Ray's proxy says by itself, in the shape that all errors have, and worth coming back for.

When a replica dies with a request in its hands the proxy answers 500 in plain text, and 404 while
nothing is deployed. To a caller both mean: ask again in a moment. Ray's proxies load
:func:`middlewares` where ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names it.
"""

from __future__ import annotations

import json
import secrets

from starlette.middleware import Middleware

from serving.envelope import ASGI, Message, Receive, Scope, Send
from serving.refusals import RETRY_SECONDS, SECURITY

RAYS_OWN = "/-/"  # its probes
TIMED_OUT = 408


class ComeBack:
    """Turn an error that is not the council's own into 503 with Retry-After."""

    def __init__(self, app: ASGI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an exchange on, and replace its reply where the proxy wrote it."""
        if scope["type"] != "http" or scope["path"].startswith(RAYS_OWN):
            await self._app(scope, receive, send)
            return
        replaced = False

        async def heard(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and _is_the_proxys(message):
                replaced = True
                for part in come_back():
                    await send(part)
            elif not replaced:
                await send(message)

        await self._app(scope, receive, heard)


def come_back() -> tuple[Message, Message]:
    """Return the two messages of a whole reply: 503, and when to ask again."""
    number = secrets.token_hex(8)
    error = {
        "code": "service_unreachable",
        "message": "the council: was lost while it worked on this, or is just starting",
        "hint": "Ask again in a moment; whether a change was made shows when you read it.",
        "request_id": number,
    }
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(RETRY_SECONDS).encode()), (b"x-request-id", number.encode()),
        *SECURITY,
    ]  # fmt: skip
    return (
        {"type": "http.response.start", "status": 503, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    )


def _is_the_proxys(start: Message) -> bool:
    status = start["status"]
    if status < 400 or status == TIMED_OUT:
        return False
    names = {name.lower() for name, _ in start.get("headers", ())}
    return SECURITY[0][0] not in names  # every reply of the council has it


def middlewares() -> list[Middleware]:
    """Return what Ray's proxies put around themselves."""
    return [Middleware(ComeBack)]
