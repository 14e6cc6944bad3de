import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.files import Funding, file_sha256, identify, matching_funding, read_bars, read_funding
from data.validation import validate
from domain.errors import ConclaveError, DataRefused
from domain.times import iso
from tests.data_fixtures import COLUMNS, START, clean_bars, csv_text, write_csv, write_parquet

NAME = "BTCUSDT-binance-spot-5m-20250101-20250102"


def assert_same(read, frame):
    assert (read.symbol, read.timeframe) == (frame.symbol, frame.timeframe)
    for name in ("ts", *COLUMNS):
        np.testing.assert_array_equal(getattr(read, name), getattr(frame, name))


def test_read_bars_when_parquet_then_bars_are_what_was_written(tmp_path):
    frame = clean_bars()
    assert_same(read_bars(write_parquet(tmp_path / f"{NAME}.parquet", frame)), frame)


def test_read_bars_when_csv_then_bars_are_what_was_written_to_the_last_bit(tmp_path):
    frame = clean_bars()
    assert_same(read_bars(write_csv(tmp_path / f"{NAME}.csv", frame)), frame)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace(",", ", "),
        lambda text: text.replace("ts,open", '"ts","open"'),
        lambda text: text + "\n",
    ],
    ids=["crlf", "byte_order_mark", "spaces", "quotes", "blank_last_line"],
)
def test_read_bars_when_csv_has_another_accent_then_bars_are_the_same(tmp_path, change):
    frame = clean_bars(20)
    path = tmp_path / f"{NAME}.csv"
    path.write_bytes(change(csv_text(frame)).encode())
    assert_same(read_bars(path), frame)


@pytest.mark.parametrize(
    "spell",
    [
        lambda ms: str(ms // 1000),
        lambda ms: str(ms * 1000),
        lambda ms: iso(ms),
        lambda ms: iso(ms).replace("Z", "+00:00"),
        lambda ms: iso(ms).replace("T", " ").replace("Z", ""),
    ],
    ids=["seconds", "microseconds", "iso_z", "iso_offset", "iso_without_zone"],
)
@pytest.mark.parametrize("alias", ["timestamp", "date", "open_time", " Time"])
def test_read_bars_when_stamps_are_spelt_otherwise_then_they_mean_the_same(tmp_path, spell, alias):
    frame = clean_bars(20)
    head, *lines = csv_text(frame, f"{alias},Open,High,Low,Close,Volume").splitlines()
    rows = [line.split(",") for line in lines]
    text = "\n".join([head, *(",".join([spell(int(row[0])), *row[1:]]) for row in rows)]) + "\n"
    path = tmp_path / f"{NAME}.csv"
    path.write_text(text)
    assert_same(read_bars(path), frame)


def test_read_bars_when_parquet_holds_timestamps_and_more_columns_then_it_reads_them(tmp_path):
    frame = clean_bars(20)
    columns = {"extra": ["x"] * 20, "Date": pa.array(frame.ts * 1_000_000, pa.timestamp("ns"))}
    columns |= {name.upper(): getattr(frame, name) for name in COLUMNS}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / f"{NAME}.parquet")
    assert_same(read_bars(tmp_path / f"{NAME}.parquet"), frame)


@pytest.mark.parametrize(
    ("name", "symbol", "timeframe", "wanted"),
    [
        ("BTCUSDT-binance-spot-5m-20220801-20251231.parquet", None, None, ("BTC/USDT", "5m")),
        ("ETHUSDT-binance-perp-1m-2025.parquet", None, None, ("ETH/USDT:USDT", "1m")),
        ("BTCUSDT-spot-15m.parquet", None, None, ("BTC/USDT", "15m")),
        ("ETHUSDT-binance-perp-1m-2025.csv", "ETHUSDT", "1m", ("ETH/USDT:USDT", "1m")),
        ("bars.csv", "BTC-USDT", "1h", ("BTC/USDT", "1h")),
        ("bars.csv", "BTC/USDT:USDT", "1h", ("BTC/USDT:USDT", "1h")),
    ],
)
def test_identify_when_flag_or_name_tells_then_symbol_and_timeframe_are_known(
    tmp_path, name, symbol, timeframe, wanted
):
    assert identify(tmp_path / name, symbol, timeframe) == wanted


