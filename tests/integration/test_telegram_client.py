"""The client against a server: what arrives, what is tried again, what is given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from notifications.markup import Button
from notifications.pacing import Pace, Rates
from notifications.telegram import (
    Line,
    Sent,
    make_line,
    tg_edit,
    tg_send,
    tg_send_html,
    tg_send_markdown,
    tg_send_photo,
)
from serving.system import set_defaults
from tests.bot_api import TOKEN, BotApi, Fault, serve
from tests.unit.test_telegram_markup import HOSTILE

FAST = Rates(1000.0, 1000.0, 1000.0)
PATIENCE_S = 20.0  # with answers that come
HANGING_S = 2.0  # and with one that does not


@pytest.fixture
def api() -> Iterator[BotApi]:
    with serve(BotApi()) as running:
        yield running


def run(
    url: str, work: Callable[[Line], Awaitable[Sent]], token: str = TOKEN,
    patience_s: float = PATIENCE_S,
) -> Sent:  # fmt: skip
    """Do something on a connection whose pauses take no time."""
    set_defaults(PTB_TIMEDELTA="true")

    async def soon(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))

    async def play() -> Sent:
        pace = Pace(FAST, time.monotonic, soon)
        line = make_line(token, url, pace, timeout_s=patience_s, environment_proxies=False)
        try:
            return await work(line)
        finally:
            await line.close()

    return asyncio.run(play())


def sends(api: BotApi) -> int:
    return sum(method.startswith("send") for method, _, _ in api.calls)


@pytest.mark.parametrize("text", HOSTILE)
def test_tg_send_when_the_text_is_hostile_then_it_arrives_as_it_is(api: BotApi, text: str) -> None:
    assert run(api.url, lambda line: tg_send(line, "42", f"x{text}x")).outcome == "sent"
    (shown,) = api.texts()
    assert len(shown) == len(text) + 2
    assert all(ours in (theirs, "\ufffd") for ours, theirs in zip(shown[1:], text, strict=False))


def test_tg_send_when_the_text_is_long_then_it_comes_in_parts_between_lines(api: BotApi) -> None:
    text = "\n".join(f"line {n} <&> 😀" for n in range(1_000))
    assert run(api.url, lambda line: tg_send(line, "42", text)).outcome == "sent"
    assert len(api.texts()) > 3
    assert "\n".join(api.texts()) == text


def test_tg_send_when_silent_then_it_makes_no_sound(api: BotApi) -> None:
    run(api.url, lambda line: tg_send(line, "42", "quiet", silent=True))
    run(api.url, lambda line: tg_send(line, "42", "loud"))
    assert [m["silent"] for m in api.messages] == [True, False]


def test_tg_send_when_there_is_nothing_to_say_then_nothing_is_sent(api: BotApi) -> None:
    done = run(api.url, lambda line: tg_send(line, "42", " \n"))
    assert (done.outcome, sends(api)) == ("refused", 0)


def test_tg_send_markdown_when_it_is_right_then_its_marks_are_gone(api: BotApi) -> None:
    done = run(api.url, lambda line: tg_send_markdown(line, "42", "*LONG* at 5\\.0"))
    assert (done.outcome, api.texts()) == ("sent", ["LONG at 5.0"])


def test_tg_send_markdown_when_it_cannot_be_parsed_then_it_arrives_plain(api: BotApi) -> None:
    done = run(api.url, lambda line: tg_send_markdown(line, "42", "*LONG at 5.0 (not closed"))
    assert (done.outcome, api.texts()) == ("sent", ["*LONG at 5.0 (not closed"])


def test_tg_send_html_when_it_cannot_be_parsed_then_it_arrives_without_tags(api: BotApi) -> None:
    done = run(api.url, lambda line: tg_send_html(line, "42", "<b>a</b> <made-up>b</made-up>"))
    assert (done.outcome, api.texts()) == ("sent", ["a b"])


def test_tg_send_html_when_it_has_buttons_then_they_are_under_the_last_part(api: BotApi) -> None:
    rows = ((Button("Why", "why:1"),),)
    long = "\n".join("x" * 80 for _ in range(80))
    run(api.url, lambda line: tg_send_html(line, "42", long, buttons=rows))
    assert [m["reply_markup"] is not None for m in api.messages] == [False, True]


def test_tg_send_photo_when_given_a_png_then_it_arrives_with_its_caption(api: BotApi) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"0" * 50_000
    done = run(api.url, lambda line: tg_send_photo(line, "42", png, "<b>equity</b>"))
    assert (done.outcome, api.texts(), api.photos) == ("sent", ["equity"], [png])


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "times", "outcome", "tries"),
    [
        ("429", 2, "sent", 3), ("500", 2, "sent", 3), ("502", 1, "sent", 2),
        ("500", 9, "later", 3), ("429", 9, "later", 3),
        ("hang", 9, "unknown", 1), ("cut", 9, "unknown", 1),  # it may have arrived
    ],
)  # fmt: skip
def test_tg_send_when_the_server_fails_then_only_what_did_not_arrive_is_tried_again(
    api: BotApi, kind: str, times: int, outcome: str, tries: int
) -> None:
    api.faults.append(Fault(kind, times))
    patience_s = HANGING_S if kind == "hang" else PATIENCE_S
    done = run(api.url, lambda line: tg_send(line, "42", "hello"), patience_s=patience_s)
    assert (done.outcome, sends(api)) == (outcome, tries)
    assert api.texts() == (["hello"] if outcome == "sent" else [])


def test_tg_send_when_nobody_listens_then_it_certainly_did_not_arrive() -> None:
    with serve(BotApi()) as api:
        url = api.url
    assert run(url, lambda line: tg_send(line, "42", "hello")).outcome == "later"


@pytest.mark.parametrize(
    ("chat", "token", "outcome", "why"),
    [
        ("43", TOKEN, "refused", "chat not found"),
        ("42", "1:wrong", "later", "Unauthorized"),  # the set-up's fault, not the message's
    ],
)
def test_tg_send_when_it_is_refused_then_the_reason_is_told(
    api: BotApi, chat: str, token: str, outcome: str, why: str
) -> None:
    done = run(api.url, lambda line: tg_send(line, chat, "hello"), token)
    assert done.outcome == outcome
    assert why.lower() in done.why.lower()
    assert TOKEN not in done.why


def test_tg_edit_when_the_text_is_the_same_then_that_is_no_error(api: BotApi) -> None:
    async def twice(line: Line) -> Sent:
        first = await tg_send(line, "42", "old")
        assert first.message_id is not None
        await tg_edit(line, "42", first.message_id, "<b>new</b>")
        return await tg_edit(line, "42", first.message_id, "<b>new</b>")

    assert run(api.url, twice).outcome == "sent"
    assert api.texts() == ["new"]
