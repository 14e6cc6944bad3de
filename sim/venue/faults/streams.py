"""Faults between a listener's queue and its socket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace

from aiohttp import web

from sim.venue.faults.damage import broken, fill_symbol, restamped
from sim.venue.faults.model import Subject
from sim.venue.faults.running import Faults, Running
from sim.venue.lines import Line, Listener, Said
from sim.venue.user_stream import USER

_OF_MESSAGES = ("silence", "drop", "gap", "garbage", "delay", "duplicate", "reorder", "skew",
                "double_fill")  # fmt: skip
_CHANGES = re.compile(r"@depth(?:@\d+ms)?$")  # not @depth5, which is whole


class Lines:
    """All connections that stand, numbered in the order in which they came."""

    def __init__(self, faults: Faults) -> None:
        self._faults, self._last = faults, 0
        self._lines: dict[int, _Line] = {}

    def laid(self, request: web.Request, socket: web.WebSocketResponse, listener: Listener) -> Line:
        """Lay the line of a new connection."""
        self._last += 1
        line = _Line(self._faults, self, self._last, request, socket, listener)
        self._lines[self._last] = line
        return line

    def cut(self, fault: Running) -> None:
        """Cut whom a ``disconnect`` strikes."""
        for number, line in list(self._lines.items()):
            subjects = line.subjects()
            meant = next((each for each in subjects if fault.fault.target.covers(each)), None)
            if meant is not None and self._faults.hits(fault, meant, str(number)):
                line.cut(int(fault.value("code")))

    def over(self, number: int) -> None:
        """Forget a connection."""
        self._lines.pop(number, None)


class _Line:
    """One connection's."""

    def __init__(
        self, faults: Faults, lines: Lines, number: int, request: web.Request,
        socket: web.WebSocketResponse, listener: Listener,
    ) -> None:  # fmt: skip
        self._faults, self._lines, self._number = faults, lines, number
        self._request, self._socket, self._listener = request, socket, listener
        self._key = str(number)
        self._held: list[tuple[str, int]] = []  # texts, and how many are still to pass them
        self._gaps: dict[str, int] = {}  # stream → changes still to be lost
        self._closing: asyncio.Task[bool] | None = None

    def subjects(self) -> list[Subject]:
        """Return what it can be struck as: one for each of its streams."""
        return [self._subject(name) for name in self._listener.names()] or [self._subject("")]

    def _subject(self, stream: str) -> Subject:
        symbol = stream.partition("@")[0].upper() if "@" in stream else ""
        return Subject(self._listener.market, symbol, stream, "", self._listener.account)

    # A connection

    def cut(self, code: int) -> None:
        """End it, with a code or without a word."""
        if code:
            self._closing = asyncio.create_task(self._socket.close(code=code))
        elif self._request.transport is not None:
            self._request.transport.abort()

    def answers_pings(self) -> bool:
        """Return whether pings are answered now."""
        for fault in self._faults.at_work("silence"):
            struck = any(fault.fault.target.covers(each) for each in self.subjects())
            if struck and not fault.value("pings"):
                self._faults.note(fault, "pings")
                return False
        return True

    def closed(self) -> None:
        """Hear that it is over."""
        self._lines.over(self._number)

    # Messages

    async def carried(self, said: Said) -> AsyncIterator[str]:
        """Yield what arrives of a message, when it does."""
        if not self._held and not any(self._gaps.values()) and not self._troubled():
            yield said.text
            return
        subject = self._subject(said.stream)
        if self._lost(said, subject):
            return
        text = self._damaged(said, subject)
        if (late := self._strike("delay", subject)) is not None:
            await self._wait(late, said.at)
        if (moved := self._strike("reorder", subject)) is not None:
            self._held.append((text, int(moved.value("span"))))
            return
        for _ in range(1 + self._copies(said, subject)):
            yield text
        self._held, due = _passed(self._held)
        for each in due:
            yield each

    def _troubled(self) -> bool:
        return any(each.fault.kind in _OF_MESSAGES for each in self._faults.running)

    def _strike(self, kind: str, subject: Subject) -> Running | None:
        if not subject.stream and kind != "silence":  # an answer
            return None
        return self._faults.strike(kind, subject, self._key)

    def _lost(self, said: Said, subject: Subject) -> bool:
        if self._strike("silence", subject) or self._strike("drop", subject):
            return True
        if _CHANGES.search(said.stream) is None:
            return False
        if not self._gaps.get(said.stream):
            fault = self._strike("gap", subject)
            self._gaps[said.stream] = int(fault.value("count")) if fault else 0
        if self._gaps[said.stream]:
            self._gaps[said.stream] -= 1
            return True
        return False

    def _damaged(self, said: Said, subject: Subject) -> str:
        text = said.text
        if (wrong := self._strike("skew", subject)) is not None:
            text = restamped(text, int(wrong.value("ms")))
        if (fault := self._strike("garbage", subject)) is not None:
            text, how = broken(
                text, str(fault.value("what")), int(fault.value("kilobytes")),
                lambda: self._faults.chance(fault, self._key),
            )  # fmt: skip
            self._faults.note(fault, how)
        return text

    def _copies(self, said: Said, subject: Subject) -> int:
        again = self._strike("duplicate", subject)
        copies = int(again.value("copies")) if again is not None else 0
        if said.stream == USER and (symbol := fill_symbol(said.text)):
            copies += self._strike("double_fill", replace(subject, symbol=symbol)) is not None
        return copies

    async def _wait(self, fault: Running, said_at: float) -> None:
        least, most = sorted((fault.value("least_ms"), fault.value("most_ms")))
        late_ms = least + (most - least) * self._faults.chance(fault, self._key)
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(said_at + late_ms / 1_000 - now, 0.0))


def _passed(held: list[tuple[str, int]]) -> tuple[list[tuple[str, int]], list[str]]:
    """Let one message pass what is held; return what stays held, and what is due."""
    passed = [(text, left - 1) for text, left in held]
    return [each for each in passed if each[1] > 0], [text for text, left in passed if left <= 0]
