"""What orders pay on bars."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.instruments import instrument_for
from domain.trading import Side
from execution.fills import (
    CostModel,
    Frictions,
    at_market,
    book_fills,
    limit_fill,
    liquidation_fill,
    market_fill,
    stop_fill,
)
from execution.margin import liquidation_price, maintenance
from execution.money import to_step, to_tick
from tests.execution_scenes import PERP, bar

COSTS = CostModel.of(PERP, Frictions(impact=0.0))
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


@pytest.mark.parametrize(
    ("high", "draw", "fills"),
    [(51_000.0, 0.25, False), (51_000.0, 0.249, True), (50_999.9, 0.0, False), (51_000.1, 1, True)],
)
def test_limit_fill_when_the_market_only_touches_then_its_place_in_the_queue_decides(
    high, draw, fills
):
    now = bar(1, (50_000.0, high, 49_900.0, 50_500.0))
    fill = limit_fill(Side.SELL, ONE, Decimal(51_000), now, COSTS, PERP, rested=True, draw=draw)
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
    costs = replace(COSTS, spread_bps=spread, slippage_bps=slippage)
    fill = at_market(side, qty, reference, 0, costs, PERP.tick)
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
    near = grid / 2_000_000  # of a grid point counts as being on it
    assert to_tick(value, grid, -1) - near <= value <= to_tick(value, grid, 1) + near
    assert 0 <= value - to_step(value, grid) < grid
    assert to_step(value, grid) % grid == 0


WIDE = bar(1, (50_000.0, 50_100.0, 49_900.0, 50_050.0))  # 40 bps from low to high, 1 BTC


def test_market_fill_when_it_is_large_then_impact_grows_with_the_root_of_its_share():
    costs = replace(COSTS, spread_bps=0.0, slippage_bps=0.0, impact=0.5)
    small, large = (
        market_fill(Side.BUY, Decimal(qty), WIDE, costs, PERP) for qty in ("0.01", "0.09")
    )
    assert small is not None
    assert large is not None
    assert small.price == Decimal("50010.0")  # ½ · 40 bps · √.01 = 2 bps
    assert large.price == Decimal("50030.0")  # three times as far
    assert large.slippage == Decimal("2.70")
    assert large.spread == 0


def test_market_fill_when_the_bar_has_little_volume_then_only_a_share_of_it_is_taken():
    part = market_fill(Side.BUY, Decimal("0.2509"), WIDE, COSTS, PERP)
    assert part is not None
    assert part.qty == Decimal("0.1")  # a tenth of one BTC
    thin = replace(WIDE, volume=0.005)
    assert market_fill(Side.BUY, ONE, thin, COSTS, PERP) is None
    assert limit_fill(Side.SELL, ONE, Decimal(50_050), thin, COSTS, PERP, rested=True) is None
    free = replace(COSTS, participation=None)
    whole = market_fill(Side.BUY, ONE, thin, free, PERP)
    assert whole is not None
    assert whole.qty == ONE


def test_book_fills_when_walking_then_each_level_is_a_fill_and_the_mid_the_reference():
    asks = [(50_001.0, 0.004), (50_002.0, 0.0005), (50_004.0, 0.010), (50_010.0, 9.0)]
    fills = list(book_fills(Side.BUY, ONE, asks, 50_000.5, 7, COSTS, PERP))
    assert [(f.price, f.qty) for f in fills] == [(50_001, Decimal("0.004")),
                                                (50_004, Decimal("0.006"))]  # fmt: skip
    assert [f.spread for f in fills] == [Decimal("0.002"), Decimal("0.003")]  # ½ USDT a BTC
    assert [f.slippage for f in fills] == [0, Decimal("0.018")]
    assert all(f.at == 7 and not f.maker for f in fills)
    few = list(book_fills(Side.BUY, Decimal(20), asks, 50_000.5, 7, COSTS, PERP))
    assert sum(f.qty for f in few) == Decimal("9.014")  # what the book has, on the step
    assert not list(book_fills(Side.SELL, ONE, [], 50_000.5, 7, COSTS, PERP))


TIERS = instrument_for("BTC/USDT:USDT").tiers
LEVELS = {
    # side, leverage → price, of 0.1 BTC entered at 100 000 (the venue's formula)
    (1, 5): "80321.29", (1, 10): "90361.45", (1, 20): "95381.53",
    (-1, 5): "119521.91", (-1, 10): "109561.75", (-1, 20): "104581.67",
}  # fmt: skip


@pytest.mark.parametrize(("sign", "leverage"), LEVELS)
def test_liquidation_price_when_isolated_then_it_is_the_venues(sign, leverage):
    price = liquidation_price(
        sign * Decimal("0.1"), Decimal(100_000), Decimal(10_000) / leverage, TIERS
    )
    assert price is not None
    assert f"{price:.2f}" == LEVELS[sign, leverage]


def test_liquidation_price_when_a_long_is_not_levered_then_there_is_none():
    assert liquidation_price(Decimal(1), Decimal(100_000), Decimal(100_000), TIERS) is None


@given(
    sign=st.sampled_from([1, -1]),
    lots=st.integers(1, 900_000),
    entry=st.integers(10_000, 200_000),
    leverage=st.integers(2, 20),
)
def test_liquidation_price_when_anything_then_the_margin_is_used_up_there_and_leverage_hastens_it(
    sign, lots, entry, leverage
):
    qty, price = sign * lots * PERP.step, Decimal(entry)

    def level(times):
        return liquidation_price(qty, price, abs(qty) * price / times, TIERS)

    at, nearer = level(leverage), level(leverage + 1)
    assert at is not None
    assert nearer is not None
    left = abs(qty) * price / leverage + qty * (at - price)
    assert abs(left - maintenance(TIERS, abs(qty) * at)) < Decimal("1e-9")
    assert (nearer - at) * sign > 0


@given(
    sign=st.sampled_from([1, -1]),
    lots=st.integers(1, 1_000),
    leverage=st.integers(2, 50),
    gap=st.floats(-0.9, 2.0),
)
def test_liquidation_fill_when_the_market_gaps_anywhere_then_no_more_than_the_margin_is_lost(
    sign, lots, leverage, gap
):
    qty, entry = lots * PERP.step, Decimal(100_000)
    wallet = qty * entry / leverage
    level = liquidation_price(sign * qty, entry, wallet, TIERS)
    assert level is not None
    level = to_tick(level, PERP.tick, sign)
    opened = round(100_000 * (1 + gap), 1)
    left = max(maintenance(TIERS, qty * level), Decimal(0))
    now = bar(1, (opened, opened, opened, opened))
    side = Side.SELL if sign > 0 else Side.BUY
    fill = liquidation_fill(side, qty, level, left, now, PERP)
    reached = (Decimal(repr(opened)) - level) * sign <= 0
    assert (fill is not None) is reached
    if fill is not None:
        lost = sign * qty * (entry - fill.price) + fill.fee
        assert lost <= wallet + qty * PERP.tick  # the level is on the tick, the price too
        assert fill.fee <= fill.price * qty * Decimal("0.012") + Decimal("1e-8")
