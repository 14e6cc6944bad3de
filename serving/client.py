"""A typed client of the API, for programs that wait and programs that do not.

A *call* says what is asked and what the answer is; :class:`Client` and :class:`AsyncClient` carry
calls out alike::

    from serving import client as api

    with api.Client("http://127.0.0.1:8000") as ask:
        signal = ask(api.signal("BTC/USDT"))
        for trade in ask.each(api.trades()):
            ...

What the API refuses is raised as the project's own errors. Calls that may be repeated are, on 429
and 503, after as long as the API asks for; others never are.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import TypeAdapter

from domain.errors import (
    ConclaveError,
    DuplicateRecord,
    NotFound,
    ServiceUnreachable,
    UsageError,
)
from serving.auth import Forbidden, Unauthorized
from serving.calls import (
    Call,
    ListCall,
    add_symbol,
    agents,
    arm,
    assertions,
    calibration,
    cancel_job,
    change_symbol,
    decide_proposal,
    equity,
    health,
    job,
    jobs,
    journal,
    journal_entry,
    kill,
    measure_assertions,
    orders,
    positions,
    proposals,
    queue_job,
    raw,
    remove_symbol,
    report_event,
    report_operator,
    risk,
    risk_events,
    scores,
    signal,
    signal_by,
    signals,
    symbol,
    symbols,
    tell_trade,
    trade,
    trades,
    weights,
    why,
    write_journal,
)
from serving.replies import EventView, Reply

T = TypeVar("T")
MOST_WAIT = 30.0  # seconds before one repetition, whatever the API asks for
QUIET_SECONDS = 60.0  # a stream sends a sign of life more often
_KINDS: dict[str, type[ConclaveError]] = {
    "not_found": NotFound,
    "unauthorized": Unauthorized,
    "forbidden": Forbidden,
    "duplicate_record": DuplicateRecord,
    "rate_limited": ServiceUnreachable,
}


@dataclass(frozen=True, slots=True)
class Repeating:
    """How often a repeatable call is repeated, and the least time in between, seconds."""

    times: int = 3
    pause: float = 0.5

    def wait(self, call: Call[Any], reply: httpx.Response | None, tried: int) -> float | None:
        """Return the seconds to wait before the next try; None if there is none.

        Parameters
        ----------
        reply : None if nothing answered.
        """
        if tried >= self.times or not call.repeatable:
            return None
        if reply is None:
            return self.pause * 2.0**tried
        if reply.status_code not in (429, 503):
            return None
        asked = reply.headers.get("retry-after", "")
        return min(MOST_WAIT, float(asked)) if asked.isdecimal() else self.pause * 2.0**tried


class _Common:
    def __init__(self, address: str, repeating: Repeating) -> None:
        self.address = address.rstrip("/")
        self._repeating = repeating

    def _answered(self, call: Call[T], reply: httpx.Response | None, why: str) -> T:
        if reply is None:
            raise ServiceUnreachable(
                "the API", f"does not answer ({why})", self.address,
                "Start the system with `make run`, or add --local where the command has it.",
            )  # fmt: skip
        answer = _json(reply)
        if reply.is_success and isinstance(answer, dict):
            made: T = TypeAdapter(call.answer).validate_python(answer)
            return made
        raise refused(reply.status_code, answer, self.address)


def refused(status: int, answer: Any, address: str) -> ConclaveError:
    """Return what the API refused, in its own words, as one of the project's errors."""
    told = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(told, dict):
        return ServiceUnreachable(
            "the API", f"gave an answer that is not Conclave's (HTTP {status})", address,
            "Another program may have taken the port of a run that ended.",
        )  # fmt: skip
    code = str(told.get("code", ""))
    kind = {500: ConclaveError, 503: ServiceUnreachable}.get(status, UsageError)
    error = _KINDS.get(code, kind)(
        str(told.get("message", f"HTTP {status}")), hint=str(told.get("hint", ""))
    )
    error.code = code or error.code
    return error


def _json(reply: httpx.Response) -> Any:
    try:
        return reply.json()
    except ValueError:
        return None


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


