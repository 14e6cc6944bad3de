"""Read bars and funding rates from Parquet and CSV files, strictly.

Columns: ``ts`` (bar open, ms UTC), ``open high low close volume``; a few common aliases are
understood. ``ts`` may also be in s, µs or ns (told by its size), a Parquet timestamp, or ISO-8601
text (UTC where no zone is given). Whatever does not fit is refused, never guessed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from domain.errors import DataRefused, UsageError
from domain.market import BarFrame, Floats, Market, market_of, parse_symbol, symbol_on
from domain.times import HOUR_MS, timeframe_ms

ALIASES = {
    "ts": ("ts", "timestamp", "open_time", "opentime", "open time", "time", "datetime", "date"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "vol", "v"),
    "rate": ("rate", "funding_rate", "fundingrate"),
}
_BAR_COLUMNS = ("ts", "open", "high", "low", "close", "volume")
_NAME = re.compile(
    r"(?P<pair>[A-Z0-9]+)-(?:(?P<venue>[a-z0-9]+)-)?(?P<market>spot|perp)-"
    r"(?P<timeframe>[1-9]\d*[mhd])(?:-.*)?\.(?:parquet|csv)"
)
_NAME_HINT = (
    "Pass --symbol and --timeframe, or name the file like "
    "BTCUSDT-binance-spot-5m-20240101-20241231.parquet."
)
_HASHED = re.compile(r"[0-9a-f]{12}-(?=.)")  # begins the name of a file in ``01_raw``
_LAST_MS = 253_402_300_799_999  # end of the year 9999
_UNITS_PER_MS = ((10**11, 1000, 1), (10**14, 1, 1), (10**17, 1, 1000), (10**20, 1, 10**6))


@dataclass(frozen=True, slots=True, eq=False)
class Funding:
    """Funding settlements of one perpetual.

    Attributes
    ----------
    ts : (n,) int64, settlement, UTC ms, strictly increasing.
    rate : (n,) float64, fraction per interval; positive means longs pay.
    """

    symbol: str
    ts: NDArray[np.int64]
    rate: Floats

    @property
    def hours(self) -> int:
        """Hours between two settlements, as most of them are; 8 where that does not make a day."""
        apart = np.diff(self.ts // HOUR_MS)
        if not len(apart):
            return 8
        found, many = np.unique(apart, return_counts=True)
        hours = int(found[np.argmax(many)])
        return hours if hours and 24 % hours == 0 else 8


def read_bars(path: Path, symbol: str | None = None, timeframe: str | None = None) -> BarFrame:
    """Read one file of bars as they stand there; :mod:`data.validation` judges them.

    Parameters
    ----------
    path : ``.parquet`` or ``.csv`` (told by content; a CSV has a header and ends its last line).
    symbol, timeframe : else taken from the file name. A spot symbol given for a file named
        ``perp`` means that pair's perpetual; any other contradiction is refused.

    Raises
    ------
    DataRefused : if the file is missing, unreadable, cut short or lacks a column, or if symbol or
        timeframe are unknown or contradict the file's name or its symbol column.
    UsageError : if ``symbol`` or ``timeframe`` is none.
    """
    found_symbol, found_timeframe = identify(path, symbol, timeframe)
    table = _read_table(path, _BAR_COLUMNS, extra=("symbol",))
    _same_symbol(path, table, found_symbol)
    ts = _stamps(path, table["ts"])
    columns = [_numbers(path, name, table[name]) for name in _BAR_COLUMNS[1:]]
    return BarFrame(found_symbol, found_timeframe, ts, *columns)


def identify(
    path: Path, symbol: str | None = None, timeframe: str | None = None
) -> tuple[str, str]:
    """Return (unified symbol, timeframe) from the flags, else from the file's name.

    Raises
    ------
    DataRefused : if either is unknown, or a flag contradicts the name.
    UsageError : if ``symbol`` or ``timeframe`` is none.
    """
    named = _NAME.fullmatch(plain_name(path))
    wanted = parse_symbol(symbol) if symbol else None
    if timeframe:
        timeframe_ms(timeframe)
    if named is None:
        if wanted is None or timeframe is None:
            missing = " and ".join(
                word for word, have in (("symbol", wanted), ("timeframe", timeframe)) if not have
            )
            raise DataRefused(path.name, f"its name does not tell {missing}", hint=_NAME_HINT)
        return wanted, timeframe
    market: Market = "perp" if named["market"] == "perp" else "spot"
    told = symbol_on(_pair(path, named["pair"]), market)
    if wanted is not None:
        wanted = symbol_on(wanted, market) if market_of(wanted) == "spot" else wanted
        if wanted != told:
            raise DataRefused(
                path.name, f"its name says {told}", symbol, "Check --symbol, or rename the file."
            )
    if timeframe is not None and timeframe_ms(timeframe) != timeframe_ms(named["timeframe"]):
        raise DataRefused(
            path.name,
            f"its name says {named['timeframe']}",
            timeframe,
            "Check --timeframe, or rename the file.",
        )
    return told, named["timeframe"]


def plain_name(path: Path) -> str:
    """Return a file's name as it was imported or fetched: without the hash before it in 01_raw."""
    hashed = _HASHED.match(path.name)
    return path.name if hashed is None else path.name[hashed.end() :]


