"""Waits double, within their limits, however long something is away."""

from __future__ import annotations

import random

import pytest

from data.sources.waiting import backoff


@pytest.mark.parametrize(
    ("failures", "least"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 48), (100_000, 48)]
)
def test_a_wait_doubles_up_to_the_longest_with_a_quarter_of_jitter(
    failures: int, least: float
) -> None:
    rng = random.Random(1)
    waits = [backoff(failures, 1.0, 60.0, rng) for _ in range(50)]
    assert all(least <= wait <= 1.25 * least <= 60.0 for wait in waits)
    assert len(set(waits)) == 50
