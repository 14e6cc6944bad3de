"""When a venue that does not answer is left alone, and for how long."""

from __future__ import annotations

import pytest

from domain.errors import AmbiguousOutcome
from execution.adapters.breaker import Breaker, NotSent

SLACK = 1.25  # of jitter


def test_breaker_when_calls_are_in_vain_then_it_opens_after_some_and_lets_one_through() -> None:
    breaker = Breaker(calls=3, first=4.0, longest=10.0)
    for now in (0.0, 1.0):
        breaker.in_vain(now, "timed out")
        breaker.check("venue", now)
    breaker.in_vain(2.0, "timed out")
    assert (breaker.health.open, breaker.health.opened, breaker.health.in_vain) == (True, 1, 3)
    with pytest.raises(NotSent, match=r"3 times and is left alone for \d s .*timed out") as caught:
        breaker.check("venue", 3.0)
    assert not isinstance(caught.value, AmbiguousOutcome)
    breaker.check("venue", 2.0 + 4.0 * SLACK)  # one, to see
    breaker.answered()
    assert not breaker.health.open
    breaker.check("venue", 2.0)


def test_breaker_when_the_call_to_see_is_in_vain_too_then_it_waits_twice_as_long_to_a_bound() -> (
    None
):
    breaker, now, waits = Breaker(calls=2, first=4.0, longest=10.0), 0.0, list[float]()
    for _ in range(12):
        breaker.check("venue", now)
        breaker.in_vain(now, "no route")
        waits.append(breaker.left(now))
        now += waits[-1]
    assert waits[0] == 0.0
    for wait, least in zip(waits[1:], [4.0, 8.0] + [8.0] * 9, strict=True):
        assert least <= wait <= least * SLACK <= 10.0
    assert breaker.health.opened == 1  # it was never closed in between


def test_breaker_when_an_answer_comes_in_between_then_it_counts_from_the_start() -> None:
    breaker = Breaker(calls=2)
    for now in range(10):
        breaker.in_vain(float(now), "lost")
        breaker.check("venue", float(now))
        breaker.answered()
    assert breaker.health.opened == 0


def test_breaker_when_a_venue_says_how_long_then_it_rests_so_long() -> None:
    breaker = Breaker()
    breaker.in_vain(99.0, "timed out")
    breaker.rest(100.0, 30.0, "banned")
    assert breaker.left(110.0) == 20.0
    with pytest.raises(NotSent, match=r"asked to be left alone for 20 s .*banned"):
        breaker.check("venue", 110.0)
    assert breaker.left(131.0) == 0.0
