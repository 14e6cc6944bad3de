import itertools

import pytest

from data.sources.replay import ReplaySource
from domain.errors import UsageError
from domain.ports import MarketSource
from tests.data_fixtures import START, clean_bars, pick, without

STEP = 300_000


def source_of_two() -> MarketSource:
    eth = without(clean_bars(10, symbol="ETH/USDT", seed=1), 4, 2)
    return ReplaySource([eth, clean_bars(10, symbol="BTC/USDT", seed=2)])


def test_replay_when_two_symbols_then_bars_come_by_time_then_symbol():
    keys = [(bar.close_ms, bar.symbol) for bar in source_of_two().stream({})]
    assert keys == sorted(keys)
    assert len(keys) == len(source_of_two()) == 18
    assert keys[0] == (START + STEP, "BTC/USDT")
    assert source_of_two().label == "replay"


def test_replay_when_resumed_after_any_bar_then_nothing_is_missed_or_repeated():
    whole = list(source_of_two().stream({}))
    for cut in range(len(whole) + 1):
        known = {bar.symbol: bar.open_ms for bar in whole[:cut]}
        assert whole[:cut] + list(source_of_two().stream(known)) == whole


def test_replay_when_known_open_lies_in_a_hole_or_another_symbol_then_it_goes_on_behind():
    rest = source_of_two().stream({"ETH/USDT": START + 4 * STEP, "XRP/USDT": 5})
    eth = [bar.open_ms for bar in rest if bar.symbol == "ETH/USDT"]
    assert eth[0] == START + 6 * STEP


def test_replay_when_timeframes_differ_then_a_bar_never_comes_before_its_close():
    hours = clean_bars(2, "1h", symbol="ETH/USDT")
    bars = list(ReplaySource([hours, clean_bars(24)]).stream({}))
    for before, after in itertools.pairwise(bars):
        assert before.close_ms <= after.close_ms


def test_replay_when_a_symbol_comes_twice_or_out_of_order_then_it_refuses():
    with pytest.raises(UsageError, match="one file per symbol"):
        ReplaySource([clean_bars(), clean_bars()])
    with pytest.raises(UsageError, match="in order"):
        ReplaySource([pick(clean_bars(3), [2, 1, 0])])
