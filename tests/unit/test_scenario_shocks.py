"""What a shock does to a stage, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import ConclaveError, DataRefused, UsageError
from domain.market import BarFrame
from sim.scenarios.shocks import (
    SHOCKS,
    Basis,
    Drought,
    FlashCrash,
    Freeze,
    Funding,
    Gap,
    Spread,
    Together,
    Trend,
    Volatility,
    span_ms,
)
from sim.scenarios.spec import ACTS, Expected, composed, read
from sim.scenarios.stage import NEVER, Scene, Stage, StageBooks
from sim.worlds import DEMO_START_MS, RandomWalk

HOUR = 3_600_000
FIRST, N = 100, 400
BTC, ETH = "BTC/USDT", "ETH/USDT"


def a_stage() -> Stage:
    worlds = (RandomWalk(4), RandomWalk(4, symbol=ETH))
    scenes = {world.symbol: Scene.calm(world.bars(DEMO_START_MS, N)) for world in worlds}
    return Stage(scenes, FIRST)


def sound(bars: BarFrame) -> bool:
    high = bars.high >= np.maximum(bars.open, bars.close)
    low = bars.low <= np.minimum(bars.open, bars.close)
    return bool((high & low & (bars.low > 0.0)).all())


def test_a_gap_moves_everything_after_it_and_nothing_trades_between() -> None:
    before, after = a_stage(), Gap(2 * HOUR, -0.1, (BTC,)).on(a_stage())
    row = FIRST + 24
    old, new = before.scenes[BTC].bars, after.scenes[BTC].bars
    np.testing.assert_array_equal(new.close[:row], old.close[:row])
    np.testing.assert_allclose(new.close[row:], 0.9 * old.close[row:])
    np.testing.assert_allclose(new.high[row:], 0.9 * old.high[row:])
    assert new.open[row] < 0.92 * new.close[row - 1]
    assert after.scenes[ETH] is before.scenes[ETH] or np.array_equal(
        after.scenes[ETH].bars.close, before.scenes[ETH].bars.close
    )


def test_a_crash_falls_as_far_and_comes_back_as_far_as_it_says() -> None:
    shock = FlashCrash(HOUR, 0.2, 15 * 60_000, HOUR, 0.75, volume=10)
    before, after = a_stage(), shock.on(a_stage())
    old, new = before.scenes[BTC].bars, after.scenes[BTC].bars
    first, bottom, end = FIRST + 12, FIRST + 12 + 3, FIRST + 12 + 3 + 12
    np.testing.assert_allclose(new.close[bottom - 1], 0.8 * old.close[bottom - 1])
    np.testing.assert_allclose(new.close[end - 1 :], 0.95 * old.close[end - 1 :])
    np.testing.assert_allclose(new.open[1:] / new.close[:-1], old.open[1:] / old.close[:-1])
    np.testing.assert_allclose(new.volume[first:end], 10 * old.volume[first:end])
    assert sound(new)


def test_volatility_scales_every_move_and_a_trend_adds_to_it() -> None:
    old = a_stage().scenes[BTC].bars
    wild = Volatility(3.0).on(a_stage()).scenes[BTC].bars
    np.testing.assert_allclose(np.diff(np.log(wild.close)), 3 * np.diff(np.log(old.close)))
    assert sound(wild)
    sliding = Trend(-0.288, at=0).on(a_stage()).scenes[BTC].bars
    moved = np.diff(np.log(sliding.close)) - np.diff(np.log(old.close))
    np.testing.assert_allclose(moved[FIRST - 1 :], -0.001)
    np.testing.assert_allclose(moved[: FIRST - 1], 0.0, atol=1e-12)
    assert sound(sliding)


def test_together_makes_symbols_one() -> None:
    after = Together(1.0).on(a_stage())
    lead, other = (np.diff(np.log(after.scenes[name].bars.close)) for name in (BTC, ETH))
    np.testing.assert_allclose(lead, other, atol=1e-12)
    gapped = Together(1.0).on(Gap(HOUR, -0.1, (BTC,)).on(a_stage()))
    for name in (BTC, ETH):  # where the first opens elsewhere, so do the others
        bars = gapped.scenes[name].bars
        assert bars.open[FIRST + 12] < 0.92 * bars.close[FIRST + 11]
    assert sound(gapped.scenes[ETH].bars)
    half = Together(0.5).on(a_stage())
    own = np.diff(np.log(a_stage().scenes[ETH].bars.close))
    mixed = np.diff(np.log(half.scenes[ETH].bars.close))
    np.testing.assert_allclose(mixed, 0.5 * own + 0.5 * lead, atol=1e-12)
    assert sound(half.scenes[ETH].bars)


def test_what_surrounds_the_bars_changes_for_as_long_as_it_says() -> None:
    stage = a_stage()
    for shock in (
        Spread(HOUR, HOUR, 60.0), Funding(HOUR, HOUR, 0.01), Basis(HOUR, HOUR, -0.05),
        Drought(HOUR, HOUR, 0.1, 0.2),
    ):  # fmt: skip
        stage = shock.on(stage)
    scene, plain = stage.scenes[BTC], a_stage().scenes[BTC]
    rows = np.zeros(N, dtype=bool)
    rows[FIRST + 12 : FIRST + 24] = True
    for column, inside, outside in (
        (scene.spread_bps, 60.0, 1.0), (scene.funding, 0.01, 1e-4), (scene.basis, 0.95, 1.0),
        (scene.depth, 2e5, 1e6), (scene.bars.volume / plain.bars.volume, 0.1, 1.0),
    ):  # fmt: skip
        np.testing.assert_allclose(column[rows], inside)
        np.testing.assert_allclose(column[~rows], outside)
    np.testing.assert_array_equal(scene.bars.close, plain.bars.close)


def test_a_silent_feed_is_heard_late_or_never() -> None:
    late = Freeze(HOUR, HOUR).on(a_stage()).scenes[BTC]
    closes = late.bars.ts + late.bars.step_ms
    assert (late.heard[FIRST + 12 : FIRST + 24] == closes[FIRST + 24]).all()
    np.testing.assert_array_equal(late.heard[FIRST + 24 :], closes[FIRST + 24 :])
    both = Freeze(90 * 60_000, 10 * 60_000).on(Freeze(HOUR, HOUR).on(a_stage())).scenes[BTC]
    np.testing.assert_array_equal(both.heard, late.heard)  # one silence within another
    with pytest.raises(ValueError, match="forecast market"):
        Freeze(HOUR, HOUR, late=True, market="execution")
    lost = Freeze(HOUR, HOUR, market="execution").on(a_stage()).scenes[BTC]
    assert (lost.traded_heard[FIRST + 12 : FIRST + 24] == NEVER).all()
    np.testing.assert_array_equal(lost.heard, closes)


def test_books_show_the_close_then_the_next_open_and_nothing_unheard() -> None:
    shocked = Freeze(2 * HOUR, HOUR).on(Basis(0, HOUR, -0.1).on(Gap(HOUR, 0.2).on(a_stage())))
    books = StageBooks(shocked, {BTC: "BTC/USDT:USDT", ETH: "ETH/USDT:USDT"})
    scene, row = shocked.scenes[BTC], FIRST + 11  # the last bar before the gap
    at = int(shocked.ts[row]) + shocked.step_ms
    book = books.look(BTC, at).book
    assert book is not None
    assert book.mid == pytest.approx(scene.bars.close[row])
    assert book.spread_bps == pytest.approx(1.0)
    assert book.liquidity() == pytest.approx(1e6)
    executed = books.look("BTC/USDT:USDT", at).book
    assert executed is not None
    assert executed.mid == pytest.approx(0.9 * scene.bars.close[row])
    later = books.look(BTC, at + 100).book
    assert later is not None
    assert later.mid == pytest.approx(scene.bars.open[row + 1])
    after = books.look("BTC/USDT:USDT", at + 100).book  # the basis is gone with the next bar
    assert after is not None
    assert after.mid == pytest.approx(scene.traded(row + 1, "BTC/USDT:USDT").open)
    silent = int(shocked.ts[FIRST + 30]) + shocked.step_ms
    assert books.look(BTC, silent).book is None
    venue = StageBooks(shocked, {BTC: "BTC/USDT:USDT", ETH: "ETH/USDT:USDT"}, heard=False)
    assert venue.look(BTC, silent).book is not None


@given(
    st.lists(
        st.one_of(
            st.builds(Gap, st.integers(0, 20 * HOUR), st.floats(-0.9, 3.0)),
            st.builds(
                FlashCrash, st.integers(0, 20 * HOUR), st.floats(-0.9, 0.9), st.just(15 * 60_000),
                st.just(HOUR), st.floats(0.0, 1.5),
            ),
            st.builds(Volatility, st.floats(0.1, 10.0)),
            st.builds(Trend, st.floats(-2.0, 2.0)),
            st.builds(Together, st.floats(0.1, 1.0)),
        ),
        max_size=4,
    )
)  # fmt: skip
def test_whatever_happens_bars_stay_bars(shocks: list[Gap]) -> None:
    stage = a_stage()
    for shock in shocks:
        stage = shock.on(stage)
    assert all(sound(scene.bars) for scene in stage.scenes.values())


@pytest.mark.parametrize(
    ("text", "ms"), [("90m", 90 * 60_000), ("6h", 6 * HOUR), ("1d6h", 30 * HOUR), ("0", 0)]
)
def test_spans_are_read(text: str, ms: int) -> None:
    assert span_ms(text) == ms


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"shocks": [{"gap": {"at": "6h"}}]}, "size"),
        ({"shocks": [{"gpa": {"at": "6h", "size": -0.1}}]}, 'Did you mean "gap"'),
        ({"shocks": [{"gap": {"at": "6h", "size": -1.5}}]}, "greater than -1"),
        ({"shocks": [{"gap": {"at": "six", "size": -0.1}}]}, "90m"),
        ({"shocks": [{"gap": {"at": "6h", "size": -0.1, "onyl": []}}]}, 'Did you mean "only"'),
        ({"shocks": {"gap": 1}}, "must be a list"),
        ({"shocks": [{"gap": {"at": 6, "size": -0.1}}]}, "90m"),
        ({"shocks": [{"gap": {"at": "6h", "size": float("inf")}}]}, "finite"),
        ({"shocks": [{"freeze": {"at": 0, "lasts": "1h", "late": True, "market": "execution"}}]},
         "forecast market"),
        ({"acts": [{"kill": "8h"}]}, "- kill: {at: 6h}"),
        ({"lasts": "90000d"}, "less than or equal"),
        ({"symbols": "BTC/USDT"}, "must be a list"),
        ({"acts": [{"kil": {"at": "6h"}}]}, 'Did you mean "kill"'),
        ({"lenght": "1d"}, "no such name"),
        ({"expect": {"refused": ["nonsense"]}}, "expect.refused"),
        ([], "must be a mapping"),
    ],
)  # fmt: skip
def test_what_is_written_wrong_is_told_by_place_rule_and_value(body: object, says: str) -> None:
    with pytest.raises(ConclaveError, match="scenario mine") as told:
        read("mine", body)
    assert says in str(told.value)


def test_what_begins_after_the_end_or_names_nobody_is_refused() -> None:
    with pytest.raises(DataRefused, match="before its end"):
        Gap(48 * HOUR, -0.1).on(a_stage())
    with pytest.raises(UsageError, match="must name symbols"):
        Gap(0, -0.1, ("DOGE/USDT",)).on(a_stage())


def test_every_kind_can_be_written_down() -> None:
    body = {
        "about": "All of it.", "lasts": "2d",
        "shocks": [
            {"gap": {"at": "1h", "size": -0.1}}, {"flash_crash": {"at": "2h", "fall": 0.2}},
            {"drought": {"at": "3h", "lasts": "1h"}},
            {"spread": {"at": 0, "lasts": "1h", "bps": 9}},
            {"funding": {"at": 0, "lasts": "1d", "rate": 0.01}},
            {"basis": {"at": 0, "lasts": "1h", "size": 0.1}}, {"freeze": {"at": 0, "lasts": "1h"}},
            {"volatility": {"times": 2}}, {"trend": {"per_day": 0.1}}, {"together": {"share": 0.5}},
        ],
        "acts": [{kind: {"at": "1h"}} for kind in ACTS],
    }  # fmt: skip
    scenario = read("all", body)
    assert {type(shock) for shock in scenario.shocks} == {*SHOCKS.values()}
    assert [act.kind for act in scenario.acts] == [*ACTS]
    assert scenario.lasts == 48 * HOUR


def test_two_scenarios_become_one_in_which_both_happen() -> None:
    one = read("one", {"symbols": [BTC], "shocks": [{"gap": {"at": 0, "size": 0.1}}],
                       "settings": {"a": 1, "b": 1}, "lasts": "2d"})  # fmt: skip
    other = read("other", {"symbols": [ETH], "acts": [{"kill": {"at": "3h"}}],
                           "settings": {"b": 2}, "lasts": "1d"})  # fmt: skip
    both = composed([one, other], "both", "Both.", Expected())
    assert both.symbols == (BTC, ETH)
    assert (both.market, both.world, both.seed, both.strategy) == ("perp", "walk", 7, None)
    said = read("said", {"market": "spot", "world": "demo", "seed": 3, "strategy": "council"})
    whole = composed([said, one], "whole", "", Expected())  # the last that says anything
    assert (whole.market, whole.world, whole.seed) == ("spot", "demo", 3)
    assert whole.strategy == "council"
    assert both.settings == {"a": 1, "b": 2}
    assert (both.lasts, len(both.shocks), len(both.acts)) == (48 * HOUR, 1, 1)
