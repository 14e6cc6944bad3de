"""Who may command, how long a confirmation holds, how commands are read."""

from __future__ import annotations

import pytest

from domain.errors import UsageError
from serving.bot.access import Access
from serving.bot.asked import Asked, parse
from serving.bot.commands import COMMANDS, REFRESHED
from serving.bot.confirming import Confirmations


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("chat", "user", "role"),
    [
        (42, 42, "operator"),  # the chat that is written to, a person
        (7, 7, None),
        (-100, 7, "viewer"),
        (-100, 42, "operator"),  # a person's own role goes before the group's
        (-100, 8, "viewer"),
        (9, 9, "viewer"),
        (-999, 42, None),  # a known person in an unknown group
    ],
)
def test_access_when_asked_then_the_chat_must_be_listed_and_the_persons_role_goes_first(
    chat: int, user: int, role: str | None
) -> None:
    access = Access.of("42", ("-100:viewer", "9:viewer"))
    assert access.role(chat, user) == role


def test_access_when_the_main_chat_is_a_group_then_everybody_there_is_a_viewer() -> None:
    assert Access.of("-100", ()).role(-100, 7) == "viewer"
    assert Access.of("-100", ("7:operator",)).role(-100, 7) == "operator"
    assert Access.of("-100", ("-100:operator",)).role(-100, 8) == "operator"
    assert Access.of("@channel", ()).roles == {}


def test_confirmation_when_answered_then_it_is_good_once_and_only_for_who_asked() -> None:
    confirmations = Confirmations(60.0, Time())
    code = confirmations.ask("kill", "why", 42, 42, ("close", "freeze"))
    with pytest.raises(UsageError, match="who asked"):
        confirmations.take(code, "close", 42, 7)
    assert confirmations.take(code, "close", 42, 42).action == "kill"
    with pytest.raises(UsageError, match="used or forgotten"):
        confirmations.take(code, "close", 42, 42)


def test_confirmation_when_too_late_then_it_is_refused_for_good() -> None:
    time = Time()
    confirmations = Confirmations(60.0, time)
    code = confirmations.ask("kill", "", 42, 42, ("close",))
    time.now += 60.1
    for _ in range(2):
        with pytest.raises(UsageError, match="confirmation"):
            confirmations.take(code, "close", 42, 42)


def test_confirmation_when_the_answer_is_none_of_the_choices_then_it_is_refused() -> None:
    confirmations = Confirmations(60.0, Time())
    code = confirmations.ask("pause", "", 42, 42, ("yes",))
    with pytest.raises(UsageError, match="must be one of yes"):
        confirmations.take(code, "close", 42, 42)


def test_confirmations_when_very_many_are_open_then_the_oldest_are_forgotten() -> None:
    confirmations = Confirmations(60.0, Time())
    codes = [confirmations.ask("kill", "", 42, 42, ("yes",)) for _ in range(150)]
    assert len(set(codes)) == 150
    with pytest.raises(UsageError, match="forgotten"):
        confirmations.take(codes[0], "yes", 42, 42)
    assert confirmations.take(codes[-1], "yes", 42, 42)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("/status", ("status", "")),
        ("/why 5f0c ", ("why", "5f0c")),
        ("/WHY@Conclave_Bot BTC/USDT", ("why", "BTC/USDT")),
        ("/status@other_bot", None),
        ("hello", None),
        ("/", None),
        ("/kill\nbad news", ("kill", "bad news")),
    ],
)
def test_parse_when_somebody_writes_then_only_our_commands_are_read(
    text: str, read: tuple[str, str] | None
) -> None:
    assert parse(text, "conclave_bot") == read


def test_asked_when_a_name_is_hostile_then_the_ledger_gets_one_short_line() -> None:
    asked = Asked("kill", "", 42, 7, "Ada\n<b>\x00" + "x" * 200, "operator")
    assert "\n" not in asked.by
    assert len(asked.by) < 80
    assert asked.by.endswith("(7)")


def test_commands_when_listed_then_all_that_users_know_are_there() -> None:
    known = (
        "start stop pause status profit daily weekly monthly balance trades performance forceexit "
        "reload_config show_config logs health version help signal why agents consensus "
        "calibration risk paper kill arm"
    )
    assert set(known.split()) <= set(COMMANDS)
    changing = {name for name, one in COMMANDS.items() if one.act is not None} - {"start"}
    assert changing == {"stop", "pause", "forceexit", "reload_config", "kill", "arm"}
    assert all(COMMANDS[name].role == "operator" for name in changing)
    assert set(COMMANDS) - changing >= REFRESHED
