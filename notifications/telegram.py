"""Telegram: one connection to the Bot API, and what became of each message handed to it.

Telegram knows no idempotency key: who does not hear the answer cannot know whether the message
arrived. So every attempt ends in one of four ways, and whoever resends decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import httpx
import structlog
from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    LinkPreviewOptions,
    Message,
)
from telegram.constants import ParseMode
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
)
from telegram.request import HTTPXRequest

from notifications.markup import Rows, escape, split, without_tags
from notifications.pacing import Pace

log = structlog.get_logger("telegram")

POLL_SECONDS = 25  # how long the server may hold getUpdates open
_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)  # a text must not make Telegram fetch a page
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BACKOFF = (1.0, 2.0, 4.0)
_TRIES = 3
_LONGEST_WAIT = 30.0  # seconds; nobody waits longer for an answer

Outcome = Literal["sent", "later", "unknown", "refused"]


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a message.

    Attributes
    ----------
    outcome : ``sent``; ``later``: it did not arrive and may be tried again; ``unknown``: no answer
        came, it may have arrived; ``refused``: it will never be taken.
    wait_s : how long Telegram told us to wait, seconds; None where it did not say.
    parse : whether the markup was what it refused.
    """

    outcome: Outcome
    message_id: int | None = None
    why: str = ""
    wait_s: float | None = None
    parse: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A connection to the Bot API at a pace."""

    bot: Bot
    pace: Pace
    requests: tuple[HTTPXRequest, ...]

    async def close(self) -> None:
        """Close the connection pools."""
        for request in self.requests:
            await request.shutdown()

    async def attempt(self, chat: str, send: Callable[[], Awaitable[Any]]) -> Sent:
        """Wait for a turn, try once, and say what became of it."""
        await self.pace.turn(chat)
        try:
            reply = await send()
        except TelegramError as error:
            failed = judge(error)
            if failed.wait_s is not None and isinstance(error, RetryAfter):
                self.pace.hold(chat, failed.wait_s)
            return failed
        return Sent("sent", reply.message_id if isinstance(reply, Message) else None)


def make_line(
    token: str,
    base_url: str,
    pace: Pace,
    *,
    timeout_s: float = 10.0,
    environment_proxies: bool = True,
) -> Line:
    """Make a connection.

    Parameters
    ----------
    base_url : of the Bot API, without ``/bot…``; a server of one's own works too.
    timeout_s : patience with connecting, writing and reading, seconds; long polls get more.
    environment_proxies : whether HTTPS_PROXY and its like count.
    """

    def request(pool: int) -> HTTPXRequest:
        return HTTPXRequest(
            connection_pool_size=pool, read_timeout=timeout_s, write_timeout=timeout_s,
            connect_timeout=timeout_s, pool_timeout=timeout_s, media_write_timeout=2 * timeout_s,
            httpx_kwargs={"trust_env": environment_proxies},
        )  # fmt: skip

    root, sending, polling = base_url.rstrip("/"), request(8), request(1)
    bot = Bot(
        token, base_url=f"{root}/bot", base_file_url=f"{root}/file/bot", request=sending,
        get_updates_request=polling,
    )  # fmt: skip
    return Line(bot, pace, (sending, polling))


def judge(error: TelegramError) -> Sent:
    """Return what an error of the library says about the message.

    A reply of the server, whatever it says, means that it was not delivered; so does a connection
    that never came about. Any other silence leaves it open.
    """
    why = f"{type(error).__name__}: {error.message}"
    if isinstance(error, RetryAfter):
        pause = error.retry_after  # its type depends on PTB_TIMEDELTA
        seconds = pause.total_seconds() if isinstance(pause, timedelta) else float(pause)
        return Sent("later", why=why, wait_s=seconds)
    if isinstance(error, BadRequest):
        parse = "parse" in error.message.lower() or "too long" in error.message.lower()
        return Sent("refused", why=why, parse=parse)
    if isinstance(error, Forbidden | ChatMigrated):
        return Sent("refused", why=why)
    if isinstance(error, InvalidToken | Conflict):  # the set-up's fault, not the message's
        return Sent("later", why=why, wait_s=60.0)
    cause = error.__cause__
    if isinstance(error, NetworkError) and isinstance(cause, httpx.HTTPError):
        return Sent("later" if isinstance(cause, _UNSENT) else "unknown", why=why)
    return Sent("later", why=why)


def keyboard(rows: Rows) -> InlineKeyboardMarkup | None:
    """Return buttons as Telegram takes them; None without any."""
    if not rows:
        return None
    return InlineKeyboardMarkup(
        [[InlineKeyboardButton(b.label, callback_data=b.data) for b in row] for row in rows]
    )


async def tg_send(line: Line, chat: str, text: str, *, silent: bool = False) -> Sent:
    """Send plain text of any length, with retries; returns what became of the last part.

    It tries three times where Telegram did not take it, after the pause that Telegram asks for; a
    part that may have arrived is not sent again.
    """
    return await tg_send_html(line, chat, escape(text), silent=silent)


async def tg_send_markdown(line: Line, chat: str, text: str, *, silent: bool = False) -> Sent:
    """Send MarkdownV2 of at most 4096 characters as :func:`tg_send` does.

    Markup that Telegram cannot parse is sent as the plain text that it is.
    """
    return await _in_parts(line, chat, [text], ParseMode.MARKDOWN_V2, silent=silent)


async def tg_send_html(
    line: Line, chat: str, html: str, *, silent: bool = False, buttons: Rows = ()
) -> Sent:
    """Send HTML of any length as :func:`tg_send` does, the buttons under its last part."""
    parts = split(html)
    return await _in_parts(line, chat, parts, ParseMode.HTML, silent=silent, buttons=buttons)


async def tg_send_photo(
    line: Line,
    chat: str,
    png: bytes,
    caption: str = "",
    *,
    silent: bool = False,
    buttons: Rows = (),
) -> Sent:
    """Send a PNG with an HTML caption of at most 1024 characters, with retries."""
    return await _patiently(
        line, lambda: photo_once(line, chat, png, caption, silent=silent, buttons=buttons)
    )


async def html_once(
    line: Line, chat: str, html: str, *, silent: bool = False, buttons: Rows = ()
) -> Sent:
    """Send one message of HTML, trying once; as plain text where Telegram cannot parse it."""
    return await _text_once(line, chat, html, ParseMode.HTML, silent=silent, buttons=buttons)


async def photo_once(
    line: Line, chat: str, png: bytes, caption: str, *, silent: bool = False, buttons: Rows = ()
) -> Sent:
    """Send one picture, trying once."""
    return await line.attempt(
        chat,
        lambda: line.bot.send_photo(
            chat, png, caption=caption or None, parse_mode=ParseMode.HTML,
            disable_notification=silent, reply_markup=keyboard(buttons), filename="chart.png",
        ),
    )  # fmt: skip


async def tg_edit(line: Line, chat: str, message_id: int, html: str, buttons: Rows = ()) -> Sent:
    """Replace a message's text; the same text again is no error."""
    done = await line.attempt(
        chat,
        lambda: line.bot.edit_message_text(
            split(html)[0], chat, message_id, parse_mode=ParseMode.HTML,
            reply_markup=keyboard(buttons), link_preview_options=_NO_PREVIEW,
        ),
    )  # fmt: skip
    return Sent("sent", message_id) if "not modified" in done.why else done


