import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.features.calendar import new_york_offset
from data.features.rolling import Ewma, medians, observed_mean, share_below, windows

OPS = {np.add: np.sum, np.maximum: np.max, np.minimum: np.min}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 60), st.integers(10_000, 10_100), st.sampled_from(list(OPS))
)
def test_windows_when_reduced_then_they_equal_the_plain_slices(width, count, last, op):
    x = np.random.default_rng(width * count).normal(size=(2, count + width + 5))
    got = windows(x, width, last, count, op)
    n = x.shape[1]
    for j in range(count):
        stop = n - count + j + 1
        np.testing.assert_allclose(
            got[:, j], OPS[op](x[:, stop - width : stop], axis=1), 1e-9, 1e-9
        )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(2, 60), st.integers(10_000, 10_100))
def test_windows_when_more_bars_come_before_or_after_then_sums_are_bit_for_bit_the_same(
    width, count, last
):
    x = np.random.default_rng(count).normal(size=(1, count + 2 * width))
    whole = windows(x, width, last, count)
    half = count // 2
    np.testing.assert_array_equal(
        windows(x[:, : -(count - half)], width, last - count + half, half), whole[:, :half]
    )
    np.testing.assert_array_equal(windows(x[:, 3:], width, last, 1), whole[:, -1:])


def test_windows_when_huge_values_leave_then_they_leave_no_trace():
    x = np.concatenate((np.full(50, 1e15), np.full(50, 0.1)))[None, :]
    assert windows(x, 10, 99, 1)[0, 0] == pytest.approx(1.0, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 40))
def test_medians_when_few_or_many_then_both_ways_give_the_same_exact_value(width, count, before):
    x = np.random.default_rng(count).normal(size=width - 1 + count)
    filled = np.concatenate((np.full(30, np.nan), np.full(max(0, width - 1 - before), np.nan)))
    x = np.concatenate((filled, x[len(x) - count - min(before, width - 1) :]))
    available = np.minimum(width, np.arange(1, count + 1) + min(before, width - 1))
    many = medians(x, width, available)
    one_by_one = [
        medians(x[: len(x) - count + j + 1], width, available[j : j + 1])[0] for j in range(count)
    ]
    np.testing.assert_array_equal(many, one_by_one)
    assert not np.isnan(many).any()


def test_share_below_when_some_are_missing_then_only_what_is_there_counts():
    x = np.array([np.inf, np.inf, 1.0, 5.0, 2.0, 9.0, 3.0])
    assert share_below(x, 2, 2, 3).tolist() == [1, 1, 2]


def test_ewma_when_stopped_and_continued_then_it_equals_one_pass_and_pandas():
    x = np.random.default_rng(0).normal(size=(1, 200))
    whole, parts = Ewma(0.06), Ewma(0.06)
    y = whole.run(x)
    np.testing.assert_array_equal(np.hstack([parts.run(x[:, :77]), parts.run(x[:, 77:])]), y)
    mean = observed_mean(y[0], 0.94, np.arange(1, 201))
    expected = pd.Series(x[0]).ewm(alpha=0.06, adjust=True).mean().to_numpy()
    np.testing.assert_allclose(mean, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2024-03-10T06:59", -5), ("2024-03-10T07:00", -4),
        ("2024-11-03T05:59", -4), ("2024-11-03T06:00", -5), ("2023-12-31T23:59", -5),
    ],
)  # fmt: skip
def test_new_york_offset_when_clocks_change_then_it_changes_in_that_very_minute(text, hours):
    at = np.array([np.datetime64(text, "ms").astype(np.int64)])
    assert new_york_offset(at).tolist() == [hours * 3_600_000]
