"""How fast messages go, on a clock that only sleeping moves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from notifications.pacing import Pace, Rates
from notifications.progress import Patience


@dataclass
class Time:
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def times(chats: list[str]) -> list[float]:
    clock = Time()
    pace = Pace(Rates(), clock.monotonic, clock.sleep)
    seen = []

    async def play() -> None:
        for chat in chats:
            await pace.turn(chat)
            seen.append(clock.now - 100.0)

    asyncio.run(play())
    return seen


def test_pace_when_one_person_is_written_to_then_a_second_lies_between() -> None:
    assert times(["42"] * 4) == pytest.approx([0, 1, 2, 3])


@pytest.mark.parametrize("chat", ["-1001", "@channel"])
def test_pace_when_it_is_a_group_then_there_are_20_a_minute(chat: str) -> None:
    assert times([chat] * 3) == pytest.approx([0, 3, 6])


def test_pace_when_there_are_many_chats_then_30_a_second_go_out() -> None:
    seen = times([str(n) for n in range(61)])
    assert seen[30] == pytest.approx(1.0)
    assert seen[60] == pytest.approx(2.0)


def test_pace_when_telegram_asks_for_a_pause_then_only_that_chat_waits() -> None:
    clock = Time()
    pace = Pace(Rates(), clock.monotonic, clock.sleep)

    async def play() -> list[float]:
        pace.hold("42", 30.0)
        await pace.turn("43")
        other = clock.now
        await pace.turn("42")
        held = clock.now
        await pace.turn("42")
        return [other - 100, held - 100, clock.now - 100]

    assert asyncio.run(play()) == pytest.approx([0, 30, 31])


def test_patience_when_it_fails_on_then_pauses_double_up_to_the_most() -> None:
    patience = Patience(30.0)
    assert [patience.next() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    patience.failures = 0
    assert patience.next() == 1
