"""Read recorded order books and trades from Parquet files: lazily, in order, strictly.

``…-l2top20-…`` has ``bid_px_1 … bid_qty_1 … ask_px_1 … ask_qty_1 …``, best first, a row an event;
``…-bookticker-…`` has ``bid bid_qty ask ask_qty``, a book of one level; ``…-trades-…`` has ``price
qty buyer_is_maker``. Whatever does not fit is refused, never guessed.

An event is stamped by the exchange (``ts``, ms UTC). The spot stream of best quotes has no such
stamp; its events are stamped on receipt (``local_ns``), by a clock that may be seconds off the
exchange's: they are in order among themselves, and must not be merged with other streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from data.files import unreadable
from domain.errors import DataRefused, UsageError
from domain.market import BookSnapshot, Floats, Market, Trade, parse_symbol, symbol_on

BATCH = 1024  # rows in memory at a time
_NAME = re.compile(
    r"(?P<pair>[A-Z0-9]+)-(?:[a-z0-9]+-)?(?P<market>spot|perp)-"
    r"(?P<kind>l2top[1-9]\d*|bookticker|trades)(?:-.*)?\.parquet"
)
_NAME_HINT = "Name it like BTCUSDT-binance-perp-l2top20-20240718T2357-20240719T0005.parquet."

Columns = dict[str, NDArray[Any]]


def recording_of(path: Path) -> tuple[str, str]:
    """Return (unified symbol, kind) as a file's name tells them; kinds as in the module's text.

    Raises
    ------
    DataRefused : if the name does not tell.
    """
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise DataRefused(
            path.name, "its name tells no symbol and kind of recording", hint=_NAME_HINT
        )
    market: Market = "perp" if named["market"] == "perp" else "spot"
    try:
        return symbol_on(parse_symbol(named["pair"]), market), named["kind"]
    except UsageError as error:
        raise DataRefused(path.name, "names no pair of base and quote", named["pair"]) from error


def read_books(path: Path) -> Iterator[BookSnapshot]:
    """Iterate over the snapshots of an ``l2top…`` or ``bookticker`` file, oldest first.

    Raises
    ------
    DataRefused : if the file is missing, damaged, of another kind or lacks a column, or at the
        first row whose stamp is before the last, whose price or quantity is not > 0, whose levels
        are not in order, or whose bid is not below its ask.
    """
    symbol, kind = recording_of(path)
    if kind == "trades":
        raise DataRefused(path.name, "must hold order books", kind, _NAME_HINT)
    parts = _sides(kind)
    for row, at, columns in _events(path, [name for part in parts for name in part]):
        bid, bid_qty, ask, ask_qty = (
            np.column_stack([columns[name] for name in part]) for part in parts
        )
        _require_positive(path, row, bid, bid_qty, ask, ask_qty)
        _require_ordered(path, row, bid, ask)
        sides = (x.tolist() for x in (bid, bid_qty, ask, ask_qty))
        for when, b, bq, a, aq in zip(at.tolist(), *sides, strict=True):
            bids, asks = zip(b, bq, strict=True), zip(a, aq, strict=True)
            yield BookSnapshot(symbol, when, tuple(bids), tuple(asks))


def read_trades(path: Path) -> Iterator[Trade]:
    """Iterate over the prints of a ``trades`` file, oldest first.

    Raises
    ------
    DataRefused : if the file is missing, damaged, of another kind or lacks a column, or at the
        first row whose stamp is before the last, or whose price or quantity is not > 0.
    """
    _, kind = recording_of(path)
    if kind != "trades":
        raise DataRefused(path.name, "must hold trades", kind, _NAME_HINT)
    for row, at, columns in _events(path, ["price", "qty"], flags=["buyer_is_maker"]):
        _require_positive(path, row, columns["price"][:, None], columns["qty"][:, None])
        values = (columns[name].tolist() for name in ("price", "qty", "buyer_is_maker"))
        yield from map(Trade, at.tolist(), *values)


def _sides(kind: str) -> list[list[str]]:
    """Names of the columns of bid prices, bid quantities, ask prices and ask quantities."""
    if kind == "bookticker":
        return [["bid"], ["bid_qty"], ["ask"], ["ask_qty"]]
    levels = range(1, int(kind.removeprefix("l2top")) + 1)
    return [[f"{x}_{k}" for k in levels] for x in ("bid_px", "bid_qty", "ask_px", "ask_qty")]


def _events(
    path: Path, numbers: Sequence[str], flags: Sequence[str] = ()
) -> Iterator[tuple[int, NDArray[np.int64], Columns]]:
    """Iterate over (number of the first row, stamps, columns) of each batch; stamps never fall."""
    row, last = 0, 0
    for batch in _batches(path, [*numbers, *flags]):
        columns: Columns = {name: _column(path, batch, name, pa.float64()) for name in numbers}
        columns |= {name: _column(path, batch, name, pa.bool_()) for name in flags}
        at = _column(path, batch, "ts", pa.int64())
        if not at.any():  # a stream without the exchange's time
            at = _column(path, batch, "local_ns", pa.int64()) // 1_000_000
        _refuse_first(path, row, np.diff(at, prepend=last) < 0, "must be in order of time")
        yield row, at, columns
        row, last = row + len(at), int(at[-1])


def _batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            have = file.schema_arrow.names
            missing = [name for name in ("ts", "local_ns", *columns) if name not in have]
            if missing:
                rule = f"lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
                raise DataRefused(path.name, rule, have[:12])
            if not file.metadata.num_rows:
                raise DataRefused(path.name, "is empty")
            yield from file.iter_batches(BATCH, columns=["ts", "local_ns", *columns])
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


def _column(path: Path, batch: pa.RecordBatch, name: str, kind: pa.DataType) -> NDArray[Any]:
    column = batch.column(name)
    if column.null_count:
        raise DataRefused(path.name, f"column {name} lacks {column.null_count} values")
    try:
        return np.asarray(pc.cast(column, kind).to_numpy(zero_copy_only=False))
    except pa.ArrowException as error:
        raise DataRefused(
            path.name, f"column {name} must hold {kind}, not {column.type}"
        ) from error


def _require_positive(path: Path, row: int, *parts: Floats) -> None:
    usable = np.all(np.column_stack([(x > 0) & np.isfinite(x) for x in parts]), axis=1)
    _refuse_first(path, row, ~usable, "prices and quantities must be finite and > 0")


def _require_ordered(path: Path, row: int, bid: Floats, ask: Floats) -> None:
    outwards = np.all((np.diff(bid) < 0) & (np.diff(ask) > 0), axis=1)
    _refuse_first(path, row, ~outwards, "levels must run from the best price outwards")
    _refuse_first(path, row, bid[:, 0] >= ask[:, 0], "the best bid must lie below the best ask")


def _refuse_first(path: Path, row: int, wrong: NDArray[np.bool_], rule: str) -> None:
    if wrong.any():
        raise DataRefused(
            path.name, rule, f"row {row + int(np.argmax(wrong))}", "Record or export it again."
        )
