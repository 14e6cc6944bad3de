"""A running system and a person in a Telegram chat: every command, every button, every refusal."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from domain.trading import RiskMode
from serving.bot.commands import COMMANDS
from storage.audit import Audit
from storage.engine import open_database, sqlite_url
from storage.queries import Reader
from storage.snapshots import SqlSnapshots
from tests.acceptance.running import Running, start
from tests.bot_api import TOKEN, BotApi, serve

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

OPERATOR, VIEWER, GROUP, STRANGER = 42, 7, -100, 13
TOLD = 99  # the chat that messages go to
WHY = "the news came early and the plan is void"


@dataclass
class Chat:
    """The system, the Bot API, and what people do there."""

    system: Running
    api: BotApi
    engine: Engine

    def ask(self, text: str, chat: int = OPERATOR, user: int | None = None) -> dict[str, Any]:
        """Write and return the message that answers."""
        before = len(self.answers(chat))
        self.api.write(text, chat, user)
        return dict(self.api.until(lambda: self.answers(chat)[before:], 20, f"answer to {text}")[0])

    def answers(self, chat: int) -> list[dict[str, Any]]:
        """What was sent to a chat; what is told by itself goes to another one."""
        return [m for m in self.api.messages if m["chat"]["id"] == chat]

    def press(self, message: dict[str, Any], label: str, user: int | None = None) -> None:
        rows = message["reply_markup"]["inline_keyboard"]
        (data,) = [b["callback_data"] for row in rows for b in row if label in b["text"]]
        self.api.press(data, message, user)

    def edited(self, message: dict[str, Any], words: str) -> str:
        """Wait until a message reads otherwise, and return it."""

        def seen() -> str | None:
            found = next(m for m in self.api.messages if m["message_id"] == message["message_id"])
            return found["shown"] if words in found["shown"] else None

        return str(self.api.until(seen, 20, f"edit with {words!r}"))

    def changed(self, message: dict[str, Any]) -> str:
        """Wait until a message reads otherwise, however, and return it."""
        old = message["shown"]

        def seen() -> str | None:
            found = next(m for m in self.api.messages if m["message_id"] == message["message_id"])
            return found["shown"] if found["shown"] != old else None

        return str(self.api.until(seen, 20, "edit"))

    def mode(self) -> str:
        with self.system.client() as client:
            return str(client.get("/v1/risk/state").json()["mode"])

    def audited(self, action: str) -> list[Any]:
        return [row for row in Audit(self.engine).list(limit=500) if row.action == action]


def _first(text: str) -> str:
    """The first line without its icon."""
    return re.sub(r"^[^\w/]+", "", text.splitlines()[0])


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """``up --local`` that flips between LONG and SHORT, a bar every half second."""
    var = tmp_path_factory.mktemp("telegram")
    with serve(BotApi(chats={OPERATOR, VIEWER, GROUP, STRANGER, TOLD})) as api:
        env = {
            "TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_CHAT_ID": str(TOLD),
            "CONCLAVE_NOTIFY__TELEGRAM_CHATS": f"{OPERATOR}:operator,{VIEWER}:viewer,"
            f"{GROUP}:viewer",
            "CONCLAVE_NOTIFY__TELEGRAM_API": api.url,
            "CONCLAVE_NOTIFY__TELEGRAM_PER_SECOND": "30",
            "CONCLAVE_NOTIFY__TELEGRAM_GROUP_PER_MINUTE": "1800",
            "CONCLAVE_NOTIFY__TELEGRAM_CONFIRM_S": "15",
            "CONCLAVE_NOTIFY__TELL_SIGNAL": "off", "CONCLAVE_DATA__WARM_UP_DAYS": "1",
        }  # fmt: skip
        words = ["--local", "--source", "demo", "--profile", "exercise", "--speed", "600"]
        system = start(var, words, env).ready()
        try:
            system.until(60, lambda: _positions(system), "open position")
            yield Chat(system, api, open_database(sqlite_url(var / "ledger.db")))
        finally:
            system.stop(seconds=60)


def _positions(system: Running) -> list[Any]:
    with system.client() as client:
        return list(client.get("/v1/positions").json()["items"])


def test_bot_when_the_system_starts_then_it_says_so_and_shows_its_menu(chat: Chat) -> None:
    chat.api.until(lambda: "Conclave is at work" in chat.api.texts(TOLD)[0], 20, "greeting")
    assert {one["command"] for one in chat.api.commands} == set(COMMANDS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/start", "at work"), ("/help", "/forceexit"), ("/status", "ACTIVE"),
        ("/profit", "Since the start"), ("/daily 3", "By day"), ("/weekly", "By week"),
        ("/monthly 2", "By month"), ("/balance", "equity"), ("/trades 3", "closed trade"),
        ("/performance", "By symbol"), ("/show_config", "telegram_chats"),
        ("/show_config risk", "Settings: risk"), ("/logs up", ""), ("/health", "Messages:"),
        ("/version", "commit"), ("/signal BTC/USDT", "BTC/USDT 5m"), ("/why", "Id "),
        ("/why BTC/USDT", "Outcome"), ("/agents", "Agents"), ("/consensus", "BTC/USDT 5m"),
        ("/calibration", "Calibration"), ("/risk", "limit"), ("/paper", "no order leaves"),
        ("/chart", "BTC/USDT"), ("/forceexit", "/forceexit SYMBOL"), ("/arm", "ACTIVE already"),
    ],
)  # fmt: skip
def test_command_when_given_then_it_is_answered(chat: Chat, text: str, words: str) -> None:
    answer = chat.ask(text)
    assert words in answer["shown"]
    assert "failed; the log says why" not in answer["shown"]


@pytest.mark.parametrize("text", ["/profit", "/chart"])
def test_command_when_it_has_a_picture_then_a_png_comes(chat: Chat, text: str) -> None:
    assert "photo" in chat.ask(text)
    assert chat.api.photos[-1].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/nonsense", "is not one of /help"), ("/why 00ff00ff", "is not in the ledger"),
        ("/daily 0", "from 1 to 31"), ("/daily <b>", "from 1 to 31"),
        ("/signal DOGE/USDT", "is not followed"), ("/show_config nope", "must be one of"),
        ("/logs nope", "is none of"), ("/forceexit BTC/USDT short", "at least 20 characters"),
        ("/forceexit ETH/USDT " + WHY, "needs an open position"),
    ],
)  # fmt: skip
def test_command_when_it_makes_no_sense_then_the_rule_is_told(
    chat: Chat, text: str, words: str
) -> None:
    assert words in chat.ask(text)["shown"]


@pytest.mark.parametrize("name", sorted(n for n, one in COMMANDS.items() if one.role != "viewer"))
def test_command_when_a_viewer_gives_it_then_it_is_for_operators(chat: Chat, name: str) -> None:
    assert "is for operators" in chat.ask(f"/{name}", VIEWER)["shown"]


def test_command_when_a_viewer_looks_then_it_is_answered(chat: Chat) -> None:
    assert "Risk mode" in chat.ask("/risk", VIEWER)["shown"]
    told = chat.ask("/start", VIEWER)["shown"]
    assert "you are viewer" in told
    assert "/kill" not in told


def test_bot_when_a_stranger_writes_then_nothing_comes_back_and_the_log_says_it_once(
    chat: Chat,
) -> None:
    for _ in range(3):
        chat.api.write("/status", STRANGER)
        chat.api.write("/kill", STRANGER)
    chat.ask("/version")  # later than all of these
    assert not [m for m in chat.api.messages if m["chat"]["id"] == STRANGER]
    written = (chat.system.var_dir / "logs" / "up.jsonl").read_text()
    assert written.count("unknown_chat_ignored") == 1
    assert TOKEN not in written


def test_bot_when_a_group_of_viewers_has_an_operator_then_only_that_person_may_act(
    chat: Chat,
) -> None:
    assert "is for operators" in chat.ask("/pause", GROUP, STRANGER)["shown"]
    question = chat.ask("/pause", GROUP, OPERATOR)
    assert "Refuse new positions" in question["shown"]
    before = len(chat.api.answered)
    chat.press(question, "Pause", STRANGER)  # a viewer presses the operator's button
    chat.api.until(lambda: len(chat.api.answered) > before, 10, "alert")
    assert "belongs to who asked" in chat.api.answered[-1]["text"]
    assert chat.mode() == RiskMode.ACTIVE
    chat.press(question, "Cancel", OPERATOR)
    chat.edited(question, "Cancelled")


def test_refresh_when_pressed_then_the_same_message_is_brought_up_to_date(chat: Chat) -> None:
    message = chat.ask("/status")
    count, old = len(chat.api.messages), message["shown"]
    assert "as of" in old

    def fresh() -> bool:
        chat.press(message, "Refresh")
        found = next(m for m in chat.api.messages if m["message_id"] == message["message_id"])
        return bool(found["shown"] != old)

    chat.api.until(fresh, 20, "newer status")
    asked = [m for m in chat.answers(OPERATOR) if m["message_id"] > count]
    assert not asked


def test_why_when_its_button_is_pressed_then_the_whole_explanation_comes(chat: Chat) -> None:
    message = chat.ask("/signal")
    found = re.search(r"· ([0-9a-f]{16})$", message["shown"])
    assert found is not None
    before = len(chat.answers(OPERATOR))
    chat.press(message, "Why")
    told = chat.api.until(lambda: chat.answers(OPERATOR)[before:], 20, "explanation")
    assert found.group(1) in "".join(m["shown"] for m in told)


def test_numbers_when_the_bot_tells_them_then_they_are_those_of_the_api(chat: Chat) -> None:
    shown = chat.ask("/trades 1")["shown"]
    with chat.system.client() as client:
        trades = client.get("/v1/trades?limit=20").json()["items"]
    assert any(f"{float(t['pnl']):+,.2f}" in shown for t in trades)
    told = SqlSnapshots(chat.engine, "demo-7").latest("view", "desk")
    assert told is not None


# What changes something


def confirm(chat: Chat, text: str, label: str, words: str) -> str:
    question = chat.ask(text)
    assert "❓" in question["shown"]
    chat.press(question, label)
    return chat.edited(question, words)


def test_pause_when_confirmed_then_entries_are_refused_until_start(chat: Chat) -> None:
    confirm(chat, "/pause lunch", "Pause", "REDUCING")
    assert chat.mode() == RiskMode.REDUCING
    change = Reader(chat.engine, "demo-7").latest_mode("paper")
    assert change is not None
    assert (change[1].why, "telegram Ada" in change[1].by) == ("lunch", True)
    assert (
        "Risk mode REDUCING"
        in chat.api.until(
            lambda: [t for t in chat.api.texts(TOLD) if "Risk mode REDUCING" in t], 20, "event"
        )[-1]
    )
    confirm(chat, "/start", "Allow entries", "ACTIVE")
    assert chat.mode() == RiskMode.ACTIVE
    (row,) = [r for r in chat.audited("telegram pause") if r.body["text"] == "lunch"]
    assert row.actor.endswith("(42)")
    assert "REDUCING" in row.body["outcome"]


def test_stop_when_it_closes_all_then_nothing_is_open_until_start(chat: Chat) -> None:
    chat.system.until(60, lambda: _positions(chat.system), "open position")
    confirm(chat, "/stop", "Close all", "closed at the market")
    chat.system.until(30, lambda: not _positions(chat.system), "flat account")
    assert chat.mode() == RiskMode.REDUCING
    confirm(chat, "/start", "Allow entries", "ACTIVE")


def test_forceexit_when_confirmed_then_the_position_is_closed_and_the_journal_has_the_words(
    chat: Chat,
) -> None:
    for _ in range(8):  # the strategy may be closing it by itself at this moment
        chat.system.until(60, lambda: _positions(chat.system), "open position")
        question = chat.ask(f"/forceexit BTC/USDT {WHY}")
        if "❓" not in question["shown"]:
            continue
        chat.press(question, "Close it")
        told = chat.changed(question)
        if "closed at the market" in told:
            break
        assert "on its way already" in told or "needs an open position" in told
    else:
        raise AssertionError("it was never closed by hand")
    with chat.system.client() as client:
        chat.system.until(
            30,
            lambda: any(
                WHY in str(one) and "Ada" in str(one)
                for one in client.get("/v1/journal").json()["items"]
            ),
            "reflection",
        )


def test_kill_when_frozen_and_armed_then_both_take_a_confirmation(chat: Chat) -> None:
    confirm(chat, "/kill storm", "freeze", "KILLED")
    assert chat.mode() == RiskMode.KILLED
    assert "/arm allows trading again" in chat.ask("/start")["shown"]
    confirm(chat, "/arm over", "Arm", "ACTIVE")
    assert chat.mode() == RiskMode.ACTIVE
    assert [r.body["choice"] for r in chat.audited("telegram kill")] == ["freeze"]


def test_reload_when_a_file_has_changed_then_messages_follow_it_at_once(chat: Chat) -> None:
    assert "nothing has changed" in confirm(chat, "/reload_config", "Reload", "nothing has changed")


def test_confirmation_when_it_comes_too_late_then_nothing_is_done(chat: Chat) -> None:
    question = chat.ask("/kill")
    time.sleep(15.5)
    chat.press(question, "close all")
    chat.edited(question, "must come within 15 s")
    assert chat.mode() == RiskMode.ACTIVE


def test_confirmation_when_pressed_twice_then_it_is_done_once(chat: Chat) -> None:
    question = chat.ask("/pause twice")
    chat.press(question, "Pause")
    chat.edited(question, "REDUCING")
    chat.api.press(
        next(b["callback_data"] for row in question["reply_markup"]["inline_keyboard"] for b in row
             if "Pause" in b["text"]), question,
    )  # fmt: skip
    chat.edited(question, "used or forgotten")
    assert len([r for r in chat.audited("telegram pause") if r.body["text"] == "twice"]) == 1
    confirm(chat, "/start", "Allow entries", "ACTIVE")


def test_fills_when_they_happen_then_each_is_told_once_and_silently(chat: Chat) -> None:
    fills = Reader(chat.engine, "demo-7").counts()["fills"]
    chat.api.until(lambda: len(_filled(chat)) >= fills, 30, "all fills")
    assert all(m["silent"] for m in _filled(chat))


def _filled(chat: Chat) -> list[dict[str, Any]]:
    return [m for m in chat.api.messages if _first(m["shown"]).startswith("Filled")]


def test_bot_when_the_system_is_stopped_then_it_says_goodbye(chat: Chat, tmp_path: Path) -> None:
    chat.system.stop(seconds=60)
    assert any("has stopped" in text for text in chat.api.texts(TOLD)[-3:])
