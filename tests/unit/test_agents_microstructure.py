"""Every measure against numbers made by hand, and the symmetries that no signal may break."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.contract import sleep_reason
from agents.microstructure import Microstructure, MicrostructureConfig, Weights
from domain.market import BookSnapshot, OrderFlow, Trade
from tests.agents_world import market, states_of

AGENT = Microstructure()
BARE = replace(states_of(AGENT, market(3))[2], book=None, trades=(), flow=None)
AT = BARE.as_of
TICK, MID = 0.5, 50_000.0
NONE = Weights(0.0, 0.0, 0.0, 0.0, 0.0)


def book(bid_qty, ask_qty, at=AT, mid=MID, tick=TICK):
    """Levels a tick apart, best first, around ``mid``."""
    bids = tuple((mid - tick * (k + 1), qty) for k, qty in enumerate(bid_qty))
    asks = tuple((mid + tick * (k + 1), qty) for k, qty in enumerate(ask_qty))
    return BookSnapshot(BARE.symbol, at, bids, asks)


def said(agent=AGENT, **seen):
    return agent.opine([replace(BARE, **seen)])[0]


DEEP = book([4.0, 1.0, 1.0, 1.0, 1.0, 40.0], [1.0, 2.0, 3.0, 4.0, 6.0, 8.0])
UNUSABLE = {
    "none": None,
    "no bids": replace(DEEP, bids=()),
    "no asks": replace(DEEP, asks=()),
    "crossed": replace(DEEP, bids=((MID + 3.0, 1.0),)),
    "locked": replace(DEEP, bids=((MID + TICK, 1.0),)),
    "out of order": replace(DEEP, asks=DEEP.asks[::-1]),
    "a level twice": replace(DEEP, bids=DEEP.bids[:1] * 2),
    "no quantity": book([0.0], [1.0]),
    "a NaN": book([1.0, math.nan], [1.0]),
    "an infinity": book([1.0], [math.inf]),
    "a price of 0": replace(DEEP, bids=((0.0, 1.0),)),
    "of the future": replace(DEEP, at=AT + 1),
    "a minute old": replace(DEEP, at=AT - 60_001),
}


@pytest.mark.parametrize("seen", UNUSABLE.values(), ids=UNUSABLE)
def test_microstructure_when_there_is_no_usable_book_then_it_sleeps(seen):
    opinion = said(book=seen)
    assert sleep_reason(opinion) == "no_book"
    assert (opinion.p_up, opinion.quantiles) == (None, None)


def test_microstructure_when_a_book_is_read_then_every_measure_is_in_the_evidence():
    trades = (Trade(AT - 5, 100.0, 3.0, True), Trade(AT, 100.0, 5.0, False))
    opinion = said(book=DEEP, trades=trades, flow=OrderFlow(AT - 10_000, AT, -2.0, 8.0, 4))
    liquidity = sum(p * q for p, q in (*DEEP.bids[:5], *DEEP.asks[:5]))
    assert opinion.evidence == pytest.approx(
        {
            "spread_bps": 1.0 / MID * 1e4,
            "imbalance": (8 - 16) / (8 + 16),
            "microprice": (4 - 1) / (4 + 1),
            "microprice_bps": ((49_999.5 * 1 + 50_000.5 * 4) / 5 / MID - 1) * 1e4,
            "pressure": 48 / 24,
            "liquidity": liquidity,
            "ofi": -2.0,
            "flow": -0.25,
            "trades": 0.25,
        }
    )
    signals = -8 / 24 * 0.03 + 0.6 * 0.03 + 0.02 - 0.25 * 0.03 + 0.25 * 0.01
    assert opinion.p_up == pytest.approx(1 / (1 + math.exp(-signals)))
    assert opinion.rationale == (
        f"The book leans to buyers: imbalance -0.33, spread 0.2 bp, {liquidity:,.0f} in 5 levels."
    )
    assert (opinion.quantiles, opinion.risk_down, opinion.expected_return) == (None, None, None)


def test_microstructure_when_trades_and_flow_were_not_watched_then_they_are_not_measured():
    opinion = said(book=book([1.0], [1.0]))
    assert opinion.evidence["ofi"] is opinion.evidence["flow"] is opinion.evidence["trades"] is None
    assert opinion.p_up == 0.5
    assert "neither side" in opinion.rationale


def test_microstructure_when_flow_or_trades_are_old_or_of_the_future_then_they_do_not_count():
    alone = said(book=DEEP)
    for at in (AT + 1, AT - 60_001):
        assert said(book=DEEP, trades=(Trade(at, 1.0, 1.0, False),)) == alone
        assert said(book=DEEP, flow=OrderFlow(at - 10_000, at, 1.0, 1.0, 1)) == alone


def test_microstructure_when_the_book_stood_still_then_its_flow_is_nought():
    assert said(book=DEEP, flow=OrderFlow(AT - 10_000, AT, 0.0, 0.0, 0)).evidence["flow"] == 0.0


@pytest.mark.parametrize(
    ("bid", "ask", "side"), [(1.2, 1.0, 0), (1.21, 1.0, 1), (1.0, 1.2, 0), (1.0, 1.21, -1)]
)
def test_pressure_when_beyond_one_point_two_on_either_side_then_it_is_a_signal(bid, ask, side):
    agent = Microstructure(MicrostructureConfig(weights=replace(NONE, pressure=1.0)))
    p = said(agent, book=book([10 * bid], [10 * ask])).p_up
    assert math.log(p / (1 - p)) == pytest.approx(side)


def test_microstructure_when_the_book_is_thin_then_its_voice_shrinks_in_proportion():
    def logit(quantity):
        p = said(book=book([1.5 * quantity], [0.5 * quantity])).p_up
        return math.log(p / (1 - p))

    full = 50_000 / (2 * MID)  # quantity whose two sides are worth 50 000
    assert logit(full / 4) == pytest.approx(logit(full) / 4, rel=1e-4)
    assert logit(2 * full) == pytest.approx(logit(full), rel=1e-4)


quantities = st.lists(st.floats(1.0, 1e4), min_size=1, max_size=20)
prints = st.lists(st.tuples(st.floats(0.01, 1e3), st.booleans()), max_size=12)
flows = st.none() | st.floats(-1.0, 1.0)


def scene(bids, asks, sold, flow, price=1.0, size=1.0):
    """States as they are, or with prices and quantities in other units."""
    return {
        "book": book([size * q for q in bids], [size * q for q in asks], AT, price * MID, price),
        "trades": tuple(Trade(AT - 1, price * MID, size * q, side) for q, side in sold),
        "flow": None if flow is None else OrderFlow(AT - 9, AT, size * flow, size, 3),
    }


@given(quantities, quantities, prints, flows)
def test_microstructure_when_the_sides_are_swapped_then_p_is_mirrored(bids, asks, sold, flow):
    mirrored = [(qty, not side) for qty, side in sold]
    left = said(**scene(bids, asks, sold, flow))
    right = said(**scene(asks, bids, mirrored, None if flow is None else -flow))
    assert left.p_up + right.p_up == pytest.approx(1.0, abs=1e-12)
    assert abs(left.p_up - 0.5) <= 0.03


@given(quantities, quantities, prints, flows, st.floats(0.01, 100), st.floats(1.0, 100))
def test_microstructure_when_units_change_then_p_does_not(bids, asks, sold, flow, price, size):
    one = said(**scene(bids, asks, sold, flow))
    # quantities grow as prices fall, so that the book stays deep enough for a full voice
    two = said(**scene(bids, asks, sold, flow, price, size * 100))
    assert two.p_up == pytest.approx(one.p_up, abs=1e-12)


@given(quantities, quantities, st.integers(0, 19), st.floats(1.01, 10))
def test_microstructure_when_a_bid_grows_then_p_does_not_fall(bids, asks, level, factor):
    grown = [qty * factor if k == level else qty for k, qty in enumerate(bids)]
    assert said(book=book(grown, asks)).p_up >= said(book=book(bids, asks)).p_up - 1e-15


def test_microstructure_when_settings_differ_then_so_does_its_version():
    other = MicrostructureConfig(weights=replace(Weights(), flow=0.0))
    assert Microstructure(other).version != Microstructure().version == AGENT.version