async def _text_once(
    line: Line, chat: str, text: str, mode: str | None, *, silent: bool, buttons: Rows
) -> Sent:
    async def send(said: str, parse_mode: str | None) -> Sent:
        return await line.attempt(
            chat,
            lambda: line.bot.send_message(
                chat, said, parse_mode=parse_mode, disable_notification=silent,
                reply_markup=keyboard(buttons), link_preview_options=_NO_PREVIEW,
            ),
        )  # fmt: skip

    done = await send(text, mode)
    if not done.parse or mode is None:
        return done
    log.warning("markup_refused", why=done.why)
    return await send(without_tags(text) if mode == ParseMode.HTML else text, None)


async def _in_parts(
    line: Line, chat: str, parts: list[str], mode: str | None, *, silent: bool, buttons: Rows = ()
) -> Sent:
    done = Sent("refused", why="there is no text")
    for number, part in enumerate(parts, 1):
        below = buttons if number == len(parts) else ()
        done = await _patiently(
            line,
            lambda part=part, below=below: _text_once(  # type: ignore[misc]
                line, chat, part, mode, silent=silent, buttons=below
            ),
        )
        if done.outcome != "sent":
            return done
    return done


async def _patiently(line: Line, send: Callable[[], Awaitable[Sent]]) -> Sent:
    for pause in _BACKOFF[: _TRIES - 1]:
        done = await send()
        if done.outcome != "later" or (done.wait_s or 0.0) > _LONGEST_WAIT:
            return done
        if done.wait_s is None:  # else the pace waits
            await line.pace.sleep(pause)
    return await send()
