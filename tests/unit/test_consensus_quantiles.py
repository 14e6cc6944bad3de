from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from domain.quantiles import CANONICAL_LEVELS, QuantileTable, canonical_moments

NINE = tuple(k / 10 for k in range(1, 10))
rows = st.lists(st.floats(-0.05, 0.05), min_size=13, max_size=13)


def by_hand(levels, values, u):
    """The completed quantile function at one level, written down independently."""
    if levels[0] <= u <= levels[-1]:
        return np.interp(u, levels, values)
    i, j, k = (0, 1, 0) if u < levels[0] else (-1, -2, -1)
    t = stats.t(4).ppf
    scale = abs(values[j] - values[i]) / abs(t(levels[j]) - t(levels[i]))
    return values[k] + scale * (t(u) - t(levels[k]))


@pytest.mark.long
@pytest.mark.parametrize("levels", [CANONICAL_LEVELS, NINE, (0.1, 0.5, 0.9)])
@pytest.mark.parametrize("shift", [0.004, -0.02])
def test_quantile_table_when_integrated_numerically_then_means_and_cdf_agree(levels, shift):
    values = np.sort(np.random.default_rng(4).normal(shift, 3e-3, len(levels)))
    table = QuantileTable.of(levels, values)
    edges = [1e-9, *levels, 1 - 1e-9]

    def integral(f):
        parts = (integrate.quad(f, a, b, limit=400)[0] for a, b in pairwise(edges))
        return sum(parts)

    mean = integral(lambda u: by_hand(levels, values, u))
    assert float(table.mean()[0]) == pytest.approx(mean, abs=1e-7)
    assert float(table.partial_mean(1.0)[0]) == pytest.approx(float(table.mean()[0]), abs=1e-15)
    absolute = integral(lambda u: abs(by_hand(levels, values, u)))
    assert float(table.mean_abs()[0]) == pytest.approx(absolute, abs=1e-6)
    square = integral(lambda u: by_hand(levels, values, u) ** 2)
    assert float(table.variance()[0]) == pytest.approx(square - mean**2, rel=1e-3)
    for u in (0.004, 0.3, 0.62, 0.99):
        x = by_hand(levels, values, u)
        assert float(table.ppf(u)[0, 0]) == pytest.approx(x, abs=1e-12)
        assert float(table.cdf(x)[0]) == pytest.approx(u, abs=1e-9)


@given(st.lists(rows, min_size=1, max_size=6))
def test_quantile_table_when_rows_share_a_batch_then_each_is_what_it_is_alone(many):
    batch = QuantileTable.of(CANONICAL_LEVELS, many)
    for i, row in enumerate(many):
        alone = QuantileTable.of(CANONICAL_LEVELS, row)
        assert batch.mean()[i] == alone.mean()[0]
        assert batch.mean_abs()[i] == alone.mean_abs()[0]
        assert batch.cdf(0.0)[i] == alone.cdf(0.0)[0]


@given(rows)
def test_canonical_moments_when_rows_are_any_then_f_of_0_is_the_tables_to_the_last_bit(row):
    below = canonical_moments(sorted(row))[2]
    assert below == QuantileTable.of(CANONICAL_LEVELS, row).cdf(0.0)[0]


def test_quantile_table_when_all_quantiles_are_equal_then_the_cdf_is_a_step():
    table = QuantileTable.of(CANONICAL_LEVELS, [0.01] * 13)
    assert [float(table.cdf(x)[0]) for x in (0.0, 0.01, 0.02)] == [0.0, 1.0, 1.0]
    assert float(table.mean()[0]) == pytest.approx(0.01)
    assert float(table.mean_abs()[0]) == pytest.approx(0.01)