@pytest.mark.parametrize(
    ("name", "symbol", "timeframe", "says"),
    [
        ("bars.csv", None, "5m", "does not tell symbol"),
        ("bars.csv", "BTC/USDT", None, "does not tell timeframe"),
        ("bars.csv", None, None, "symbol and timeframe"),
        (f"{NAME}.csv", "ETH/USDT", None, "its name says BTC/USDT"),
        (f"{NAME}.csv", "BTC/USDT:USDT", None, "its name says BTC/USDT"),
        (f"{NAME}.csv", None, "15m", "its name says 5m"),
        ("FOO-binance-spot-5m.csv", None, None, "no pair"),
        ("BTCUSDT-binance-perp-funding-8h-2025.parquet", None, None, "does not tell"),
    ],
)
def test_identify_when_nothing_tells_or_flags_contradict_then_it_refuses(
    tmp_path, name, symbol, timeframe, says
):
    with pytest.raises(DataRefused, match=says):
        identify(tmp_path / name, symbol, timeframe)


BAD_CSV = {
    "empty": (b"", "empty"),
    "header_only_without_end": (b"ts,open,high,low,close,volume", "no end"),
    "short_row": (b"ts,open,high,low,close,volume\n1735689600000,1,1,1\n", "cannot be read"),
    "half_number": (b"ts,open,high,low,close,volume\n1735689600000,1,1,1,1,12", "no end"),
    "no_number": (b"ts,open,high,low,close,volume\n1735689600000,1,1,1,1e,1\n", "close"),
    "text_stamp": (b"ts,open,high,low,close,volume\nyesterday,1,1,1,1,1\n", "ts"),
    "no_stamp": (b"ts,open,high,low,close,volume\n,1,1,1,1,1\n", "lacks 1"),
    "negative_stamp": (b"ts,open,high,low,close,volume\n-5,1,1,1,1,1\n", "1970"),
    "half_millisecond": (b"ts,open,high,low,close,volume\n1735689600000001,1,1,1,1,1\n", "finer"),
    "missing_columns": (b"ts,open,high\n1735689600000,1,1\n", "low, close, volume"),
    "no_header": (b"1735689600000,1,1,1,1,1\n", "lacks the column"),
    "semicolons": (b"ts;open;high;low;close;volume\n1735689600000;1;1;1;1;1\n", "commas"),
    "two_symbols": (
        b"ts,symbol,open,high,low,close,volume\n1735689600000,ETHUSDT,1,1,1,1,1\n",
        "symbol column",
    ),
    "nul_bytes": (b"ts,open,high,low,close,volume\n\0\0\0\n", "not text"),
    "binary_junk": (bytes(range(1, 256)) * 4 + b"\n", "."),
    "invalid_utf8": (b"ts,open,high,low,close,volume\n\xff\xfe,1,1,1,1,1\n", "."),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_read_bars_when_a_csv_is_damaged_then_it_is_refused_with_the_reason(tmp_path, case):
    content, says = BAD_CSV[case]
    path = tmp_path / f"{NAME}.csv"
    path.write_bytes(content)
    with pytest.raises(DataRefused, match=says) as refused:
        read_bars(path)
    assert refused.value.exit_code == 3
    assert path.name in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_read_bars_when_a_cell_is_empty_then_it_is_nan_and_validation_refuses_it(tmp_path):
    path = tmp_path / f"{NAME}.csv"
    path.write_text(csv_text(clean_bars(5)).replace(repr(float(clean_bars(5).close[2])), ""))
    report = validate(read_bars(path), now_ms=None)
    assert report.finding("nan").where[0] == iso(START + 600_000)


@pytest.mark.parametrize("keep", [3, 8, 0.3, 0.7, -4])
def test_read_bars_when_parquet_is_cut_short_then_it_is_refused(tmp_path, keep):
    path = write_parquet(tmp_path / f"{NAME}.parquet", clean_bars())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(DataRefused):
        read_bars(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read_bars_when_a_csv_is_cut_anywhere_then_no_wrong_bar_gets_through(tmp_path, data):
    frame = clean_bars(6)
    text = csv_text(frame)
    cut = data.draw(st.integers(0, len(text) - 1))
    path = tmp_path / f"{NAME}.csv"
    path.write_text(text[:cut])
    try:
        read = read_bars(path)
    except DataRefused:
        return
    assert text[cut - 1] == "\n"  # whole lines only
    assert_same(read, frame.slice(0, len(read)))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read_bars_when_parquet_bytes_are_flipped_then_it_reads_or_refuses_but_never_crashes(
    tmp_path, data
):
    content = bytearray(write_parquet(tmp_path / f"{NAME}.parquet", clean_bars(30)).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / f"{NAME}.parquet").write_bytes(content)
    try:
        validate(read_bars(tmp_path / f"{NAME}.parquet"), now_ms=None).to_text()
    except ConclaveError as refused:
        assert isinstance(refused, DataRefused)  # noqa: PT017 - both outcomes are fine


def test_read_bars_when_missing_or_a_directory_or_another_format_then_it_is_refused(tmp_path):
    with pytest.raises(DataRefused, match="does not exist"):
        read_bars(tmp_path / f"{NAME}.parquet")
    (tmp_path / f"{NAME}.parquet").mkdir()
    with pytest.raises(DataRefused, match="directory"):
        read_bars(tmp_path / f"{NAME}.parquet")
    (tmp_path / "bars.feather").write_bytes(b"ARROW1")
    with pytest.raises(DataRefused, match="Parquet or CSV"):
        read_bars(tmp_path / "bars.feather", "BTC/USDT", "5m")
    with pytest.raises(DataRefused, match="does not exist"):
        file_sha256(tmp_path / "none")


def test_file_sha256_when_content_is_known_then_the_digest_is(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea")


def funding_file(path, rates=(0.0001, -0.0002, 0.0003), step=28_800_000):
    ts = START + np.arange(len(rates)) * step
    pyarrow.parquet.write_table(pa.table({"ts": ts, "rate": list(rates)}), path)
    return path


def test_read_funding_when_rates_are_sane_then_they_come_with_the_perpetual(tmp_path):
    path = funding_file(tmp_path / "BTCUSDT-binance-perp-funding-8h-2025.parquet")
    funding = read_funding(path)
    assert funding.symbol == "BTC/USDT:USDT"
    assert funding.rate.tolist() == [0.0001, -0.0002, 0.0003]
    assert np.diff(funding.ts).tolist() == [28_800_000] * 2


@pytest.mark.parametrize(
    ("hours", "apart"),
    [(8, [8, 8]), (4, [4, 4, 8]), (1, [1, 1]), (8, []), (8, [5, 5]), (8, [72, 72]), (4, [4, 8, 4])],
)
def test_funding_hours_when_most_are_so_far_apart_then_that(hours, apart):
    ts = START + 3_600_000 * np.cumsum([0, *apart]) + 7  # a little late
    assert Funding("BTC/USDT:USDT", ts, np.zeros(len(ts))).hours == hours


@pytest.mark.parametrize(
    ("rates", "step"), [((0.1, float("nan")), 28_800_000), ((5.0,), 1), ((0.1, 0.1), 0)]
)
def test_read_funding_when_rates_or_stamps_make_no_sense_then_it_refuses(tmp_path, rates, step):
    path = funding_file(tmp_path / "BTCUSDT-binance-perp-funding-8h-2025.parquet", rates, step)
    with pytest.raises(DataRefused):
        read_funding(path)


def test_matching_funding_when_several_lie_beside_then_the_same_dates_win(tmp_path):
    bars = tmp_path / "BTCUSDT-binance-perp-5m-20241231-20251231.parquet"
    assert matching_funding(bars) is None
    for dates in ("20230101-20231231", "20241231-20251231", "20260101-20261231"):
        funding_file(tmp_path / f"BTCUSDT-binance-perp-funding-8h-{dates}.parquet")
    funding_file(tmp_path / "ETHUSDT-binance-perp-funding-8h-20241231-20251231.parquet")
    found = matching_funding(bars)
    assert found.name == "BTCUSDT-binance-perp-funding-8h-20241231-20251231.parquet"
    assert matching_funding(tmp_path / f"{NAME}.parquet") is None
