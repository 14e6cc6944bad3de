"""Chance that nothing but its own cause can change."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import SettingError
from execution.draws import Latency, key_of, mixed, uniform

KEY = key_of("BTC/USDT:USDT", "entry")


def test_mixed_when_run_on_then_it_is_splitmix64():
    # The first outputs of the published generator for the seed 1234567.
    golden = 0x9E3779B97F4A7C15
    state, said = 1234567, []
    for _ in range(3):
        said.append(mixed(state))
        state = (state + golden) % 2**64
    assert said == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_uniform_when_drawn_often_then_it_is_even_and_uncorrelated():
    draws = [uniform(7, KEY, 300_000 * n, 0) for n in range(20_000)]
    assert statistics.mean(draws) == pytest.approx(0.5, abs=0.01)
    assert statistics.pvariance(draws) == pytest.approx(1 / 12, abs=0.002)
    assert abs(statistics.correlation(draws[1:], draws[:-1])) < 0.03
    other = [uniform(7, KEY, 300_000 * n, 1) for n in range(20_000)]
    assert abs(statistics.correlation(draws, other)) < 0.03


@given(st.integers(0, 2**63), st.text(max_size=20), st.integers(0, 2**42), st.integers(0, 1_000))
def test_uniform_when_asked_again_then_it_says_the_same_within_zero_and_one(seed, name, at, index):
    draw = uniform(seed, key_of(name), at, index)
    assert 0.0 < draw < 1.0
    assert draw == uniform(seed, key_of(name), at, index)
    assert draw != uniform(seed + 1, key_of(name), at, index)
    assert draw != uniform(seed, key_of(name), at, index + 1)


def test_latency_when_drawn_often_then_its_quantiles_are_the_settings():
    draws = [Latency().ms(uniform(7, KEY, n, 0)) for n in range(40_000)]
    assert statistics.median(draws) == pytest.approx(120, rel=0.02)
    assert statistics.quantiles(draws, n=100)[98] == pytest.approx(800, rel=0.05)
    assert Latency().ms(0.5, busy=True) == 360


def test_latency_when_simple_or_off_then_it_is():
    simple = Latency("uniform")
    assert [simple.ms(u) for u in (1e-9, 0.5, 1 - 1e-9)] == [50, 125, 200]
    assert Latency("none").ms(0.99, busy=True) == 0
    with pytest.raises(SettingError, match="latency_p99_ms"):
        Latency(median_ms=100.0, p99_ms=99.0)
