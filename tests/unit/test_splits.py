"""Purged folds: against skfolio on contiguous bars, against the definition on any others."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skfolio.model_selection import CombinatorialPurgedCV

from data.splits import combinatorial_purged, quarters, walk_forward
from domain.errors import DataRefused, UsageError
from domain.times import iso, parse_iso

STEP = 300_000
START = parse_iso("2023-02-10")
YEAR = [parse_iso(text) for text in ("2023-02-10", "2023-04-01", "2023-07-01", "2023-08-05")]


def stamps(n, holes=()):
    gaps = np.ones(n, dtype=np.int64)
    for row, bars in holes:
        gaps[row] += bars
    return START + STEP * (np.cumsum(gaps) - 1)


@st.composite
def gapped(draw):
    n = draw(st.integers(40, 120))
    holes = draw(st.lists(st.tuples(st.integers(1, n - 1), st.integers(1, 40)), max_size=8))
    return stamps(n, holes)


def touching(ts, train, test, horizon):
    """Whether any training label's time touches any test label's, straight from the definition."""
    a, b = ts[train][:, None], ts[test][None, :]
    begin, end = STEP, (horizon + 1) * STEP
    return bool(((a + begin <= b + end) & (b + begin <= a + end)).any())


def test_quarters_when_the_range_cuts_the_calendar_then_the_ends_are_cut_to_it():
    assert quarters(YEAR[0], YEAR[3]) == list(pairwise(YEAR))
    whole = quarters(parse_iso("2024-01-01"), parse_iso("2025-01-01"))
    assert [iso(start)[:10] for start, _ in whole] == [
        "2024-01-01", "2024-04-01", "2024-07-01", "2024-10-01",
    ]  # fmt: skip
    assert quarters(START, START + 1) == [(START, START + 1)]
    with pytest.raises(UsageError, match="quarters"):
        quarters(START, START)


@given(start=st.integers(0, 10**12), length=st.integers(1, 10**11))
def test_quarters_when_joined_then_they_are_the_range_without_gap_or_overlap(start, length):
    spans = quarters(start, start + length)
    assert (spans[0][0], spans[-1][1]) == (start, start + length)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert all(iso(at)[5:] in {f"{month}-01T00:00:00Z" for month in ("01", "04", "07", "10")}
               for _, at in spans[:-1])  # fmt: skip


def test_walk_forward_when_worked_by_hand_then_purge_and_embargo_lie_before_the_test():
    ts, valid = stamps(40), np.ones(40, dtype=bool)
    valid[3] = False
    [fold] = walk_forward(ts, valid, 5, STEP, [(int(ts[20]), int(ts[30]))], embargo=7)
    # Row 7's label is known at bar 7 + 6 = 13 = 20 − 7.
    np.testing.assert_array_equal(np.flatnonzero(fold.train), [0, 1, 2, 4, 5, 6, 7])
    np.testing.assert_array_equal(np.flatnonzero(fold.test), np.arange(20, 30))
    assert fold.fit_ms == ts[13]


@given(ts=gapped(), horizon=st.integers(1, 4), more=st.integers(0, 3))
def test_walk_forward_when_bars_have_gaps_then_no_label_reaches_the_test(ts, horizon, more):
    valid = np.ones(len(ts), dtype=bool)
    middle, end = int(ts[len(ts) // 2]), int(ts[-1]) + STEP
    [fold] = walk_forward(ts, valid, horizon, STEP, [(middle, end)], horizon + more)
    assert not touching(ts, fold.train, fold.test, horizon)
    assert ts[fold.train].max() + (horizon + 1) * STEP <= middle - (horizon + more) * STEP


@pytest.mark.parametrize(
    ("span", "words"),
    [((0, 9), "needs a row to test"), ((8, 20), "100 known"), ((60, 70), "row to test")],
)
def test_walk_forward_when_a_fold_has_too_few_rows_then_it_is_named(span, words):
    ts = stamps(40)
    first, last = (START + STEP * at for at in span)
    with pytest.raises(DataRefused, match=words):
        walk_forward(ts, np.ones(40, dtype=bool), 2, STEP, [(first, last)], 2, min_rows=100)


@pytest.mark.parametrize(("n", "groups", "tested"), [(120, 6, 2), (125, 5, 3), (91, 4, 2)])
def test_combinatorial_when_bars_are_contiguous_then_sets_and_paths_are_skfolios(n, groups, tested):
    mine = combinatorial_purged(stamps(n), 3, STEP, groups, tested, embargo=4)
    theirs = CombinatorialPurgedCV(groups, tested, purged_size=3, embargo_size=4)
    assert len(mine.splits) == theirs.n_splits
    for split, (train, tests) in zip(mine.splits, theirs.split(np.zeros((n, 1))), strict=True):
        np.testing.assert_array_equal(np.flatnonzero(split.train), train)
        np.testing.assert_array_equal(np.flatnonzero(split.test), np.sort(np.concatenate(tests)))
    np.testing.assert_array_equal(mine.paths, theirs.recombined_paths.T)


@given(ts=gapped(), horizon=st.integers(1, 3), more=st.integers(0, 2))
def test_combinatorial_when_bars_have_gaps_then_labels_never_touch_and_few_rows_go(
    ts, horizon, more
):
    mine = combinatorial_purged(ts, horizon, STEP, 4, 1, embargo=horizon + more)
    for split in mine.splits:
        assert not touching(ts, split.train, split.test, horizon)
        assert not (split.train & split.test).any()
        dropped = ~split.train & ~split.test
        assert dropped.sum() <= 3 * horizon + more  # counted in rows it would be all of these


def test_combinatorial_when_a_gap_parts_the_groups_then_nothing_is_dropped_there():
    ts = stamps(40, holes=[(20, 50)])
    first, last = combinatorial_purged(ts, 5, STEP, 2, 1, embargo=5).splits
    assert first.train.sum() == last.train.sum() == 20
    contiguous = combinatorial_purged(stamps(40), 5, STEP, 2, 1, embargo=5).splits
    assert [int(split.train.sum()) for split in contiguous] == [10, 15]


def test_rejoin_when_splits_forecast_then_every_path_covers_every_row_out_of_sample():
    folds = combinatorial_purged(stamps(60), 2, STEP, embargo=2)
    assert folds.paths.shape == (5, 6)  # C(5, 1) paths of 6 groups
    values = np.array([np.where(split.test, i, np.nan) for i, split in enumerate(folds.splits)])
    paths = folds.rejoin(values)
    assert paths.shape == (5, 60)
    assert np.isfinite(paths).all()
    used = {(int(split), g) for row in folds.paths for g, split in enumerate(row)}
    assert len(used) == 30  # 15 splits of two groups, each used once
    with pytest.raises(UsageError, match="shape"):
        folds.rejoin(values[:3])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"embargo": 2}, UsageError, "at least the horizon of 3"),
        ({"horizon": 0}, UsageError, "at least 1"),
        ({"tested": 6}, UsageError, "tested < groups"),
        ({"ts": stamps(5)}, DataRefused, "at least 6 rows"),
        ({"ts": stamps(30)[::-1]}, UsageError, "increase"),
        ({"ts": stamps(12)}, DataRefused, "no row to train on"),
    ],
)
def test_combinatorial_when_it_makes_no_sense_then_it_says_why(change, error, words):
    asked = {"ts": stamps(60), "horizon": 3, "step": STEP, "embargo": 3, "groups": 6, "tested": 2}
    with pytest.raises(error, match=words):
        combinatorial_purged(**{**asked, **change})
