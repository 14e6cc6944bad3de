"""Events as they happen, over one HTTP reply that does not end (server-sent events).

Streams poll the events table: one look a quarter of a second for all of them, and each reads its
own part when there is something new. A reader that is slow holds its place and one page, nothing
more; one that takes nothing at all for a while is let go, and resumes with Last-Event-ID.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from domain.canonical import canonical_json
from domain.errors import ConclaveError, UsageError
from domain.times import iso
from domain.trading import Event
from storage.events import EventLog

MOST_STREAMS = 100
POLL_SECONDS = 0.25
PAGE = 100
STALLED_SECONDS = 30.0
RETRY_MS = 2000


class TooManyStreams(ConclaveError):
    """Every place for a stream is taken."""

    code, exit_code = "overloaded", 4
    retry_after = 5


def event_id(text: str | None) -> int | None:
    """Read a Last-Event-ID.

    Raises
    ------
    UsageError : if it is none of ours.
    """
    if text is None or not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise UsageError(
            "Last-Event-ID", "must be the id of an event", text, "Leave it out to start with now."
        )
    return int(text)


@dataclass(slots=True)
class Streams:
    """The streams of one process.

    Attributes
    ----------
    heartbeat : seconds between two comments that keep proxies from hanging up.
    stalled : seconds for which a reader may take nothing at all.
    """

    events: EventLog
    most: int = MOST_STREAMS
    heartbeat: float = 15.0
    stalled: float = STALLED_SECONDS
    open: int = 0
    _newest: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _poll: asyncio.Task[None] | None = None

    async def stream(self, since: int | None, kinds: Collection[str]) -> EventStream:
        """Open a stream.

        Parameters
        ----------
        since : id of the last event that the reader has; None begins with the next one.
        kinds : only these; all if empty.

        Raises
        ------
        TooManyStreams : if there are as many as may be.
        """
        if self.open >= self.most:
            raise TooManyStreams(
                "/v1/stream", f"has {self.most} readers, no more", hint="Try again in a moment."
            )
        self.open += 1  # before the first await: two must not take the last place
        try:
            if since is None:
                since = await run_in_threadpool(self.events.last_id)
        except BaseException:
            self.open -= 1
            raise
        return EventStream(self, since, frozenset(kinds))

    def closed(self) -> None:
        """Give a place back."""
        self.open -= 1

    async def after(self, last: int) -> list[tuple[int, Event]]:
        """Return the next events, oldest first; none if the heartbeat is due before there are."""
        if self._poll is None or self._poll.done():
            self._poll = asyncio.create_task(self._look())
        async with self._news:
            try:
                async with asyncio.timeout(self.heartbeat):
                    await self._news.wait_for(lambda: self._newest > last)
            except TimeoutError:
                return []
        return await run_in_threadpool(self.events.after, last, PAGE)

    async def _look(self) -> None:
        """Look for news for everybody, for as long as anybody listens."""
        while self.open:
            try:
                newest = await run_in_threadpool(self.events.last_id)
            except ConclaveError:  # a busy database has news the next time
                newest = self._newest
            if newest != self._newest:
                async with self._news:
                    self._newest = newest
                    self._news.notify_all()
            await asyncio.sleep(POLL_SECONDS)


class EventStream(StreamingResponse):
    """One reader's stream."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, since: int, kinds: frozenset[str]) -> None:
        self._streams, self._last, self._kinds = streams, since, kinds
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(self._told(), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the reader leaves, or takes nothing for a while."""

        async def patiently(message: Message) -> None:
            async with asyncio.timeout(self._streams.stalled):
                await send(message)

        try:
            await super().__call__(scope, receive, patiently)
        except TimeoutError:
            return  # the server ends the connection, as the reply was not finished
        finally:
            self._streams.closed()

    async def _told(self) -> AsyncIterator[str]:
        yield f"retry: {RETRY_MS}\nid: {self._last}\n\n"  # who is cut off at once misses none
        while True:
            batch = await self._streams.after(self._last)
            told = [line_of(*one) for one in batch if not self._kinds or one[1].kind in self._kinds]
            if batch:
                self._last = batch[-1][0]
            if told:
                yield "".join(told)
            elif not batch:
                yield ": still here\n\n"


def line_of(number: int, event: Event) -> str:
    """Write an event as server-sent events have it; its JSON has no line breaks."""
    body = {
        "id": number, "kind": event.kind, "at": iso(event.at), "level": event.level,
        "body": event.body,
    }  # fmt: skip
    return f"id: {number}\nevent: {event.kind}\ndata: {canonical_json(body)}\n\n"
