"""Invented books: sorted, tight, the same when asked again, and different by a few levels only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.venue.books import Shape, side
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
