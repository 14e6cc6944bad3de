import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.validation import cleanse, validate
from domain.errors import DataRefused
from domain.market import BarFrame
from domain.times import iso
from tests.data_fixtures import COLUMNS, DEFECTS, START, changed, clean_bars, halted, pick, without

STEP = 300_000
REFUSED = {
    "empty", "conflicting_duplicates", "misaligned", "wrong_timeframe", "nan",
    "non_positive_price", "negative_volume", "inconsistent_ohlc",
}  # fmt: skip
SEVERITY = {"out_of_order": "repaired", "duplicates": "dropped"}
COUNTS = {
    "duplicates": 2, "conflicting_duplicates": 1, "misaligned": 1, "nan": 1, "gaps": 1, "jumps": 1,
    "zero_volume_runs": 1, "flat_runs": 1, "volume_shift": 1,
}  # fmt: skip


def same(a: BarFrame, b: BarFrame) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("ts", *COLUMNS))


def test_validate_when_bars_are_clean_then_there_are_no_findings():
    frame = clean_bars()
    report = validate(frame, now_ms=int(frame.ts[-1]) + STEP)
    assert report.ok
    assert report.findings == ()
    assert report.gaps.count == 0
    assert (report.rows, report.kept) == (200, 200)
    assert (report.start, report.end) == ("2025-01-01T00:00:00Z", "2025-01-01T16:35:00Z")


@pytest.mark.parametrize("code", DEFECTS)
def test_validate_when_a_defect_is_planted_then_it_is_found_and_judged(code):
    frame = DEFECTS[code](clean_bars())
    report = validate(frame, now_ms=None)
    found = report.finding(code)
    assert found is not None, report.to_text()
    assert found.severity == ("refused" if code in REFUSED else SEVERITY.get(code, "flagged"))
    assert report.ok == (code not in REFUSED)
    assert found.count == COUNTS.get(code, found.count)
    assert code in report.to_text()
    assert json.loads(report.to_json())["ok"] is report.ok


@pytest.mark.parametrize("code", sorted(REFUSED))
def test_cleanse_when_bars_are_refused_then_it_raises_with_the_reason(code):
    frame = DEFECTS[code](clean_bars())
    with pytest.raises(DataRefused, match=code):
        cleanse(frame, validate(frame, now_ms=None))


@pytest.mark.parametrize("code", ["gaps", "jumps", "zero_volume_runs", "flat_runs"])
def test_cleanse_when_a_finding_is_only_flagged_then_every_bar_is_kept(code):
    frame = DEFECTS[code](clean_bars())
    assert same(cleanse(frame, validate(frame, now_ms=None)), frame)


@pytest.mark.parametrize("code", ["out_of_order", "duplicates"])
def test_cleanse_when_order_or_duplicates_are_wrong_then_the_clean_bars_come_back(code):
    frame = DEFECTS[code](clean_bars())
    assert same(cleanse(frame, validate(frame, now_ms=None)), clean_bars())


@pytest.mark.parametrize(
    ("name", "factor"), [("open", 1.1), ("close", 1.1), ("open", 0.9), ("close", 0.9), ("low", 1.1)]
)
def test_validate_when_a_price_lies_outside_the_range_of_its_bar_then_it_is_refused(name, factor):
    frame = clean_bars()
    odd = changed(frame, **{name: {50: float(getattr(frame, name)[50]) * factor}})
    found = validate(odd, now_ms=None).finding("inconsistent_ohlc")
    assert found.where == (iso(START + 50 * STEP),)


def test_validate_when_a_value_is_infinite_then_it_is_refused_like_nan():
    report = validate(changed(clean_bars(), volume={50: float("inf")}), now_ms=None)
    assert "in volume" in report.finding("nan").detail


def test_validate_when_a_gap_is_cut_then_it_says_how_many_how_long_and_where():
    frame = without(without(clean_bars(), 150, 3), 100, 16)
    gaps = validate(frame, now_ms=None).gaps
    assert (gaps.count, gaps.bars_missing, gaps.longest) == (2, 19, 16)
    assert gaps.items[0].after == iso(START + 99 * STEP)
    assert gaps.items[0].start == iso(START + 100 * STEP)
    assert [gap.bars for gap in gaps.items] == [16, 3]


