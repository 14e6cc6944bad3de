"""Faults of questions over HTTP, and of handshakes: one middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from sim.venue.faults.damage import broken, doubled, restamped
from sim.venue.faults.model import Subject
from sim.venue.faults.running import Faults, Running
from sim.venue.moments import LAG_MS, SKEW_MS
from sim.venue.refusals import Refused

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Whose = Callable[[str], str]  # API key → account, empty = nobody's
_HTML = "<html><head><title>{} {}</title></head></html>"
_FIRST = ("reset", "timeout", "ban", "rate_limit", "error")  # instead of an answer
_TRADES = ("/myTrades", "/userTrades")


def middleware(faults: Faults, whose: Whose, spared: str) -> Any:
    """Return the middleware.

    Parameters
    ----------
    spared : path whose questions nothing strikes.
    """

    @web.middleware
    async def struck(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(spared) or not faults.running:
            return await handler(request)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await _handshake(faults, request, handler)
        subject = await _subject(request, whose)
        for kind in _FIRST:
            if (fault := faults.strike(kind, subject)) is not None:
                return await _INSTEAD[kind](faults, fault, request)
        skew = faults.strike("skew", subject)
        answer = await _asked(faults, request, handler, subject, skew)
        if not isinstance(answer, web.Response) or answer.text is None:
            return answer
        return await _afterwards(faults, request, answer, subject, skew)

    return struck


async def _subject(request: web.Request, whose: Whose) -> Subject:
    params: Mapping[str, str] = request.query
    if "symbol" not in params and request.body_exists:
        params = dict(parse_qsl((await request.read()).decode("utf-8", "replace")))
    market = "perp" if request.path.startswith("/fapi") else "spot"
    return Subject(market, params.get("symbol", ""), "", f"{request.method} {request.path}",
                   whose(request.headers.get("X-MBX-APIKEY", "")))  # fmt: skip


async def _handshake(faults: Faults, request: web.Request, handler: Handler) -> web.StreamResponse:
    market = "perp" if request.path.startswith("/fstream") else "spot"
    asked = request.query.get("streams") or request.path.rpartition("/ws/")[2]
    names = [name for name in asked.split("/") if "@" in name] or [""]
    for name in names:
        symbol = name.partition("@")[0].upper() if name else ""
        subject = Subject(market, symbol, name, f"{request.method} {request.path}")
        if (fault := faults.strike("refuse", subject)) is not None:
            status = int(fault.value("status"))
            return web.Response(status=status) if status else _cut(request)
    return await handler(request)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # which nobody gets


# Instead of an answer


async def _reset(_: Faults, __: Running, request: web.Request) -> web.StreamResponse:
    return _cut(request)


async def _timeout(faults: Faults, fault: Running, request: web.Request) -> web.StreamResponse:
    await faults.hold(float(fault.value("seconds")))
    return _cut(request)


async def _limited(_: Faults, fault: Running, __: web.Request) -> web.StreamResponse:
    status = 418 if fault.fault.kind == "ban" else 429
    text = "Too many requests; please use the websocket for live updates."
    after = {"Retry-After": str(fault.value("retry_after_s"))}
    return Refused(status, -1003, text, after).response()


async def _error(_: Faults, fault: Running, __: web.Request) -> web.StreamResponse:
    status, body = int(fault.value("status")), fault.value("body")
    if body == "json":
        text = "Unknown error, please check your request or try again later."
        return Refused(status, -1000, text).response()
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:  # of no name
        reason = "Error"
    text = _HTML.format(status, reason) if body == "html" else ""
    return web.Response(status=status, text=text, content_type="text/html")


_INSTEAD: Mapping[str, Callable[..., Awaitable[web.StreamResponse]]] = {
    "reset": _reset, "timeout": _timeout, "ban": _limited, "rate_limit": _limited, "error": _error,
}  # fmt: skip


# An answer, and what is done to it


async def _asked(
    faults: Faults, request: web.Request, handler: Handler, subject: Subject,
    skew: Running | None,
) -> web.StreamResponse:  # fmt: skip
    stale = faults.strike("stale", subject)
    lag = LAG_MS.set(round(float(stale.value("age_s")) * 1_000) if stale is not None else 0)
    ahead = SKEW_MS.set(int(skew.value("ms")) if skew is not None else 0)
    try:
        return await handler(request)
    finally:
        LAG_MS.reset(lag)
        SKEW_MS.reset(ahead)


async def _afterwards(
    faults: Faults, request: web.Request, answer: web.Response, subject: Subject,
    skew: Running | None,
) -> web.StreamResponse:  # fmt: skip
    text = answer.text or ""
    if skew is not None:
        text = restamped(text, int(skew.value("ms")))
    if subject.path.endswith(_TRADES) and answer.status == 200:
        text = _twice(faults, text, subject)
    if (fault := faults.strike("corrupt", subject)) is not None:
        text, how = broken(text, str(fault.value("what")), int(fault.value("kilobytes")),
                           lambda: faults.chance(fault, ""))  # fmt: skip
        faults.note(fault, how)
    if (late := faults.strike("slow", subject)) is not None:
        await faults.hold(float(late.value("seconds")))
    if faults.strike("truncate", subject) is not None:
        return await _half(request, answer, text)
    if text != answer.text:
        answer.text = text
    return answer


def _twice(faults: Faults, text: str, subject: Subject) -> str:
    for fault in faults.at_work("double_fill"):

        def drawn(row: dict[str, Any], fault: Running = fault) -> bool:
            if not fault.fault.target.covers(replace(subject, symbol=str(row.get("symbol")))):
                return False
            # by the trade's number, so that it is doubled whenever it is asked for
            return faults.lot(fault, f"trade {row.get('id')}") < fault.fault.share

        text, more = doubled(text, drawn)
        for _ in range(more):
            faults.note(fault, "rows")
    return text


async def _half(request: web.Request, answer: web.Response, text: str) -> web.StreamResponse:
    whole = text.encode()
    reply = web.StreamResponse(status=answer.status, headers={
        name: value for name, value in answer.headers.items()
        if name not in ("Content-Length", "Content-Type")
    })  # fmt: skip
    reply.content_type, reply.content_length = answer.content_type, len(whole)
    await reply.prepare(request)
    await reply.write(whole[: len(whole) // 2])
    if request.transport is not None:
        request.transport.close()  # after what was written
    return reply