def named_venue(path: Path) -> str | None:
    """Return the venue that a file's name tells, ``binance`` …; None if it tells none."""
    named = _NAME.fullmatch(plain_name(path))
    return None if named is None else named["venue"]


def read_funding(path: Path, symbol: str | None = None) -> Funding:
    """Read funding rates (``ts``, ``rate``), e.g. ``BTCUSDT-binance-perp-funding-8h-….parquet``.

    Raises
    ------
    DataRefused : as :func:`read_bars`; also for stamps not strictly increasing, NaN, or a rate
        beyond ±100 %.
    """
    pair = plain_name(path).split("-")[0]
    if symbol is None and not re.search(r"-funding-", path.name):
        raise DataRefused(path.name, "its name does not tell the symbol", hint=_NAME_HINT)
    table = _read_table(path, ("ts", "rate"))
    ts, rate = _stamps(path, table["ts"]), _numbers(path, "rate", table["rate"])
    if np.any(np.diff(ts) <= 0):
        raise DataRefused(path.name, "funding stamps must be strictly increasing")
    if not np.all(np.abs(rate) <= 1):  # also catches NaN
        raise DataRefused(path.name, "funding rates must be fractions within ±1")
    return Funding(symbol_on(_pair(path, symbol or pair), "perp"), ts, rate)


def matching_funding(path: Path) -> Path | None:
    """Return the funding file beside a file of perpetual bars, or None.

    Of several, the one with the same date range in its name wins, else the last by name.
    """
    named = _NAME.fullmatch(plain_name(path))
    if named is None or named["market"] != "perp":
        return None
    prefix = "-".join(part for part in (named["pair"], named["venue"], "perp-funding") if part)
    candidates = sorted(
        (
            entry
            for entry in path.parent.glob(f"*{prefix}-*")
            if plain_name(entry).startswith(prefix)
            and entry.suffix in (".parquet", ".csv") and entry.is_file()
        ),
        key=plain_name,
    )  # fmt: skip
    dates = path.stem.split(f"-{named['timeframe']}", 1)[1]
    same = [entry for entry in candidates if dates and entry.stem.endswith(dates)]
    matching = same or candidates
    return matching[-1] if matching else None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises
    ------
    DataRefused : if it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def _read_table(path: Path, columns: Sequence[str], extra: Sequence[str] = ()) -> pa.Table:
    try:
        if path.is_dir():
            raise DataRefused(path.name, "is a directory", hint="Name one file.")
        with path.open("rb") as stream:
            head = stream.read(4)
            stream.seek(0, 2)
            if not stream.tell():
                raise DataRefused(path.name, "is empty")
        if head == b"PAR1":
            table = pyarrow.parquet.ParquetFile(path).read()
            return _chosen(path, table, columns, extra)
        if path.suffix == ".parquet":
            raise DataRefused(path.name, "is not a Parquet file", hint="Fetch or export it again.")
        if path.suffix != ".csv":
            raise DataRefused(
                path.name, "must be Parquet or CSV", path.suffix, "Export it as .parquet or .csv."
            )
        return _read_csv(path, columns, extra)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error


def _read_csv(path: Path, columns: Sequence[str], extra: Sequence[str]) -> pa.Table:
    data = path.read_bytes()
    if not data.endswith((b"\n", b"\r")):
        raise DataRefused(
            path.name,
            "its last line has no end, so its last number may be cut short",
            hint="Fetch it again; if it is whole, end it with a newline.",
        )
    if b"\0" in data:
        raise DataRefused(path.name, "is not text", hint="Export it as CSV in UTF-8.")
    header = data.split(b"\n", 1)[0].decode("utf-8-sig").strip().split(",")
    table = pyarrow.csv.read_csv(
        pa.BufferReader(data),
        read_options=pyarrow.csv.ReadOptions(use_threads=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name.strip('"'): pa.string() for name in header},
            null_values=["", "nan", "NaN", "null"],
            strings_can_be_null=True,
        ),
    )
    return _chosen(path, table, columns, extra)