class Client(_Common):
    """Carries out calls and waits for them.

    Parameters
    ----------
    token : shown with every call; None where reading is free.
    timeout : patience with an answer, seconds.
    sleep : waits so many seconds.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        *,
        timeout: float = 10.0,
        repeating: Repeating = Repeating(),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(address, repeating)
        self._http = httpx.Client(base_url=self.address, headers=_headers(token), timeout=timeout)
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __call__(self, call: Call[T]) -> T:
        """Carry out a call.

        Raises
        ------
        ServiceUnreachable : if nothing answers, or asks to come again once too often.
        ConclaveError : what the API refused, in its own words.
        """
        tried = 0
        while True:
            reply, why = self._try(call)
            wait = self._repeating.wait(call, reply, tried)
            if wait is None:
                return self._answered(call, reply, why)
            tried += 1
            self._sleep(wait)

    def _try(self, call: Call[Any]) -> tuple[httpx.Response | None, str]:
        try:
            return self._http.request(
                call.method, call.path, params=dict(call.params) or None, json=call.body
            ), ""
        except httpx.HTTPError as error:
            return None, type(error).__name__

    def each(self, call: ListCall[T]) -> Iterator[T]:
        """Iterate over all items of a list, page by page."""
        while True:
            page = self(call)
            yield from page.items
            if page.next is None:
                return
            call = replace(call, params={**call.params, "cursor": page.next})

    def stream(self, since: int | None = None, kinds: Sequence[str] = ()) -> Iterator[EventView]:
        """Iterate over events as they happen; a connection that ends is taken up where it was.

        Parameters
        ----------
        since : id of the last event that is known; None begins with the next one.
        kinds : only these; all if empty.

        Raises
        ------
        ConclaveError : if the API refuses, or is not there for too long.
        """
        state, tried = _Reading(since, kinds), 0
        while True:
            reply, why = None, ""
            try:
                with self._http.stream("GET", "/v1/stream", **state.request()) as reply:
                    if reply.is_success:
                        tried = 0
                        for line in reply.iter_lines():
                            if (event := state.take(line)) is not None:
                                yield event
                    else:
                        reply.read()
            except httpx.HTTPError as error:
                why = type(error).__name__
            wait = state.wait(self._repeating, reply, tried)
            if wait is None:
                self._answered(state.call, reply, why)
                return
            tried += 1
            self._sleep(wait)


class AsyncClient(_Common):
    """Carries out calls without blocking; parameters and errors as :class:`Client`."""

    def __init__(
        self,
        address: str,
        token: str | None = None,
        *,
        timeout: float = 10.0,
        repeating: Repeating = Repeating(),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(address, repeating)
        self._http = httpx.AsyncClient(
            base_url=self.address, headers=_headers(token), timeout=timeout
        )
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, *_: type[BaseException] | BaseException | TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def __call__(self, call: Call[T]) -> T:
        """Carry out a call."""
        tried = 0
        while True:
            reply, why = await self._try(call)
            wait = self._repeating.wait(call, reply, tried)
            if wait is None:
                return self._answered(call, reply, why)
            tried += 1
            await self._sleep(wait)

    async def _try(self, call: Call[Any]) -> tuple[httpx.Response | None, str]:
        try:
            return await self._http.request(
                call.method, call.path, params=dict(call.params) or None, json=call.body
            ), ""
        except httpx.HTTPError as error:
            return None, type(error).__name__

    async def each(self, call: ListCall[T]) -> AsyncIterator[T]:
        """Iterate over all items of a list, page by page."""
        while True:
            page = await self(call)
            for item in page.items:
                yield item
            if page.next is None:
                return
            call = replace(call, params={**call.params, "cursor": page.next})

    async def stream(
        self, since: int | None = None, kinds: Sequence[str] = ()
    ) -> AsyncIterator[EventView]:
        """Iterate over events as they happen; see :meth:`Client.stream`."""
        state, tried = _Reading(since, kinds), 0
        while True:
            reply, why = None, ""
            try:
                async with self._http.stream("GET", "/v1/stream", **state.request()) as reply:
                    if reply.is_success:
                        tried = 0
                        async for line in reply.aiter_lines():
                            if (event := state.take(line)) is not None:
                                yield event
                    else:
                        await reply.aread()
            except httpx.HTTPError as error:
                why = type(error).__name__
            wait = state.wait(self._repeating, reply, tried)
            if wait is None:
                self._answered(state.call, reply, why)
                return
            tried += 1
            await self._sleep(wait)


class _Reading:
    """Where a reader of the stream is."""

    call: Call[Reply] = Call("GET", "/v1/stream", Reply)

    def __init__(self, since: int | None, kinds: Sequence[str]) -> None:
        self._last, self._kinds = since, list(kinds)

    def request(self) -> dict[str, Any]:
        headers = {} if self._last is None else {"Last-Event-ID": str(self._last)}
        patience = httpx.Timeout(10.0, read=QUIET_SECONDS)
        return {"params": {"kind": self._kinds}, "headers": headers, "timeout": patience}

    def take(self, line: str) -> EventView | None:
        if line.startswith("id: "):
            self._last = int(line[4:])
        if not line.startswith("data: "):
            return None
        return EventView.model_validate(json.loads(line[6:]))

    def wait(self, repeating: Repeating, reply: httpx.Response | None, tried: int) -> float | None:
        if reply is not None and reply.is_success:
            return repeating.pause  # it ended: the server was stopped, or this reader was slow
        return repeating.wait(self.call, reply, tried)


__all__ = [
    "AsyncClient",
    "Call",
    "Client",
    "ListCall",
    "Repeating",
    "add_symbol",
    "agents",
    "arm",
    "assertions",
    "calibration",
    "cancel_job",
    "change_symbol",
    "decide_proposal",
    "equity",
    "health",
    "job",
    "jobs",
    "journal",
    "journal_entry",
    "kill",
    "measure_assertions",
    "orders",
    "positions",
    "proposals",
    "queue_job",
    "raw",
    "refused",
    "remove_symbol",
    "report_event",
    "report_operator",
    "risk",
    "risk_events",
    "scores",
    "signal",
    "signal_by",
    "signals",
    "symbol",
    "symbols",
    "tell_trade",
    "trade",
    "trades",
    "weights",
    "why",
    "write_journal",
]
