"""One agent's opinions about a run of bars, as columns, and as the bytes of a Parquet file.

Reading gives back what was written, bit for bit: numbers with their last bit, NaN and −0.0
included, None as None, quantiles on whatever levels they came. Evidence is kept as JSON, keys in
their order; what JSON cannot hold (NaN, tuples) becomes what :func:`domain.canonical.plain` makes
of it. Equal opinions make equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from domain.canonical import canonical_json, plain
from domain.errors import DataRefused
from domain.opinion import Opinion
from domain.quantiles import CANONICAL_LEVELS, Quantiles, QuantileTable
from sim.opinions import SIGMA
from sim.scoring import Floats, Forecasts

FORMAT = 1

_NUMBERS = ("p_up", "expected_return", "risk_down", "risk_up", SIGMA)
_TEXTS = ("rationale", "evidence")
_SCHEMA = pa.schema(
    [
        ("as_of", pa.int64()),
        *((name, pa.float64()) for name in _NUMBERS),
        ("levels", pa.int32()),  # which of the footer's level sets; null without quantiles
        ("quantiles", pa.list_(pa.float64())),
        *((name, pa.string()) for name in _TEXTS),
    ]
)
_META = b"conclave"
_SPLIT = dict.fromkeys((*_NUMBERS, "quantiles.list.element"), "BYTE_STREAM_SPLIT")

Identity = Mapping[str, Any]  # what a block is about, JSON's types; has agent, version, symbol, …


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """n opinions of one agent.

    Attributes
    ----------
    identity : what they are about; ``agent``, ``version``, ``symbol``, ``timeframe`` and
        ``horizon`` (bars) are the same for all.
    table : n rows, see the module.
    levels : the level sets that the quantiles are on.
    """

    identity: Identity
    table: pa.Table
    levels: tuple[tuple[float, ...], ...]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def opinions(self) -> Sequence[Opinion]:
        """Return the n opinions, each made when it is read."""
        return _Opinions(self)

    def write(self, into: Forecasts, row: int, skip: int = 0) -> None:
        """Write the opinions from ``skip`` on into columns, the first of them on ``row``.

        Quantiles on other than the canonical levels are read off the completed quantile function;
        p_up is 1 − F(0) where an agent gives quantiles only. Quantiles that are not finite, and
        rows beyond the columns' end, are left out.
        """
        part = self.table.slice(skip, len(into.p_up) - row)
        here = slice(row, row + part.num_rows)
        into.p_up[here], into.sigma[here] = _floats(part["p_up"]), _floats(part[SIGMA])
        into.risk_down[here], into.risk_up[here] = (
            _floats(part[name]) for name in ("risk_down", "risk_up")
        )
        chosen = _floats(part["levels"])  # NaN, which equals no number, without quantiles
        starts, flat = _lists(part["quantiles"])
        for k, levels in enumerate(self.levels):
            rows = np.flatnonzero(chosen == k)
            values = flat[starts[rows][:, None] + np.arange(len(levels))]
            usable = np.isfinite(values).all(axis=1)
            _write_quantiles(into, row + rows[usable], levels, values[usable])


class _Opinions(Sequence[Opinion]):
    """Columns as plain values: numbers, unlike thousands of records, cost no garbage collection."""

    __slots__ = ("_columns", "_flat", "_horizon", "_levels", "_starts", "_who")

    def __init__(self, block: Block) -> None:
        about, table = block.identity, block.table
        self._who = about["agent"], about["version"], about["symbol"], about["timeframe"]
        self._horizon: int = about["horizon"]
        self._levels = tuple(
            CANONICAL_LEVELS if levels == CANONICAL_LEVELS else levels for levels in block.levels
        )
        evidence = json.loads(f"[{','.join(table['evidence'].to_pylist())}]")  # one call for all
        self._columns = (
            *(_values(table[name]) for name in ("as_of", "levels", *_NUMBERS[:-1])),
            table["rationale"].to_pylist(),
            evidence,
        )
        starts, flat = _lists(table["quantiles"])
        self._starts, self._flat = starts.tolist(), flat.tolist()

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Opinion: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Opinion]: ...
    def __getitem__(self, index: int | slice) -> Opinion | Sequence[Opinion]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        as_of, k, p, mean, down, up, text, facts = (column[index] for column in self._columns)
        quantiles = None
        if k is not None:
            levels, start = self._levels[k], self._starts[index]
            quantiles = Quantiles(levels, tuple(self._flat[start : start + len(levels)]))
        return Opinion(*self._who, as_of, self._horizon, p, quantiles, mean, down, up, text, facts)


def block_of(opinions: Sequence[Opinion], identity: Identity) -> Block:
    """Put opinions into columns.

    Raises
    ------
    DataRefused : if one has not as many quantiles as levels; no file can say what it means.
    """
    known: dict[tuple[float, ...], int] = {}
    chosen: list[int | None] = []
    values: list[Sequence[float]] = []
    for opinion in opinions:
        quantiles = opinion.quantiles
        if quantiles is None:
            chosen.append(None)
            values.append(())
            continue
        if len(quantiles.levels) != len(quantiles.values):
            raise DataRefused(
                f"{opinion.agent} at {opinion.as_of}", "must give one quantile for each level",
                quantiles,
            )  # fmt: skip
        chosen.append(known.setdefault(quantiles.levels, len(known)))
        values.append(quantiles.values)
    columns = [
        [opinion.as_of for opinion in opinions],
        *_numbers(opinions),
        chosen,
        values,
        [opinion.rationale for opinion in opinions],
        [_json(opinion.evidence) for opinion in opinions],
    ]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, _SCHEMA, strict=True)]
    return Block(identity, pa.table(arrays, schema=_SCHEMA), tuple(known))


def to_bytes(block: Block) -> bytes:
    """Return a Parquet file whose footer holds the identity and a hash of the content."""
    meta = {
        "identity": block.identity,
        "rows": len(block),
        "levels": [[level.hex() for level in levels] for levels in block.levels],
        "sha256": _content_hash(block),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(
        block.table.replace_schema_metadata({_META: canonical_json(meta)}), sink,
        compression="zstd", use_dictionary=list(_TEXTS), column_encoding=_SPLIT,
        write_statistics=False,
    )  # fmt: skip
    body: bytes = sink.getvalue().to_pybytes()
    return body


def from_bytes(body: bytes, identity: Identity) -> Block:
    """Return the block that :func:`to_bytes` wrote.

    Raises
    ------
    DataRefused : if the bytes are damaged or about something else.
    """
    try:
        table = pq.ParquetFile(pa.BufferReader(body)).read(use_threads=False)
        meta = json.loads(table.schema.metadata[_META])
        levels = tuple(tuple(map(float.fromhex, row)) for row in meta["levels"])
        block = Block(identity, table.replace_schema_metadata(None), levels)
        fits = table.num_rows == meta["rows"] and block.table.schema.equals(_SCHEMA)
        whole = fits and _content_hash(block) == meta["sha256"]
        about = meta["identity"]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataRefused("tape", f"is damaged: {' '.join(str(error).split())[:200]}") from error
    if not whole:
        raise DataRefused("tape", "is damaged: its content does not fit its hash")
    if about != plain(identity):
        raise DataRefused("tape", "is about something else", about)
    return block


def _write_quantiles(
    into: Forecasts, rows: NDArray[np.int64], levels: tuple[float, ...], values: Floats
) -> None:
    table = QuantileTable.of(levels, values)
    same = levels == CANONICAL_LEVELS  # read off as they are: ppf may change the last bit
    into.quantiles[rows] = table.values if same else table.ppf(CANONICAL_LEVELS)
    silent = np.isnan(into.p_up[rows])
    into.p_up[rows[silent]] = 1.0 - table.cdf(0.0)[silent]


def _numbers(opinions: Iterable[Opinion]) -> list[list[float | None]]:
    rows = [(o.p_up, o.expected_return, o.risk_down, o.risk_up, _sigma(o)) for o in opinions]
    columns = zip(*rows, strict=True) if rows else [()] * len(_NUMBERS)
    return [[None if value is None else float(value) for value in column] for column in columns]


def _sigma(opinion: Opinion) -> float | None:
    sigma = opinion.evidence.get(SIGMA)
    return float(sigma) if isinstance(sigma, int | float | np.number) else None


def _json(evidence: Mapping[str, Any]) -> str:
    return json.dumps(plain(evidence), separators=(",", ":"), allow_nan=False)


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Plain numbers, None for null."""
    array = column.combine_chunks()
    if array.null_count == len(array):
        return [None] * len(array)
    present = pc.is_valid(array).to_numpy(zero_copy_only=False).tolist()
    numbers = pc.fill_null(array, 0).to_numpy(zero_copy_only=False).tolist()
    return [x if there else None for x, there in zip(numbers, present, strict=True)]


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _lists(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], Floats]:
    """Where each row's list begins in the joined lists, (n,), and the joined lists."""
    joined = column.combine_chunks()
    lengths = pc.list_value_length(joined).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = joined.flatten().to_numpy(zero_copy_only=False)
    return np.cumsum(lengths) - lengths, np.asarray(flat, dtype=np.float64)


def _content_hash(block: Block) -> str:
    # Over the values, not over the file: how they were packed does not matter.
    hashed = hashlib.sha256(repr([[x.hex() for x in row] for row in block.levels]).encode())
    for name in block.table.column_names:
        for array in _canonical(block.table[name]):
            hashed.update(f"{name} {len(array)} ".encode())
            hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()


def _canonical(column: pa.ChunkedArray) -> Iterator[NDArray[Any]]:
    if pa.types.is_list(column.type):
        yield from _lists(column)
        return
    yield pc.is_valid(column).to_numpy().astype(np.uint8)
    if pa.types.is_string(column.type):
        texts = [(text or "").encode() for text in column.to_pylist()]
        yield np.array([len(text) for text in texts], dtype=np.int64)
        yield np.frombuffer(b"".join(texts), dtype=np.uint8)
    else:
        yield pc.fill_null(column, 0).to_numpy()