def test_validate_when_a_halt_ends_before_a_gap_then_both_are_found():
    frame = without(halted(clean_bars(), 70, 14), 84, 16)
    report = validate(frame, now_ms=None)
    assert report.finding("flat_runs").where == (iso(START + 70 * STEP),)
    assert "the longest 14" in report.finding("flat_runs").detail
    assert "14 bars without volume in 1 run" in report.finding("zero_volume_runs").detail
    assert report.gaps.longest == 16


def test_validate_when_volume_changes_level_then_the_month_is_named():
    found = validate(DEFECTS["volume_shift"](clean_bars()), now_ms=None).finding("volume_shift")
    assert found.where == ("2025-04-01T00:00:00Z",)


def test_validate_when_the_last_bar_is_still_open_then_it_is_dropped():
    frame = clean_bars()
    now = int(frame.ts[-1]) + STEP - 1
    report = validate(frame, now_ms=now)
    assert report.finding("unclosed").severity == "dropped"
    assert (report.kept, len(cleanse(frame, report))) == (199, 199)
    assert validate(frame, now_ms=now + 1).finding("unclosed") is None


def test_validate_when_a_bar_opens_in_the_future_then_it_is_refused():
    frame = clean_bars()
    report = validate(frame, now_ms=int(frame.ts[-1]) - 1)
    assert report.finding("future").count == 1
    assert not report.ok
    assert report.kept == 0


def test_validate_when_the_only_bar_is_unclosed_then_nothing_is_left_to_use():
    report = validate(clean_bars(1), now_ms=START)
    assert not report.ok
    assert report.finding("empty") is not None


def test_validate_when_another_symbol_or_timeframe_is_expected_then_it_is_refused():
    frame = clean_bars()
    report = validate(
        frame, now_ms=None, expected_symbol="ETH/USDT", expected_timeframe="15m"
    )  # fmt: skip
    assert [found.code for found in report.refusals] == ["wrong_symbol", "wrong_timeframe"]
    assert validate(
        frame, now_ms=None, expected_symbol="BTC/USDT", expected_timeframe="5m"
    ).ok  # fmt: skip


@pytest.mark.parametrize(("stored", "claimed"), [("5m", "1m"), ("1m", "5m"), ("5m", "15m")])
def test_validate_when_bars_lie_at_another_distance_than_claimed_then_it_is_refused(
    stored, claimed
):
    bars = clean_bars(timeframe=stored)
    columns = [getattr(bars, name) for name in COLUMNS]
    report = validate(BarFrame("BTC/USDT", claimed, bars.ts, *columns), now_ms=None)
    assert report.finding("wrong_timeframe").severity == "refused"


def test_validate_when_stamps_are_absurd_then_it_refuses_without_a_crash():
    frame = clean_bars(3)
    far = BarFrame("BTC/USDT", "5m", np.array([-(2**62), 0, 2**62]), *[
        getattr(frame, name) for name in COLUMNS
    ])  # fmt: skip
    assert not validate(far, now_ms=START).ok


def test_report_when_it_is_of_other_bars_then_cleanse_refuses_it():
    with pytest.raises(DataRefused, match="report"):
        cleanse(clean_bars(10), validate(clean_bars(20), now_ms=None))


def test_report_when_many_gaps_exist_then_the_text_shows_twenty_and_counts_the_rest():
    frame = pick(clean_bars(400), np.arange(400) % 4 != 3)
    text = validate(frame, now_ms=None).to_text()
    assert "and 79 more gaps" in text


@given(st.lists(st.integers(0, 60), min_size=1, max_size=120), st.randoms())
def test_cleanse_when_rows_come_in_any_order_and_number_then_they_are_sorted_and_unique(rows, rng):
    base = clean_bars(61)
    wanted = pick(base, np.array(sorted(set(rows))))
    rng.shuffle(rows)
    frame = pick(base, np.array(rows))
    report = validate(frame, now_ms=None)
    if report.ok:  # sparse picks lie at another distance than 5m and are refused for it
        clean = cleanse(frame, report)
        assert same(clean, wanted)
        assert report.gaps.bars_missing == (wanted.ts[-1] - wanted.ts[0]) // STEP + 1 - len(wanted)
    else:
        assert [found.code for found in report.refusals] == ["wrong_timeframe"]
