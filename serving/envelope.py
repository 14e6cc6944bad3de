"""What every request passes before a route sees it: token, limits, size, patience; and its audit.

Written as plain ASGI, without a framework's middleware: it is on the path of each request.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import Request

from domain.errors import ConclaveError
from serving.auth import PROBES, Door, Forbidden, Principal, Unauthorized, demand_own_host
from serving.limits import Kind, Limiter
from serving.logs import log_context
from serving.refusals import SECURITY, on_conclave_error
from serving.scopes import READING, asks_signal

log = structlog.get_logger("api")

MAX_BODY_BYTES = 64 * 1024
AUDIT_SECONDS = 1.0  # how long a reply waits for its audit row
STREAM = "/v1/stream"
KILL = "/v1/risk/kill"  # never refused for being too much
INTERNAL = "/internal/"  # what the desk asks at each bar; it changes nothing
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]
Audit = Callable[[str, str, dict[str, Any]], None]
"""Writes down who did what, with which particulars; may block."""


class BodyTooLarge(ConclaveError):
    """A body beyond the limit."""

    code, exit_code = "body_too_large", 2


class BodyTooSlow(ConclaveError):
    """A body that does not arrive."""

    code, exit_code = "body_too_slow", 2


class Overloaded(ConclaveError):
    """More requests at once than the API takes."""

    code, exit_code = "overloaded", 4
    retry_after = 1


@dataclass(frozen=True, slots=True)
class Guard:
    """What the envelope goes by.

    Attributes
    ----------
    most_at_once : requests, streams aside; a kill and the probes always pass.
    body_seconds : patience with a body.
    proxied : whether a proxy in front of this process adds the request id that it was given.
    hosts : names beside loopback's own that are answered to; None answers to any.
    """

    door: Door
    limiter: Limiter
    audit: Audit
    most_at_once: int = 156
    body_seconds: float = 10.0
    proxied: bool = False
    hosts: frozenset[str] | None = None


class Envelope:
    """Give every exchange an id and safe headers, and let pass what may."""

    def __init__(self, app: ASGI, guard: Guard) -> None:
        self._app, self._guard = app, guard
        self._at_once = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one exchange."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._guard)
        counted = not exchange.streams  # these have a limit of their own
        self._at_once += counted
        try:
            try:
                who = self._admit(exchange)
                body = await _read_body(receive, exchange, self._guard.body_seconds)
            except ConclaveError as error:
                await exchange.refuse(error, receive)
                return
            exchange.scope["state"]["who"] = who.name
            with log_context(request_id=exchange.id):
                await self._app(exchange.scope, _replay(body, receive), exchange.send)
        finally:
            self._at_once -= counted

    def _admit(self, exchange: _Exchange) -> Principal:
        guard, method, path = self._guard, exchange.method, exchange.path
        if guard.hosts is not None and path not in PROBES:
            demand_own_host(exchange.headers.get(b"host", b""), guard.hosts)
        try:
            who = guard.door.demand(method, path, exchange.headers.get(b"authorization", b""))
        except Unauthorized:
            guard.limiter.take("read", exchange.client)
            raise
        except Forbidden as error:
            exchange.who = error.who
            raise
        exchange.who = who
        if path in PROBES or path == KILL:
            return who
        if path.startswith(INTERNAL):  # overload must not make decisions weaker
            return who
        guard.limiter.take(_kind(method, path), who.name if who.token else exchange.client)
        if self._at_once > guard.most_at_once and not exchange.streams:
            raise Overloaded(
                "the API", f"works on {guard.most_at_once} requests at once, no more",
                hint="Try again in a moment.",
            )  # fmt: skip
        return who


def _kind(method: str, path: str) -> Kind:
    if method in READING:
        return "read"
    return "signal" if asks_signal(method, path) else "write"


class _Exchange:
    """One request on its way in, and its reply on the way out."""

    def __init__(self, scope: Scope, send: Send, guard: Guard) -> None:
        self._send, self._guard = send, guard
        self.headers = dict(scope["headers"])
        self.method, self.path = scope["method"], scope["path"]
        self.client = (scope.get("client") or ("unknown",))[0]
        self.streams = self.path == STREAM
        self.who: Principal | None = None
        given = self.headers.get(b"x-request-id", b"").decode("latin-1")
        self.id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        told = guard.proxied and given == self.id
        self._id_header = () if told else ((b"x-request-id", self.id.encode()),)
        state = {**scope.get("state", {}), "request_id": self.id}
        head = self.method == "HEAD" and not self.streams  # the server leaves its body out
        self.scope: Scope = {**scope, "state": state, **({"method": "GET"} if head else {})}

    async def send(self, message: Message) -> None:
        """Add what every reply has; a change is on the audit before anybody hears of it."""
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *self._id_header, *SECURITY]
            await self._audit(message["status"])
        await self._send(message)

    async def refuse(self, error: ConclaveError, receive: Receive) -> None:
        """Answer with an error; where a body may stay unread, the connection ends."""
        reply = await on_conclave_error(Request(self.scope), error)
        if self.method not in READING:
            reply.headers["connection"] = "close"
        await reply(self.scope, receive, self.send)

    async def _audit(self, status: int) -> None:
        who = self.who
        if who is None or not who.token or self.method in READING:
            return
        if self.path.startswith(INTERNAL):
            return
        body = {"status": status, "request_id": self.id}
        action = f"{self.method} {self.path[:200]}"
        work = asyncio.create_task(asyncio.to_thread(self._guard.audit, who.name, action, body))
        work.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        done, _ = await asyncio.wait({work}, timeout=AUDIT_SECONDS)
        failure = next(iter(done)).exception() if done else None
        if failure is not None or not done:
            # What was done is done: whoever asked must hear of it, whatever the audit does.
            log.error("audit_late" if not done else "audit_lost", action=action, by=who.name,
                      request_id=self.id, error=repr(failure))  # fmt: skip


async def _read_body(receive: Receive, exchange: _Exchange, seconds: float) -> bytes:
    """Return the whole body.

    Raises
    ------
    BodyTooLarge : as soon as it outgrows the limit.
    BodyTooSlow : if it is not there in time.
    """
    length = exchange.headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 12 or int(length) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(seconds):
            return await _gathered(receive)
    except TimeoutError:
        raise BodyTooSlow("body", f"must arrive within {seconds:g} s") from None


async def _gathered(receive: Receive) -> bytes:
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _too_large()
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _too_large() -> BodyTooLarge:
    rule = f"must be at most {MAX_BODY_BYTES} bytes"
    return BodyTooLarge("body", rule, hint="Send less in one request.")


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def once() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once
