import json
import resource
import signal
import stat

import numpy as np
import pytest

from data.files import file_sha256, read_bars
from data.importing import check_file, import_file
from data.store import BarStore
from domain.errors import ConclaveError, DataRefused
from domain.market import BarFrame, FeatureFrame
from tests.data_fixtures import (
    COLUMNS,
    DEFECTS,
    START,
    changed,
    clean_bars,
    pick,
    without,
    write_csv,
    write_parquet,
)

STEP = 300_000
NOW = START + 10_000 * STEP
NAME = "BTCUSDT-binance-spot-5m-20250101-20250102.parquet"


def two_features(bars: BarFrame) -> FeatureFrame:
    """Return one row per bar but the first."""
    move = np.diff(np.log(bars.close))
    return FeatureFrame(("move", "size"), np.column_stack((move, np.abs(move))), "schema-1")


def everything(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def store(tmp_path):
    return BarStore(tmp_path / "data")


@pytest.fixture
def sample(tmp_path):
    return write_parquet(tmp_path / NAME, without(clean_bars(), 100, 16))


def test_import_when_a_file_is_good_then_four_layers_are_written_and_read_back(store, sample):
    result = import_file(sample, store, now_ms=NOW, features=two_features)
    assert (result.symbol, result.timeframe, result.market) == ("BTC/USDT", "5m", "spot")
    assert result.raw.path.read_bytes() == sample.read_bytes()
    bars = store.load("BTC/USDT", "5m")
    for name in ("ts", *COLUMNS):
        np.testing.assert_array_equal(getattr(bars, name), getattr(read_bars(sample), name))
    ts, features = store.load_features("BTC/USDT", "5m")
    np.testing.assert_array_equal(ts, bars.ts[1:])
    np.testing.assert_array_equal(features.values, two_features(bars).values)
    assert (features.names, features.schema) == (("move", "size"), "schema-1")
    windows = store.load_windows("BTC/USDT", "5m")
    assert (windows.encoder_length, windows.horizon) == (60, 5)
    assert windows.valid.sum() == result.windows == 36 + 20
    assert windows.segment.max() == 1
    assert result.stored.gaps.bars_missing == 16
    (listed,) = store.list()
    assert (listed.symbol, listed.market, listed.rows) == ("BTC/USDT", "spot", 184)
    assert (listed.start, listed.end) == ("2025-01-01T00:00:00Z", "2025-01-01T16:35:00Z")
    assert listed.sources == (file_sha256(sample),)


def test_import_when_kept_as_raw_then_it_is_read_only_with_its_provenance(store, sample):
    raw = import_file(sample, store, now_ms=NOW).raw
    assert stat.S_IMODE(raw.path.stat().st_mode) == 0o444
    assert raw.path.name == f"{file_sha256(sample)[:12]}-{NAME}"
    note = raw.path.with_name(f"{raw.path.name}.provenance.json")
    known = json.loads(note.read_text())
    assert known["sha256"] == file_sha256(sample)
    assert known["bytes"] == sample.stat().st_size
    assert known["imported_at"] == "2025-02-04T17:20:00Z"
    assert known["name"] == NAME
    assert known["findings"] == [{"code": "gaps", "count": 1, "severity": "flagged"}]
    assert str(sample.parent) not in note.read_text()


def test_import_when_repeated_later_then_nothing_changes(store, sample):
    import_file(sample, store, now_ms=NOW, features=two_features)
    before = everything(store.raw.parent)
    again = import_file(sample, store, now_ms=NOW + STEP, features=two_features)
    assert not again.raw.new
    assert everything(store.raw.parent) == before


def test_import_when_done_in_two_places_then_the_bytes_are_equal(tmp_path, sample):
    stores = [BarStore(tmp_path / name) for name in ("a", "b")]
    for store in stores:
        import_file(sample, store, now_ms=NOW, features=two_features, interpolate=True)
    assert everything(tmp_path / "a") == everything(tmp_path / "b")


def test_import_when_a_raw_copy_was_damaged_then_the_next_import_restores_it(store, sample):
    raw = import_file(sample, store, now_ms=NOW).raw
    raw.path.chmod(0o644)
    raw.path.write_bytes(b"damaged")
    assert import_file(sample, store, now_ms=NOW).raw.new
    assert raw.path.read_bytes() == sample.read_bytes()


@pytest.mark.parametrize("code", [code for code in DEFECTS if code != "volume_shift"])
def test_import_when_a_defect_is_planted_then_it_is_refused_without_a_trace_or_cleansed(
    store, tmp_path, code
):
    frame = DEFECTS[code](clean_bars())
    path = write_csv(tmp_path / "bars.csv", frame)
    _, report = check_file(path, symbol="BTC/USDT", timeframe=frame.timeframe, now_ms=NOW)
    arguments = {"symbol": "BTC/USDT", "timeframe": frame.timeframe, "now_ms": NOW}
    if not report.ok:
        with pytest.raises(DataRefused, match=code):
            import_file(path, store, **arguments)
        assert not store.raw.parent.exists()
        return
    result = import_file(path, store, **arguments)
    assert result.report.finding(code) is not None
    assert len(store.load("BTC/USDT", frame.timeframe)) == result.report.kept


def test_import_when_the_last_bar_is_open_then_it_is_left_out_until_it_closes(store, sample):
    last = int(read_bars(sample).ts[-1])
    assert import_file(sample, store, now_ms=last + STEP - 1).stored.rows == 183
    assert import_file(sample, store, now_ms=last + STEP).stored.rows == 184


def test_import_when_a_second_file_goes_on_then_both_are_one_in_either_order(tmp_path):
    whole = clean_bars(300)
    files = [
        write_parquet(tmp_path / "BTCUSDT-binance-spot-5m-a.parquet", whole.slice(0, 180)),
        write_parquet(tmp_path / "BTCUSDT-binance-spot-5m-b.parquet", whole.slice(150, 300)),
    ]
    outcomes = []
    for order in (files, files[::-1]):
        store = BarStore(tmp_path / f"data{len(outcomes)}")
        for path in order:
            result = import_file(path, store, now_ms=NOW)
        assert result.stored.rows == 300
        assert result.stored.gaps.count == 0
        assert len(store.list()[0].sources) == 2
        outcomes.append(result.cleansed.read_bytes())
    assert outcomes[0] == outcomes[1]


def test_import_when_bars_contradict_stored_ones_then_it_is_refused_and_nothing_changes(
    store, sample, tmp_path
):
    import_file(sample, store, now_ms=NOW)
    before = everything(store.raw.parent)
    bars = read_bars(sample)
    other = changed(bars, volume={7: bars.volume[7] + 1})
    path = write_parquet(tmp_path / "BTCUSDT-binance-spot-5m-other.parquet", other)
    with pytest.raises(DataRefused, match=r"contradicts 1 stored bars.*2025-01-01T00:35:00Z"):
        import_file(path, store, now_ms=NOW)
    assert everything(store.raw.parent) == before


def test_import_when_the_same_bytes_come_as_another_symbol_then_it_is_refused(store, tmp_path):
    path = write_csv(tmp_path / "bars.csv", clean_bars())
    import_file(path, store, symbol="BTC/USDT", timeframe="5m", now_ms=NOW)
    with pytest.raises(DataRefused, match="imported as BTC/USDT 5m"):
        import_file(path, store, symbol="ETH/USDT", timeframe="5m", now_ms=NOW)
    assert [entry.symbol for entry in store.list()] == ["BTC/USDT"]


def test_import_when_spot_and_perpetual_share_a_pair_then_they_are_kept_apart(store, tmp_path):
    for market, n in (("spot", 100), ("perp", 120)):
        path = write_parquet(tmp_path / f"BTCUSDT-binance-{market}-5m-x.parquet", clean_bars(n))
        import_file(path, store, now_ms=NOW)
    assert len(store.load("BTC/USDT", "5m")) == 100
    assert len(store.load("BTC/USDT:USDT", "5m")) == 120


def test_import_when_interpolation_is_asked_for_then_only_its_own_variant_is_filled(
    store, tmp_path
):
    frame = without(without(clean_bars(), 150, 16), 100, 2)
    path = write_parquet(tmp_path / NAME, frame)
    result = import_file(path, store, now_ms=NOW, features=two_features, interpolate=True)
    assert result.interpolated == 2
    assert len(store.load("BTC/USDT", "5m")) == 182
    filled, made_up = store.load_interpolated("BTC/USDT", "5m")
    assert np.flatnonzero(made_up).tolist() == [100, 101]
    assert len(filled) == 184
    assert not store.load_windows("BTC/USDT", "5m").interpolated.any()
    assert [entry.interpolated for entry in store.list()] == [2, 0]


def test_import_when_interpolation_is_not_asked_for_then_no_bar_is_made_up(store, sample):
    assert import_file(sample, store, now_ms=NOW).interpolated == 0
    with pytest.raises(DataRefused, match="not stored"):
        store.load_interpolated("BTC/USDT", "5m")


def test_store_when_the_disk_fills_up_midway_then_it_says_so_and_the_old_file_stays(store):
    store.put_bars(clean_bars(50))
    before = everything(store.raw.parent)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
    try:
        with pytest.raises(ConclaveError, match="cannot be written") as full:
            store.put_bars(clean_bars(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert full.value.hint
    assert everything(store.raw.parent) == before


def test_store_when_the_file_changed_after_it_was_judged_then_no_copy_is_kept(store, sample):
    with pytest.raises(DataRefused, match="changed"):
        store.put_raw(sample, "0" * 64, {})
    assert everything(store.raw) == {}


def test_import_when_the_folder_cannot_be_written_then_it_says_so(tmp_path, sample):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConclaveError, match="cannot be written"):
        import_file(sample, BarStore(tmp_path / "file"), now_ms=NOW)


def test_store_when_a_stored_file_is_damaged_or_absent_then_it_is_refused(store, sample):
    cleansed = import_file(sample, store, now_ms=NOW).cleansed
    cleansed.write_bytes(cleansed.read_bytes()[:-20])
    with pytest.raises(DataRefused, match="damaged"):
        store.load("BTC/USDT", "5m")
    with pytest.raises(DataRefused, match="damaged"):
        store.list()
    with pytest.raises(DataRefused, match="not stored"):
        store.load("ETH/USDT", "5m")


def test_store_when_asked_for_other_folders_then_raw_and_processed_lie_there(tmp_path, sample):
    store = BarStore(tmp_path / "data", tmp_path / "raw", tmp_path / "done")
    import_file(sample, store, now_ms=NOW)
    assert len(list((tmp_path / "raw").iterdir())) == 2
    assert len(list((tmp_path / "done").iterdir())) == 1
    assert not (tmp_path / "data" / "01_raw").exists()


def test_import_when_rows_are_newest_first_then_they_are_sorted_and_noted(store, tmp_path):
    path = write_parquet(tmp_path / NAME, pick(clean_bars(), np.arange(200)[::-1]))
    result = import_file(path, store, now_ms=NOW)
    assert result.report.finding("out_of_order").count == 199
    np.testing.assert_array_equal(store.load("BTC/USDT", "5m").ts, clean_bars().ts)
