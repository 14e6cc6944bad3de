"""What reaches a running desk from outside: the lease it holds, its inbox, the kill file."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog

from domain.errors import (
    ConclaveError,
    DataRefused,
    DuplicateRecord,
    ServiceUnreachable,
    UsageError,
)
from serving.killing import KillOrder, read_kill
from serving.processes import alive
from storage.inbox import Inbox, Request
from storage.leases import Lease

log = structlog.get_logger("control")

DESK_LEASE = "desk"
LEASE_TTL_MS = 10_000
RENEW_SECONDS = 2.5
CODE_SECONDS = 120.0

Handler = Callable[[Mapping[str, Any]], dict[str, Any]]
SlowHandler = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
_NONE: Mapping[str, SlowHandler] = MappingProxyType({})


class LeaseLost(ServiceUnreachable):
    """Another desk has taken over, or this one slept too long: it must not append any more."""

    code = "lease_lost"


@dataclass(slots=True)
class Control:
    """Keeps the lease, answers the inbox, watches for ``VAR_DIR/KILL``."""

    lease: Lease
    inbox: Inbox
    kill_file: Path
    _renewed: float = 0.0
    _tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)  # by request

    def take_lease(self, info: Mapping[str, Any]) -> None:
        """Become the one desk, after the lease of one that died has run out.

        Raises
        ------
        LeaseLost : if another desk is running.
        """
        patience = time.monotonic() + LEASE_TTL_MS / 1000.0 + 2.0
        while not self.lease.acquire(info):
            holder = self.lease.holder()
            pid = 0 if holder is None else int(holder.info.get("pid") or 0)
            if alive(pid) or time.monotonic() > patience:
                raise LeaseLost(
                    "desk", "is already running on this database", f"pid {pid}",
                    "Stop it first, or give this one its own VAR_DIR.",
                )  # fmt: skip
            time.sleep(0.25)
        self._renewed = time.monotonic()

    def release_lease(self) -> None:
        """Let another desk take over at once."""
        self.lease.release()

    def keep_lease(self, info: Mapping[str, Any], *, now: bool = False) -> None:
        """Renew the lease when it is time, or ``now``.

        Raises
        ------
        LeaseLost : if it is another's, or ran out while this process was stopped.
        """
        at = time.monotonic()
        if at - self._renewed < RENEW_SECONDS and not now:
            return
        if not self.lease.renew(info) and not self.lease.acquire(info):
            raise LeaseLost("desk", "lost its lease to another desk")
        self._renewed = at

    def killed_by_file(self) -> KillOrder | None:
        """Return what the kill file orders, None if there is no such file."""
        return read_kill(self.kill_file)

    def serve(
        self, handlers: Mapping[str, Handler], slow: Mapping[str, SlowHandler] = _NONE
    ) -> int:
        """Carry out what waits in the inbox, oldest first, and answer; ``slow`` ones beside it.

        A request that breaks the desk is answered before the desk falls, or it would fall again
        over the same request whenever it is restarted.

        Returns
        -------
        How many were answered.
        """
        answered = 0
        for number in [number for number, task in self._tasks.items() if task.done()]:
            self._tasks.pop(number).result()
        for request in self.inbox.pending():
            if request.id in self._tasks:
                continue
            if request.kind in slow:
                work = self._answer_later(request, slow[request.kind])
                self._tasks[request.id] = asyncio.create_task(work)
                continue
            with self._refusing(request):
                handler = handlers.get(request.kind)
                if handler is None:
                    raise UsageError("request", "is of a kind this desk knows", request.kind)
                self.inbox.answer(request.id, handler(request.body))
            answered += 1
        return answered

    async def _answer_later(self, request: Request, handler: SlowHandler) -> None:
        with self._refusing(request):
            self.inbox.answer(request.id, await handler(request.body))

    @contextmanager
    def _refusing(self, request: Request) -> Iterator[None]:
        try:
            yield
        except (UsageError, DataRefused, DuplicateRecord) as error:
            log.warning("request_refused", kind=request.kind, error=str(error))
            self.inbox.answer(request.id, _refusal(error.code, error.message, error.hint))
        except Exception as error:
            # What is in memory may be ahead of the ledger now: only a fresh start is right.
            result = _refusal("internal", f"{request.kind}: the desk failed over it", "")
            if isinstance(error, ConclaveError):
                result = _refusal(error.code, error.message, error.hint)
            self.inbox.answer(request.id, result)
            raise


def _refusal(code: str, message: str, hint: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "hint": hint}}


@dataclass(slots=True)
class Confirmation:
    """The two steps of arming: the first gives a code, the second brings it back in time."""

    _code: str = ""
    _until: float = field(default=0.0)

    def ask(self) -> str:
        """Return a fresh code."""
        self._code, self._until = secrets.token_hex(3), time.monotonic() + CODE_SECONDS
        return self._code

    def check(self, given: str) -> None:
        """Take a code once.

        Raises
        ------
        UsageError : if it is not the one given out, or too old.
        """
        good = bool(self._code) and secrets.compare_digest(given.encode(), self._code.encode())
        if not good or time.monotonic() > self._until:
            raise UsageError(
                "confirm", "must be the code of the first step, within two minutes", given,
                "Ask again without a code.",
            )  # fmt: skip
        self._code = ""
