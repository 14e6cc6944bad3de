"""Invented books: sorted, tight, the same when asked again, and different by a few levels only."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.venue.books import Shape, changes, side
from sim.venue.market import Markets
from sim.venue.tape import STEP_MS
from tests.venue_server import markets

SHAPE = Shape(tick=0.1, step=0.001, gap=20, half=5.0, worth=40_000.0, key=99)


@pytest.fixture(scope="module")
def made() -> Markets:
    return markets()


@given(
    st.floats(1.0, 200_000.0), st.integers(0, 10**9), st.integers(1, 50), st.sampled_from([-1, 1])
)
def test_levels_go_away_from_the_price_and_lie_on_tick_and_step(
    price: float, update: int, n: int, sign: int
) -> None:
    levels = side(SHAPE, price, update, n, sign)
    prices, sizes = np.array(levels).reshape(-1, 2).T
    assert (np.diff(prices) * sign > 0.0).all()
    assert ((prices - price) * sign >= 0.0).all()
    np.testing.assert_allclose(prices / 0.1, np.round(prices / 0.1), atol=1e-6)
    np.testing.assert_allclose(sizes / 0.001, np.round(sizes / 0.001), atol=1e-6)
    assert (sizes >= 0.001).all()
    assert len(levels) == n or sign < 0  # below a low price there is not room for all
    assert side(SHAPE, price, update, n, sign) == levels


def carries_an_order(tick: int, key: int, gap: int) -> bool:
    """SplitMix64 in whole numbers, for comparison."""
    mask = (1 << 64) - 1
    z = (tick + key * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) % gap == 0


@given(st.floats(0.01, 1_200.0), st.integers(1, 300), st.sampled_from([-1, 1]))
def test_every_price_with_an_order_is_a_level(price: float, n: int, sign: int) -> None:
    prices = [level[0] for level in side(SHAPE, price, 0, n, sign)]
    best = math.floor(price / 0.1 - 5.0) if sign < 0 else math.ceil(price / 0.1 + 5.0)
    last = round(prices[-1] / 0.1) if len(prices) == n else 1
    own = [t for t in range(best, last + sign, sign) if t > 0 and carries_an_order(t, 99, 20)]
    assert prices == [round(tick * 0.1, 10) for tick in own]


@given(
    st.floats(1.0, 200_000.0), st.floats(-0.02, 0.02), st.integers(0, 10**9), st.integers(0, 60),
    st.integers(1, 1_000), st.sampled_from([-1, 1]),
)  # fmt: skip
def test_changes_turn_one_side_into_the_other_and_tell_nothing_else(
    price: float, moved: float, update: int, later: int, n: int, sign: int
) -> None:
    was, now = (price, update), (price * (1.0 + moved), update + later)
    old, new = dict(side(SHAPE, *was, n, sign)), dict(side(SHAPE, *now, n, sign))
    told = changes(SHAPE, was, now, n, sign)
    gone = [(p, 0.0) for p in old if p not in new]
    assert told == gone + [(p, q) for p, q in new.items() if old.get(p) != q]


def test_a_longer_book_begins_as_a_shorter_one() -> None:
    assert side(SHAPE, 95_000.0, 7, 500, 1)[:20] == side(SHAPE, 95_000.0, 7, 20, 1)


def test_from_moment_to_moment_most_levels_stay(made: Markets) -> None:
    listing, now, changed = made.listing("perp", "BTCUSDT"), made.clock.now(), []
    for k in range(60):
        one, other = (dict(made.book(listing, 100, now - i * STEP_MS).bids) for i in (k, k + 1))
        changed.append(sum(one.get(price) != other.get(price) for price in {*one, *other}))
    assert 1 < np.mean(changed) < 25
    spreads = [made.book(listing, 5, now - k * STEP_MS).spread_bps for k in range(60)]
    assert 0.9 < np.median(spreads) < 2.5
    assert made.book(listing, 5).liquidity() > 100_000
