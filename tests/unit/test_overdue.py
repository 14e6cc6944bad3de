"""Closes that nobody told of: which is asked for, and how often."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from data.sources.line import Patience
from data.sources.overdue import Overdue

BTC, ETH = ("BTC/USDT", "5m"), ("ETH/USDT", "5m")
BAR, GRACE = 300_000, 10_000


@dataclass
class At:
    """A clock that stands, ms."""

    at: int = BAR

    def now(self) -> int:
        return self.at


def overdue(clock: At, speed: float = 1.0) -> Overdue:
    return Overdue(clock.now, speed, GRACE, Patience())


def test_close_when_half_of_its_grace_is_over_then_it_is_asked_for() -> None:
    clock = At(2 * BAR + GRACE // 2 - 1)  # the bar that follows on the one of 0 has closed
    asking = overdue(clock)
    assert asking.first({BTC: 0}) is None
    clock.at += 1
    assert asking.first({BTC: 0}) == BTC
    assert asking.first({BTC: BAR}) is None  # it was told meanwhile


def test_close_when_several_are_overdue_then_the_oldest_comes_first() -> None:
    asking = overdue(At(4 * BAR))
    assert asking.first({BTC: BAR, ETH: 0}) == ETH
    asking.asked(ETH, 0)
    assert asking.first({BTC: BAR, ETH: 0}) == BTC


def test_close_when_it_was_asked_for_before_it_was_final_then_it_is_asked_for_a_second_later() -> (
    None
):
    clock = At(2 * BAR + 300)  # a line came back 300 ms after the close
    asking = overdue(clock)
    asking.asked(BTC, 0)
    assert asking.first({BTC: 0}) is None
    clock.at += 1_250
    assert asking.first({BTC: 0}) == BTC


def test_close_when_a_line_came_back_within_a_bar_then_nothing_is_asked_for() -> None:
    clock = At(2 * BAR - 1)
    asking = overdue(clock)
    asking.asked(BTC, 0)
    clock.at += 1 + GRACE // 2 - 1
    assert asking.first({BTC: 0}) is None


@pytest.mark.parametrize(("timeframe", "longest"), [("1m", 60.0), ("5m", 300.0), ("1h", 3_600.0)])
def test_close_when_it_never_comes_then_it_is_asked_for_ever_less_often(
    timeframe: str, longest: float
) -> None:
    series, clock = ("BTC/USDT", timeframe), At(100 * 3_600_000)
    asking, times = overdue(clock), list[float]()
    for _ in range(20):
        asking.asked(series, 0)
        asked = clock.at
        while asking.first({series: 0}) is None:
            clock.at += 100
        times.append((clock.at - asked) / 1e3)
    for n, seconds in enumerate(times[:5]):
        assert 2.0**n <= seconds <= 1.25 * 2.0**n + 0.1
    assert all(longest / 1.25 <= seconds <= longest + 0.1 for seconds in times[-5:])


def test_close_when_it_has_come_then_the_next_one_has_all_of_its_grace() -> None:
    clock = At(2 * BAR + GRACE)
    asking = overdue(clock)
    for _ in range(5):
        asking.asked(BTC, 0)
    clock.at = 3 * BAR + GRACE // 2
    assert asking.first({BTC: BAR}) == BTC
    asking.asked(BTC, BAR)
    clock.at += 1_250  # not 16 s and more
    assert asking.first({BTC: BAR}) == BTC


def test_close_when_the_market_runs_fast_then_questions_are_a_second_apart_by_the_wall() -> None:
    clock = At(2 * BAR + 59_999)
    asking = overdue(clock, speed=60.0)
    assert asking.first({BTC: 0}) is None
    clock.at += 1
    assert asking.first({BTC: 0}) == BTC
    asking.asked(BTC, 0)
    clock.at += 59_999
    assert asking.first({BTC: 0}) is None
