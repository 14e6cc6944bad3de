"""Events → outbox → Telegram: each once, in order, however long Telegram is away.

Every item of the outbox is one call of the Bot API: a text that was split is several items, so that
what arrived of it is never sent again. An item is marked before it is handed over and after the
answer. A process that dies in between leaves a mark that tells: *may have arrived*. Such an item is
sent again and says so, for losing it would be worse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from domain.errors import ConclaveError
from domain.ports import Clock
from domain.trading import Event
from notifications.markup import CAPTION_LIMIT, Button, Note, Picture, Rows, split, units
from notifications.matrix import Matrix
from notifications.messages import note_of, unreadable
from notifications.progress import Cursor, Patience
from notifications.telegram import Line, Sent, html_once, photo_once
from storage.events import EventLog
from storage.outbox import OutboxItem, SqlOutbox

log = structlog.get_logger("relay")

AGAIN = "↻ <i>Sent again: the answer to the first attempt was lost, it may have arrived.</i>\n"
_BATCH = 200
_KEPT = 5_000  # sent items: more than are taken in between two saved cursors
_PRUNE_EVERY = 1_000


@dataclass(slots=True)
class Relay:
    """Brings one world's events to one chat.

    Parameters
    ----------
    sleep : waits so many seconds, less if the process is to end.
    poll_s : how often new events are looked for, seconds.
    allowed : whether this process is still the one that sends.
    """

    events: EventLog
    outbox: SqlOutbox
    cursor: Cursor
    line: Line
    chat: str
    matrix: Matrix
    clock: Clock
    sleep: Callable[[float], Awaitable[None]]
    patience: Patience = field(default_factory=Patience)
    poll_s: float = 0.5
    allowed: Callable[[], bool] = lambda: True  # asked before every attempt
    _delivered: int = 0
    _arrived: set[int] = field(default_factory=set)

    def begin(self) -> None:
        """Start at the newest event, unless it was begun before: what is past is not told."""
        self.cursor.begin(self.events.last_id())

    def notify(self, event: Event, key: str) -> bool:
        """Queue an event that is on no log; once per key. Returns whether it is new and told."""
        batch = self._items(event, key)
        return bool(batch) and self.outbox.extend(batch) > 0

    def take_in(self) -> int:
        """Queue the events that are new, each once, and return how many were looked at."""
        after = self.cursor.get() or 0
        found = self.events.after(after, _BATCH)
        if not found:
            return 0
        batch = [item for number, event in found for item in self._items(event, f"event {number}")]
        if batch:
            self.outbox.extend(batch)
        self.cursor.set(found[-1][0])  # a crash before this takes them in again: the keys are known
        return len(found)

    async def run(self, leave: asyncio.Event) -> None:
        """Take in and deliver until told to leave; nothing that fails ends it."""
        while not leave.is_set():
            try:
                if not self.take_in() and not await self.deliver(leave):
                    await self.sleep(self.poll_s)
            except ConclaveError as error:  # a busy database
                log.warning("relay_waits", why=str(error))
                await self.sleep(self.patience.next())
            except Exception as error:  # noqa: BLE001 - the next message must still go
                log.error("relay_failed", error=f"{type(error).__name__}: {error}")
                await self.sleep(self.patience.next())

    async def deliver(self, leave: asyncio.Event) -> int:
        """Send what waits, oldest first, until it is empty, fails or there are new events."""
        done = 0
        for item in self.outbox.pending(_BATCH):
            if leave.is_set() or not self.allowed() or not await self._hand_over(item):
                break
            done += 1
        return done

    async def _hand_over(self, item: OutboxItem) -> bool:
        """Send one item; whether the next may follow."""
        if item.id in self._arrived:  # and could not be noted then
            self._note_arrived(item.id)
            return True
        self.outbox.mark_sending(item.id)
        sent = await self._send(item, again=item.state == "sending")
        if sent.outcome == "sent":
            self._note_arrived(item.id)
            self.patience.failures = 0
            self._delivered += 1
            if self._delivered % _PRUNE_EVERY == 0:
                self.outbox.prune(_KEPT)
            return True
        if sent.outcome == "refused":
            log.warning("message_given_up", key=item.key, why=sent.why)
            self.outbox.give_up(item.id, sent.why)
            return True
        unsure = sent.outcome == "unknown" or item.state == "sending"
        self.outbox.put_back(item.id, sent.why, unsure=unsure)
        pause = self.patience.next()
        log.info("message_waits", key=item.key, why=sent.why, seconds=pause)
        await self.sleep(pause if sent.wait_s is None else sent.wait_s)
        return False

    def _note_arrived(self, item_id: int) -> None:
        self._arrived.add(item_id)
        self.outbox.mark_sent(item_id)
        self._arrived.discard(item_id)

    async def _send(self, item: OutboxItem, *, again: bool) -> Sent:
        body, silent = item.event.body, bool(item.event.body["silent"])
        buttons = _buttons_of(body["buttons"])
        html = (AGAIN if again else "") + str(body["html"])
        if body["picture"] is None:
            return await html_once(self.line, self.chat, html, silent=silent, buttons=buttons)
        from notifications.charts import draw  # Matplotlib takes its time to load

        try:
            png = await asyncio.to_thread(draw, body["picture"]["chart"], body["picture"]["data"])
        except (KeyError, ValueError, TypeError, IndexError) as error:
            return Sent("refused", why=f"chart: {type(error).__name__}: {error}")
        return await photo_once(self.line, self.chat, png, html, silent=silent, buttons=buttons)

    def _items(self, event: Event, key: str) -> list[tuple[str, Event]]:
        loudness = self.matrix.loudness(event)
        if loudness == "off":
            return []
        try:
            note = note_of(event)
        except (KeyError, ValueError, TypeError) as error:  # another version's event: say so
            log.warning("message_unreadable", key=key, kind=event.kind, why=str(error))
            note = unreadable(event)
        bodies = bodies_of(note, silent=loudness == "silent")
        return [
            (f"{key} {n}", Event(event.kind, event.at, body, event.level))
            for n, body in enumerate(bodies)
        ]


def bodies_of(note: Note, *, silent: bool) -> list[dict[str, Any]]:
    """Return a note as the calls that send it, one body a call."""
    room = 4096 - units(AGAIN)
    parts = split(note.html, room)
    bodies = [_body(part, silent=silent) for part in parts]
    if note.picture is not None:
        fits = len(parts) == 1 and units(parts[0]) <= CAPTION_LIMIT - units(AGAIN)
        shown = _body(parts[0] if fits else "", silent=silent, picture=note.picture)
        bodies = [shown] if fits else [shown, *bodies]
    if bodies:
        bodies[-1]["buttons"] = [[[b.label, b.data] for b in row] for row in note.buttons]
    return bodies


def _body(html: str, *, silent: bool, picture: Picture | None = None) -> dict[str, Any]:
    shown = None if picture is None else {"chart": picture.chart, "data": picture.data}
    return {"html": html, "silent": silent, "buttons": [], "picture": shown}


def _buttons_of(rows: Sequence[Sequence[Sequence[str]]]) -> Rows:
    return tuple(tuple(Button(label, data) for label, data in row) for row in rows)
