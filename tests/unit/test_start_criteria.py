"""What must hold before anything is entered: each limit from both sides, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data.reception import Heard
from data.resample import resample
from data.start_criteria import (
    SPREADS,
    Rules,
    bars_criterion,
    connection_criteria,
    spread_criterion,
    unmet,
)
from data.timeframes import TIMEFRAMES, Timeframes
from sim.worlds import DEMO_START_MS, RandomWalk

BTC, ETH, MINUTE = "BTC/USDT", "ETH/USDT", 60_000
BASE = RandomWalk(3, timeframe="1m").bars(DEMO_START_MS, 24 * 60)
NOW = DEMO_START_MS + 24 * 60 * MINUTE + 3_000
RULES = Rules(bars=24)
GOOD = Heard(30_000, 1.0, (BTC, "trades"), 400, 1.0, 150)


def filled(left_out: str = "", minutes: int = 24 * 60) -> Timeframes:
    kept = Timeframes(BTC)
    for name in TIMEFRAMES:
        if name != left_out:
            kept.take(resample(BASE.slice(0, minutes), name))
    return kept


def test_bars_are_enough_when_every_timeframe_has_them_up_to_now() -> None:
    found = bars_criterion([filled()], NOW, RULES)
    assert (found.met, found.value, found.limit) == (True, 24, 24)


def test_bars_name_the_timeframe_that_has_fewest() -> None:
    found = bars_criterion([filled()], NOW, replace(RULES, bars=25))
    assert (found.met, found.value) == (False, 24)
    assert found.said == "BTC/USDT 1h 24 of 25 bars"


def test_bars_of_a_timeframe_that_never_came_are_missing() -> None:
    found = bars_criterion([filled("5m")], NOW, RULES)
    assert (found.met, found.said) == (False, "BTC/USDT 5m 0 of 24 bars")


def test_bars_do_when_the_newest_may_still_be_on_its_way_and_not_when_it_is_late() -> None:
    kept = filled(minutes=24 * 60 - 1)  # the last minute has not come, nor what closes with it
    assert bars_criterion([kept], NOW, replace(RULES, bars=23)).met
    late = bars_criterion([kept], NOW + 10_000, replace(RULES, bars=23))
    assert (late.met, late.value) == (False, 0)
    assert late.said.endswith("(the newest is missing)")


def test_bars_of_a_young_market_do_only_where_markets_may_be_young() -> None:
    kept, rules = filled(), replace(RULES, bars=200)
    assert not bars_criterion([kept], NOW, rules).met
    assert bars_criterion([kept], NOW, replace(rules, young=True)).met
    assert not bars_criterion([filled("1m")], NOW, replace(rules, young=True)).met


def test_bars_of_no_symbol_are_none() -> None:
    assert bars_criterion([], NOW, RULES).met is False


@pytest.mark.parametrize(
    ("heard", "messages", "stamps"),
    [
        (GOOD, True, True),
        (replace(GOOD, share=0.95), False, True),
        (replace(GOOD, share=0.951), True, True),
        (replace(GOOD, near=0.95), True, False),
        (replace(GOOD, heard_ms=29_999), False, False),
        (Heard(30_000, 0.0, None, 0, 0.0, 0), False, False),
        (None, None, None),
    ],
)
def test_messages_and_stamps(
    heard: Heard | None, messages: bool | None, stamps: bool | None
) -> None:
    found = connection_criteria(heard, RULES)
    assert [one.name for one in found] == ["messages", "stamps"]
    assert [one.met for one in found] == [messages, stamps]


def test_messages_say_for_how_long_they_were_counted_and_whose_are_lost() -> None:
    early, lossy = replace(GOOD, heard_ms=12_300), replace(GOOD, share=0.5)
    assert connection_criteria(early, RULES)[0].said == "listened for 12 of 30 s"
    assert connection_criteria(early, RULES)[0].value is None
    said = connection_criteria(lossy, RULES)[0].said
    assert said == "50.0 % of the messages, BTC/USDT trades"


@pytest.mark.parametrize(
    ("spreads", "met", "said"),
    [
        ({BTC: [19.99] * SPREADS}, True, "BTC/USDT 19.99 bps"),
        ({BTC: [20.0] * SPREADS}, False, "BTC/USDT 20.00 bps"),
        ({BTC: [1.0] * SPREADS, ETH: [1.0, 59.0] * (SPREADS // 2)}, False, "ETH/USDT 30.00 bps"),
        ({BTC: [1.0]}, False, "BTC/USDT 1 of 100 spreads"),
        ({BTC: [1.0] * SPREADS, ETH: [1.0] * 37}, False, "ETH/USDT 37 of 100 spreads"),
        ({BTC: [1.0] * SPREADS, ETH: []}, False, "no book of ETH/USDT yet"),
        ({}, False, "no book of any symbol yet"),
    ],
)
def test_spread_is_the_mean_of_as_many_as_are_asked_for(
    spreads: dict[str, list[float]], met: bool, said: str
) -> None:
    found = spread_criterion(spreads, RULES, watched=True)
    assert (found.met, found.said) == (met, said)
    assert spread_criterion(spreads, RULES, watched=False).met is None


def test_what_is_not_measured_stops_nothing() -> None:
    silent = [*connection_criteria(None, RULES), spread_criterion({}, RULES, watched=False)]
    assert unmet(silent) == []
    assert all(one.said.startswith("not measured") for one in silent)
