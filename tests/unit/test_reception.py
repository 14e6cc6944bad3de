"""Messages counted by their numbers: what was lost is lost, whatever else is repeated or late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.reception import Reception

TRADES, BOOK = ("BTC/USDT", "trades"), ("BTC/USDT", "book updates")
WINDOW, NEAR, AT = 30_000, 2_000, 1_700_000_000_000


def reception(*must: tuple[str, str]) -> Reception:
    made = Reception(WINDOW, NEAR, frozenset(must))
    made.begin(AT)
    return made


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(1, 5))
def test_share_is_what_came_of_the_numbers_between_the_first_and_the_last(
    came: list[bool], times: int
) -> None:
    made = reception()
    numbers = [n for n, one in enumerate(came) if one]
    for n in numbers:
        for _ in range(times):  # told again changes nothing
            made.hear(TRADES, n, n, AT, AT)
    heard = made.heard(AT + 100)
    if not numbers:
        assert (heard.share, heard.worst) == (0.0, None)
        return
    assert heard.share == pytest.approx(len(numbers) / (numbers[-1] - numbers[0] + 1))
    assert heard.worst == TRADES


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=50))
def test_ranges_count_by_the_numbers_in_them(steps: list[tuple[int, int]]) -> None:
    made, last, told = reception(), 99, 0
    for lost, length in steps:
        made.hear(BOOK, last + lost + 1, last + lost + length, AT, AT)
        last, told = last + lost + length, told + length
    before = 99 + steps[0][0]  # what was lost before the first is nobody's loss
    assert made.heard(AT).share == pytest.approx(told / (last - before))


def test_ranges_that_overlap_count_once() -> None:
    made = reception()
    made.hear(BOOK, 1, 10, AT, AT)
    made.hear(BOOK, 5, 12, AT, AT)
    made.hear(BOOK, 23, 32, AT, AT)
    assert made.heard(AT).share == pytest.approx(22 / 32)


def test_the_worst_stream_is_told() -> None:
    made = reception()
    for n in range(100):
        made.hear(TRADES, n, n, AT, AT)
        if n % 2 == 0:
            made.hear(BOOK, n, n, AT, AT)
    heard = made.heard(AT)
    assert heard.worst == BOOK
    assert heard.share == pytest.approx(50 / 99)


def test_a_stream_that_must_speak_and_does_not_has_no_share() -> None:
    made = reception(BOOK)
    made.hear(TRADES, 1, 1, AT, AT)
    assert (made.heard(AT).share, made.heard(AT).worst) == (0.0, BOOK)
    made.hear(BOOK, 1, 1, AT, AT)
    assert made.heard(AT).share == 1.0
    made.hear(TRADES, 2, 2, AT + WINDOW + 2_000, AT + WINDOW + 2_000)
    assert made.heard(AT + WINDOW + 2_000).worst == BOOK  # silent for a whole window


def test_a_loss_is_forgotten_with_the_window_it_fell_into() -> None:
    made = reception()
    made.hear(TRADES, 1, 1, AT, AT)
    made.hear(TRADES, 11, 11, AT, AT)
    assert made.heard(AT).share == pytest.approx(2 / 11)
    for n in range(12, 60):
        now = AT + (n - 11) * 1_000
        made.hear(TRADES, n, n, now, now)
    assert made.heard(AT + 48_000).share == 1.0


def test_an_exchange_that_counts_anew_has_lost_nothing() -> None:
    made = reception()
    made.hear(TRADES, 5_000_000, 5_000_000, AT, AT)
    for n in range(1, 50):
        made.hear(TRADES, n, n, AT, AT)
    assert made.heard(AT).share == 1.0


def test_it_listens_from_when_it_was_told_to_and_no_longer_than_the_window() -> None:
    made = Reception(WINDOW, NEAR)
    assert made.heard(AT).heard_ms == 0
    made.begin(AT)
    made.begin(AT + 5_000)  # once
    assert made.heard(AT + 12_000).heard_ms == 12_000
    assert made.heard(AT + 90_000).heard_ms == WINDOW


@given(st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=100))
def test_stamps_are_near_or_not(lags: list[int]) -> None:
    made = reception()
    for n, lag in enumerate(lags):
        made.hear(TRADES, n, n, AT - lag, AT)
    heard = made.heard(AT)
    assert heard.stamps == len(lags)
    assert heard.near == pytest.approx(sum(abs(lag) <= NEAR for lag in lags) / len(lags))
    assert heard.farthest_ms == max(map(abs, lags))


@given(st.lists(st.integers(0, 400), min_size=2, max_size=300))
def test_memory_is_bounded_however_long_it_runs(steps: list[int]) -> None:
    made, now = Reception(1_000, NEAR), AT
    for n, step in enumerate(steps):
        now += step
        made.hear(TRADES, n, n, now, now)
        assert len(made._parts) <= 31
    assert 0.0 <= made.heard(now).share <= 1.0
