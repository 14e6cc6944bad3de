"""Token buckets: what passes, how long the rest waits, and what is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.limits import BURST_SECONDS, MOST_CALLERS, Limiter, RateLimited


class Now:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def passed(limiter: Limiter, who: str = "a") -> bool:
    try:
        limiter.take("read", who)
    except RateLimited:
        return False
    return True


def test_limiter_when_the_bucket_is_empty_then_the_next_waits_as_long_as_it_says() -> None:
    now = Now()
    limiter = Limiter({"read": 0.5, "signal": 1.0, "write": 1.0}, now)
    assert passed(limiter)
    with pytest.raises(RateLimited, match=r"limited to 0.5 a second") as refused:
        limiter.take("read", "a")
    assert refused.value.retry_after == 2
    now.at += 1.9
    assert not passed(limiter)
    now.at += 0.2
    assert passed(limiter)


def test_limiter_when_callers_and_kinds_differ_then_each_has_a_bucket_of_its_own() -> None:
    limiter = Limiter({"read": 1.0, "signal": 1.0, "write": 1.0}, Now())
    for who in ("a", "b"):
        assert [passed(limiter, who) for _ in range(3)] == [True, True, False]
    limiter.take("write", "a")


def test_limiter_when_the_rate_is_zero_then_there_is_no_limit() -> None:
    limiter = Limiter({"read": 0.0, "signal": 1.0, "write": 1.0}, Now())
    assert all(passed(limiter) for _ in range(1000))


@given(st.floats(0.1, 50), st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_limiter_when_asked_at_any_pace_then_never_more_than_the_burst_and_the_rate_pass(
    rate: float, pauses: list[float]
) -> None:
    now = Now()
    limiter = Limiter({"read": rate, "signal": 1.0, "write": 1.0}, now)
    count = 0
    for pause in pauses:
        now.at += pause
        count += passed(limiter)
    allowed = max(1.0, rate * BURST_SECONDS) + rate * (now.at - 100.0)
    assert count <= allowed + 1e-6


def test_limiter_when_very_many_call_then_memory_is_bounded_and_the_latest_is_remembered() -> None:
    limiter = Limiter({"read": 1.0, "signal": 1.0, "write": 1.0}, Now())
    for number in range(MOST_CALLERS + 500):
        limiter.take("read", str(number))
    assert len(limiter._buckets) == MOST_CALLERS
    last = str(MOST_CALLERS + 499)
    assert [passed(limiter, last) for _ in range(2)] == [True, False]