def _chosen(path: Path, table: pa.Table, columns: Sequence[str], extra: Sequence[str]) -> pa.Table:
    have = [str(name).strip().lower() for name in table.column_names]
    chosen: dict[str, pa.ChunkedArray] = {}
    for column in (*columns, *extra):
        index = next((have.index(n) for n in ALIASES.get(column, (column,)) if n in have), None)
        if index is not None:
            chosen[column] = table.column(index)
    missing = [column for column in columns if column not in chosen]
    if missing:
        raise DataRefused(
            path.name,
            f"lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}",
            have[:12],
            f"Needed: {', '.join(columns)}; a CSV needs a header and commas.",
        )
    return pa.Table.from_pydict(chosen)


def _numbers(path: Path, name: str, column: pa.ChunkedArray) -> Floats:
    try:
        values = pc.cast(_trimmed(column), pa.float64())
    except pa.ArrowException as error:
        raise DataRefused(
            path.name, f"column {name} must hold numbers: {_one_line(error)}"
        ) from error
    return _copied(pc.fill_null(values, np.nan) if values.null_count else values)


def _stamps(path: Path, column: pa.ChunkedArray) -> NDArray[np.int64]:
    if column.null_count:
        raise DataRefused(path.name, f"column ts lacks {column.null_count} stamps")
    try:
        values = _instants(column)
    except pa.ArrowException as error:
        raise DataRefused(
            path.name,
            f"column ts must hold bar opens in ms (UTC) or ISO-8601: {_one_line(error)}",
        ) from error
    if np.any((values < 0) | (values > _LAST_MS)):
        raise DataRefused(path.name, "stamps must lie between the years 1970 and 9999")
    return values


def _instants(column: pa.ChunkedArray) -> NDArray[np.int64]:
    column = _trimmed(column)
    if pa.types.is_string(column.type):
        try:
            column = pc.cast(column, pa.int64())
        except pa.ArrowInvalid:
            column = _parsed(column)
    if pa.types.is_temporal(column.type):
        zone = getattr(column.type, "tz", None)
        in_ms = pc.cast(column, pa.timestamp("ms", tz=zone))
        return _copied(pc.cast(in_ms, pa.int64()))
    whole = _copied(pc.cast(column, pa.int64()))
    largest = int(np.abs(whole).max(initial=0))
    for below, times, over in _UNITS_PER_MS:
        if largest < below:
            if np.any(whole % over):
                raise pa.ArrowInvalid("a stamp is finer than a millisecond")
            return whole * times // over
    return whole


def _trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_large_string(column.type):
        column = pc.cast(column, pa.string())
    return pc.utf8_trim_whitespace(column) if pa.types.is_string(column.type) else column


def _parsed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return pc.cast(column, pa.timestamp("ms", tz="UTC"))  # texts with a zone
    except pa.ArrowInvalid:
        return pc.cast(column, pa.timestamp("ms"))


def _copied(column: pa.ChunkedArray) -> NDArray[Any]:
    # its own to_numpy(), and fill_null() as well, would import pandas: more than half a second
    return np.from_dlpack(column.combine_chunks()).copy()


def _same_symbol(path: Path, table: pa.Table, symbol: str) -> None:
    if "symbol" not in table.column_names:
        return
    seen = [str(value) for value in pc.unique(table["symbol"]).to_pylist()]
    pairs = {_pair(path, text) for text in seen}
    if pairs - {symbol.split(":")[0]}:
        raise DataRefused(
            path.name, f"its symbol column must say {symbol}", seen[:5], "Split it by symbol."
        )


def _pair(path: Path, text: str) -> str:
    try:
        return parse_symbol(text).split(":")[0]
    except UsageError as error:
        raise DataRefused(path.name, "names no pair of base and quote", text, _NAME_HINT) from error


def unreadable(path: Path, error: Exception) -> DataRefused:
    """Say in words why a file could not be read; pyarrow calls some damaged pages an OSError."""
    if isinstance(error, FileNotFoundError):
        return DataRefused(path.name, "does not exist", hint="Check the path.")
    if isinstance(error, IsADirectoryError):
        return DataRefused(path.name, "is a directory", hint="Name one file.")
    reason = getattr(error, "strerror", None) or _one_line(error)
    hint = "It may be damaged or cut short; fetch or export it again."
    return DataRefused(path.name, f"cannot be read: {reason}", hint=hint)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
