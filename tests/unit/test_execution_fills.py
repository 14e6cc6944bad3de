"""What orders pay on bars."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.trading import Side
from execution.fills import CostModel, at_market, limit_fill, market_fill, stop_fill
from execution.money import to_step, to_tick
from tests.execution_scenes import PERP, bar

COSTS = CostModel.of(PERP)
ONE = Decimal("0.01")


def test_market_fill_when_buying_then_it_pays_half_spread_and_slippage_above_the_open():
    fill = market_fill(Side.BUY, ONE, bar(1, (50_000.0, 50_100.0, 49_900.0, 50_050.0)), COSTS, PERP)
    assert fill.price == Decimal("50007.5")  # 1.5 bps of 50 000
    assert fill.spread == Decimal("0.025")  # ½ bp of 500
    assert fill.slippage == Decimal("0.05")  # 1 bp of 500
    assert fill.fee == Decimal("0.2500375")  # 5 bps of 500.075
    assert not fill.maker


def test_market_fill_when_selling_then_it_is_rounded_down_to_the_tick():
    fill = market_fill(
        Side.SELL, ONE, bar(1, (50_000.1, 50_100.0, 49_900.0, 50_050.0)), COSTS, PERP
    )
    assert fill.price == Decimal("49992.5")  # 49 992.599985 floored
    assert fill.spread + fill.slippage == (fill.reference - fill.price) * ONE


@pytest.mark.parametrize(
    ("prices", "reference"),
    [
        ((49_000.0, 49_500.0, 48_900.0, 49_200.0), "49000"),  # gapped through: the open
        ((50_000.0, 50_100.0, 49_400.0, 49_800.0), "49500"),  # went through: the trigger
        ((50_000.0, 50_100.0, 49_500.0, 49_800.0), "49500"),  # touched to the tick
        ((50_000.0, 50_100.0, 49_500.1, 49_800.0), None),
    ],
)
def test_stop_fill_when_a_long_is_stopped_then_the_reference_is_open_or_trigger(prices, reference):
    fill = stop_fill(Side.SELL, ONE, Decimal(49_500), bar(1, prices), COSTS, PERP)
    assert (None if fill is None else fill.reference) == (reference and Decimal(reference))
    if fill is not None:
        assert fill.price < fill.reference
        assert not fill.maker


def test_stop_fill_when_a_short_is_stopped_then_it_buys_above_the_trigger():
    fill = stop_fill(
        Side.BUY,
        ONE,
        Decimal(50_500),
        bar(1, (50_000.0, 50_600.0, 49_900.0, 50_550.0)),
        COSTS,
        PERP,
    )
    assert fill is not None
    assert fill.reference == 50_500
    assert fill.price > 50_500


@pytest.mark.parametrize(("high", "fills"), [(51_000.0, False), (51_000.1, True)])
def test_limit_fill_when_the_market_only_touches_then_it_does_not_fill(high, fills):
    now = bar(1, (50_000.0, high, 49_900.0, 50_500.0))
    fill = limit_fill(Side.SELL, ONE, Decimal(51_000), now, COSTS, PERP, rested=True)
    assert (fill is not None) is fills
    if fill is not None:
        assert (fill.price, fill.maker) == (Decimal(51_000), True)
        assert fill.fee == Decimal("0.102")  # 2 bps of 510
        assert fill.spread == fill.slippage == 0


def test_limit_fill_when_it_meets_the_market_at_once_then_it_pays_the_taker_fee():
    now = bar(1, (51_500.0, 51_600.0, 51_400.0, 51_500.0))
    fill = limit_fill(Side.SELL, ONE, Decimal(51_000), now, COSTS, PERP, rested=False)
    assert fill is not None
    assert not fill.maker
    assert 51_000 < fill.price < 51_500
    capped = limit_fill(Side.SELL, ONE, Decimal(51_500), now, COSTS, PERP, rested=False)
    assert capped is not None
    assert (capped.price, capped.maker) == (Decimal(51_500), False)


@given(
    side=st.sampled_from(list(Side)),
    units=st.integers(1, 10**6),
    ticks=st.integers(1_000, 10**7),
    spread=st.floats(0, 20),
    slippage=st.floats(0, 20),
)
def test_at_market_when_anything_then_every_part_of_the_price_is_a_cost_line(
    side, units, ticks, spread, slippage
):
    qty, reference = units * PERP.step, ticks * PERP.tick
    fill = at_market(side, qty, reference, 0, CostModel(5.0, 2.0, spread, slippage), PERP.tick)
    assert fill.spread + fill.slippage == abs(fill.price - reference) * qty
    assert fill.spread >= 0
    assert fill.slippage >= 0
    assert (fill.price - reference) * side.sign >= 0
    assert fill.price % PERP.tick == 0


def test_round_trip_when_on_the_perpetual_then_it_is_thirteen_basis_points():
    assert COSTS.round_trip().round_trip == pytest.approx(13e-4)


@given(st.decimals(0, 10**6, places=8), st.sampled_from(["0.1", "0.001", "5"]))
def test_rounding_when_on_a_grid_then_never_further_than_one_step(value, text):
    grid = Decimal(text)
    assert to_tick(value, grid, -1) <= value <= to_tick(value, grid, 1)
    assert 0 <= value - to_step(value, grid) < grid
    assert to_step(value, grid) % grid == 0
