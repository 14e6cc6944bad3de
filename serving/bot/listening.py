"""Long polling: what people write and press, each handled at most once; strangers are ignored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from telegram import BotCommand, CallbackQuery, Message, Update
from telegram.error import TelegramError

from domain.errors import ConclaveError, UsageError
from notifications.markup import CAPTION_LIMIT, Note, bold, escape, units
from notifications.progress import SNAPSHOT, Patience
from notifications.telegram import (
    POLL_SECONDS,
    Line,
    judge,
    tg_edit,
    tg_send_html,
    tg_send_photo,
)
from serving.bot.access import Access
from serving.bot.asked import Asked, parse
from serving.bot.commands import COMMANDS, REFRESHED, Answering
from storage.snapshots import SqlSnapshots

log = structlog.get_logger("bot")

_OFFSET = "updates"
_UNKNOWN_MOST = 1000  # chats whose first message is logged
_LAST_WORDS = 3.0  # seconds for answers that are under way when the process is to end
_UPDATES = ("message", "callback_query")


@dataclass(slots=True)
class Listening:
    """Takes updates, answers commands.

    The offset is stored before an update is handled: a crash in between loses a command, which is
    given again, rather than carrying one out twice.

    Parameters
    ----------
    sleep : waits so many seconds, less if the process is to end.
    """

    line: Line
    access: Access
    answering: Answering
    snapshots: SqlSnapshots
    sleep: Callable[[float], Awaitable[None]]
    patience: Patience = field(default_factory=Patience)
    poll_s: int = POLL_SECONDS
    name: str = ""
    _ignored: set[int] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, leave: asyncio.Event) -> None:
        """Listen until told to leave; nothing that fails ends it."""
        while not leave.is_set():
            try:
                if not self.name:
                    await self._introduce()
                updates = await self._poll(leave)
                self.patience.failures = 0
            except TelegramError as error:
                said = judge(error)
                log.info("not_listening", why=said.why)
                await self.sleep(said.wait_s or self.patience.next())
                continue
            except ConclaveError as error:  # the database is away
                log.warning("not_listening", why=str(error))
                await self.sleep(self.patience.next())
                continue
            for update in updates:
                self._begin(update)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS)

    def _begin(self, update: Update) -> None:
        """Handle it beside the others: a kill must not wait for a slow answer."""
        self.snapshots.save(SNAPSHOT, _OFFSET, 0, {"next": update.update_id + 1})
        task = asyncio.create_task(self._take(update))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _introduce(self) -> None:
        me = await self.line.bot.get_me()
        menu = [BotCommand(one.name, one.text[:256]) for one in COMMANDS.values()]
        await self.line.bot.set_my_commands(menu)
        self.name = me.username or ""

    async def _poll(self, leave: asyncio.Event) -> tuple[Update, ...]:
        """Hold a long poll open; an empty answer if we are told to leave meanwhile."""
        saved = self.snapshots.latest(SNAPSHOT, _OFFSET)
        asking = asyncio.ensure_future(
            self.line.bot.get_updates(
                offset=None if saved is None else int(saved[1]["next"]), timeout=self.poll_s,
                allowed_updates=_UPDATES, read_timeout=self.poll_s + 10,
            )
        )  # fmt: skip
        leaving = asyncio.ensure_future(leave.wait())
        await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not asking.done():
            asking.cancel()
            await asyncio.wait({asking})
            return ()
        return asking.result()

    async def _take(self, update: Update) -> None:
        try:
            await self.handle(update)
        except Exception as error:  # noqa: BLE001 - one update must not end the listening
            log.error("update_failed", error=f"{type(error).__name__}: {error}")

    async def handle(self, update: Update) -> None:
        """Answer one update."""
        if update.callback_query is not None:
            await self._pressed(update.callback_query)
        elif update.message is not None and update.message.text:
            await self._written(update.message, update.message.text)

    async def _written(self, message: Message, text: str) -> None:
        chat, sender = message.chat_id, message.from_user
        user = chat if sender is None else sender.id
        role = self.access.role(chat, user)
        if role is None:
            self._ignore(chat)
            return
        told = parse(text, self.name)
        if told is None:
            return
        name = "" if sender is None else sender.full_name
        await self._answer(Asked(told[0], told[1], chat, user, name, role))

    def _ignore(self, chat: int) -> None:
        if chat not in self._ignored and len(self._ignored) < _UNKNOWN_MOST:
            self._ignored.add(chat)
            log.warning("unknown_chat_ignored", chat=chat)

    async def _answer(self, asked: Asked) -> None:
        await self._say(asked.chat, await self._note(asked, self.answering.answer(asked)))

    async def _note(self, asked: Asked, answering: Awaitable[Note]) -> Note:
        try:
            return await answering
        except ConclaveError as error:
            log.info("refused", command=asked.command, why=error.message)
            return Note(f"🚫 {escape(error.message)}\n{escape(error.hint)}".strip())
        except Exception as error:  # noqa: BLE001 - somebody waits for an answer
            log.error("failed", command=asked.command, error=f"{type(error).__name__}: {error}")
            return Note(f"🚫 /{escape(asked.command)} failed; the log says why.")

    async def _say(self, chat: int, note: Note) -> None:
        place = str(chat)
        if note.picture is None:
            done = await tg_send_html(self.line, place, note.html, buttons=note.buttons)
        else:
            fits = units(note.html) <= CAPTION_LIMIT
            from notifications.charts import draw

            png = await asyncio.to_thread(draw, note.picture.chart, note.picture.data)
            done = await tg_send_photo(
                self.line,
                place,
                png,
                note.html if fits else "",
                buttons=note.buttons if fits else (),
            )
            if not fits:
                done = await tg_send_html(self.line, place, note.html, buttons=note.buttons)
        if done.outcome != "sent":
            log.warning("answer_not_sent", chat=chat, outcome=done.outcome, why=done.why)

    # Buttons

    async def _pressed(self, query: CallbackQuery) -> None:
        message, data = query.message, query.data or ""
        if message is None:
            return
        chat, user = message.chat.id, query.from_user.id
        role = self.access.role(chat, user)
        if role is None:
            self._ignore(chat)
            return
        kind, _, rest = data.partition(":")
        asked = Asked("", rest, chat, user, query.from_user.full_name, role)
        if kind in ("do", "no"):
            await self._decide(kind, rest, asked, query, message.message_id)
            return
        await self._acknowledge(query)
        if kind == "re":
            await self._refresh(asked, message.message_id)
        elif kind in ("why", "chart"):
            await self._answer(_as(asked, kind, rest))

    async def _acknowledge(self, query: CallbackQuery, alert: str | None = None) -> None:
        try:
            await self.line.bot.answer_callback_query(query.id, alert, show_alert=bool(alert))
        except TelegramError as error:  # the wheel on the button goes on turning; no more than that
            log.info("not_acknowledged", why=error.message)

    async def _refresh(self, asked: Asked, message_id: int) -> None:
        name, _, words = asked.words.partition(" ")
        if name not in REFRESHED:
            return
        again = _as(asked, name, words)
        note = await self._note(again, self.answering.answer(again))
        await tg_edit(self.line, str(asked.chat), message_id, note.html, note.buttons)

    async def _decide(
        self, kind: str, rest: str, asked: Asked, query: CallbackQuery, message_id: int
    ) -> None:
        code, _, choice = rest.partition(":")
        acting = self.answering.acting
        if acting.confirmations.foreign(code, asked.chat, asked.user):
            await self._acknowledge(query, "This question belongs to who asked.")
            return
        await self._acknowledge(query)
        if kind == "no":
            acting.confirmations.drop(code)
            note = Note(f"✖️ {bold('Cancelled')}")
        else:
            note = await self._note(asked, self._confirmed(code, choice, asked))
        await tg_edit(self.line, str(asked.chat), message_id, note.html)

    async def _confirmed(self, code: str, choice: str, asked: Asked) -> Note:
        if asked.role != "operator":
            raise UsageError("confirmation", "is for operators; you are a viewer")
        return await self.answering.acting.confirmed(code, choice, asked)


def _as(asked: Asked, command: str, words: str) -> Asked:
    return Asked(command, words, asked.chat, asked.user, asked.name, asked.role)
