"""What is known about the real bars must come out of the validation."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from data.datasets import valid_windows
from data.files import matching_funding, read_bars, read_funding
from data.importing import import_file
from data.store import BarStore
from data.validation import validate
from domain.times import parse_iso

SAMPLES = os.environ.get("CONCLAVE_SAMPLES", "")
FOLDER = Path(SAMPLES) if SAMPLES else None
BTC = "BTCUSDT-binance-spot-5m-20220801-20251231.parquet"
NOW = parse_iso("2026-01-01")
BARS = (
    sorted(path.name for path in FOLDER.glob("*.parquet") if re.search(r"-\d+m-", path.name))
    if FOLDER
    else []
)
LISTED = (
    {
        name: int(rows)
        for name, rows in re.findall(
            r"\| (\S+\.parquet) \| (\d+) \|", (FOLDER / "README.md").read_text()
        )
    }
    if FOLDER
    else {}
)  # file → rows, as its README says

pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="CONCLAVE_SAMPLES is unset: no folder of real sample bars"
)


@pytest.fixture(scope="module")
def btc():
    return read_bars(FOLDER / BTC)


def test_validate_when_btc_spot_then_both_holes_are_counted_and_placed(btc):
    gaps = validate(btc, now_ms=NOW).gaps
    assert [(gap.after, gap.bars) for gap in gaps.items] == [
        ("2023-03-24T12:35:00Z", 16),
        ("2023-09-27T18:10:00Z", 933),
    ]
    assert (gaps.bars_missing, gaps.longest) == (949, 933)


def test_validate_when_btc_spot_then_the_halt_is_flagged_by_price_and_by_volume(btc):
    report = validate(btc, now_ms=NOW)
    for code in ("zero_volume_runs", "flat_runs"):
        found = report.finding(code)
        assert found.where == ("2023-03-24T11:30:00Z",)
        assert "longest 14" in found.detail


def test_validate_when_btc_spot_then_the_volume_level_shift_is_placed_in_its_month(btc):
    assert validate(btc, now_ms=NOW).finding("volume_shift").where == ("2023-04-01T00:00:00Z",)


def test_validate_when_btc_spot_then_known_crashes_are_among_the_largest_jumps(btc):
    where = validate(btc, now_ms=NOW).finding("jumps").where
    assert {"2023-08-17T21:40:00Z", "2025-10-10T21:15:00Z"} <= set(where)


@pytest.mark.long
@pytest.mark.parametrize("name", BARS)
def test_validate_when_any_sample_then_nothing_is_refused_repaired_or_dropped(name):
    report = validate(read_bars(FOLDER / name), now_ms=NOW)
    assert report.ok, report.to_text()
    assert {found.severity for found in report.findings} <= {"flagged"}
    assert report.rows == report.kept == LISTED[name]
    assert report.finding("volume_shift") is None or name.startswith("BTCUSDT-binance-spot")


def test_validate_when_the_samples_are_listed_then_all_of_them_were_checked():
    assert BTC in LISTED
    assert {name for name in LISTED if re.search(r"-\d+m-", name)} == set(BARS)


def test_read_funding_when_a_perpetual_sample_then_its_rates_lie_beside_it():
    path = matching_funding(FOLDER / "BTCUSDT-binance-perp-5m-20241231-20251231.parquet")
    funding = read_funding(path)
    assert len(funding.ts) == 1098
    assert np.all(np.diff(funding.ts) == 28_800_000)


def test_windows_when_2025_of_btc_is_scored_then_the_documented_rows_are_valid(btc):
    rows = valid_windows(btc.ts, btc.step_ms, 289, 5)
    in_2025 = (btc.ts[rows] >= parse_iso("2025-01-01")) & (btc.ts[rows] < parse_iso("2026-01-01"))
    assert np.count_nonzero(in_2025) == 105_115


@pytest.mark.long
def test_import_when_btc_spot_then_the_cleansed_bars_are_the_file(tmp_path, btc):
    store = BarStore(tmp_path)
    result = import_file(FOLDER / BTC, store, now_ms=NOW)
    assert result.stored.rows == 358_763
    np.testing.assert_array_equal(store.load("BTC/USDT", "5m").close, btc.close)
