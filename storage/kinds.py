"""The kinds of records the ledger holds: their keys, and how a domain object becomes a row.

A row is what the database stores and what is hashed: integers, finite floats, text, booleans and
None; Decimals in fixed-point notation, nested values as canonical JSON. Reading a row back gives
an object equal to the one appended: floats and Decimals to the last digit, enums and quantiles
rebuilt. In free-form mappings (evidence, inputs) tuples come back as lists and NaN as None.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Context, Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import BigInteger, Boolean, Double, Table

from domain.canonical import canonical_json, plain
from domain.decision import Action, Decision, GateVerdict
from domain.errors import ChainBroken, LedgerError, UsageError
from domain.market import Bar, BookSnapshot, BookView, OrderFlow, SeenBook, SettledFunding, Trade
from domain.operations import ExternalTrade, OperatorReport, Reflection, RiskEvent
from domain.opinion import Opinion, Outcome
from domain.quantiles import Quantiles
from domain.trading import (
    ClosedTrade,
    EquityMark,
    Fill,
    ModeChange,
    Order,
    OrderType,
    Posting,
    Refusal,
    RiskMode,
    Side,
)
from storage import schema

EXACT = Context(prec=200)  # for sums of money: the default context would round at 28 digits
Row = dict[str, Any]
_write = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a kind: into the row and out of it; None passes both ways."""

    name: str
    store: Callable[[Any], Any]
    load: Callable[[Any], Any]
    searchable: bool


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One type of record.

    Attributes
    ----------
    name : as in the chain.
    type : the domain class.
    table : where its rows lie.
    key : what makes two records the same record within a world.
    identity : what ``key`` is made of; cheaper to compare within one process.
    derived : columns computed from the record, beside its fields.
    numbers : the fields that hold floats or Decimals.
    """

    name: str
    type: type
    table: Table
    key: Callable[[Any], str]
    identity: Callable[[Any], Hashable]
    fields: tuple[Field, ...]
    derived: Mapping[str, Callable[[Any], Any]]
    numbers: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]]  # of ``numbers``

    def encode(self, record: Any) -> Row:
        """Return the record's row, without ``seq`` and ``world``.

        Raises
        ------
        LedgerError : if a number is NaN or infinite, or a value has the wrong type.
        """
        row = {name: of(record) for name, of in self.derived.items()}
        for field in self.fields:
            value = getattr(record, field.name)
            try:
                row[field.name] = None if value is None else field.store(value)
            except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
                what = f"{self.name}.{field.name}"
                raise LedgerError(what, f"cannot be stored: {error}", value) from error
        return row

    def refuse_nan(self, record: Any) -> None:
        """Raise LedgerError if a plain number of the record is NaN or infinite; cheap."""
        for i, value in enumerate(self.values(record)):
            try:
                finite = value is None or math.isfinite(value)
            except (TypeError, ValueError):
                finite = False
            if not finite:
                what = f"{self.name}.{self.numbers[i]}"
                raise LedgerError(what, "must be a finite number", str(value))

    def decode(self, row: Mapping[Any, Any], seq: int) -> Any:
        """Rebuild the record of a row.

        Raises
        ------
        ChainBroken : if the row cannot be a record of this kind.
        """
        try:
            return self.type(*[
                None if (value := row[field.name]) is None else field.load(value)
                for field in self.fields
            ])  # fmt: skip
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise ChainBroken(
                f"row {seq}", f"is no {self.name} any more ({error})",
                hint="Run conclave ledger verify.",
            ) from error  # fmt: skip

    def hashed(self, key: str, row: Row) -> str:
        """Return the canonical JSON that is hashed.

        Absent values are left out, so that a column added later changes no old hash.
        """
        kept = {name: value for name, value in row.items() if value is not None}
        kept["key"] = key
        return _write(kept)

    def refuse_unknown(self, where: Mapping[str, Any]) -> None:
        """Raise UsageError if ``where`` names anything but a plain field of this kind."""
        known = sorted({f.name for f in self.fields if f.searchable} | set(self.derived))
        for name in where:
            if name not in known:
                hint = f"Searchable: {', '.join(known)}."
                raise UsageError(f"{self.name} filter", "must be a plain field", name, hint)


def decimal_text(value: Decimal) -> str:
    """Write a finite Decimal in fixed-point notation, zero without a sign."""
    if not isinstance(value, Decimal) or not value.is_finite():
        raise ValueError("must be a finite Decimal")
    return format(value if value else abs(value), "f")


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("must be finite")
    return number + 0.0  # SQLite does not keep the sign of zero


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("must be text")
    if "\x00" in value:
        raise ValueError("must hold no NUL character")
    return str(value)


def _integer(value: Any) -> int:
    number = int(value)
    if number != value or isinstance(value, bool):
        raise ValueError("must be an integer")
    return number


def _boolean(value: Any) -> bool:
    return bool(value)


def _quantiles(value: Quantiles) -> str:
    levels, values = ([_finite(x) for x in xs] for xs in (value.levels, value.values))
    return _write({"levels": levels, "values": values})


def _load_quantiles(text: str) -> Quantiles:
    body = json.loads(text)
    return Quantiles(tuple(body["levels"]), tuple(body["values"]))


def _load_gate(text: str) -> GateVerdict:
    body = json.loads(text)
    wanted = body["input_decision"]
    return GateVerdict(**{**body, "input_decision": None if wanted is None else Action(wanted)})


def _load_tuple(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _mapping(value: Mapping[str, Any]) -> str:
    return canonical_json(value) if value else "{}"  # most of a decision's are empty


def _sequence(value: Sequence[str]) -> str:
    return canonical_json(value) if value else "[]"


@lru_cache(maxsize=16)
def _gate(value: GateVerdict) -> str:
    body = plain(value)
    if value.would is None:  # rows that are older than these fields stay what they are
        del body["would"], body["version"]
    return canonical_json(body)


def _view(value: BookView) -> str:
    book, flow = value.book, value.flow
    return canonical_json({
        "book": None if book is None else [book.symbol, book.at, book.bids, book.asks],
        "trades": [[one.at, one.price, one.qty, one.buyer_is_maker] for one in value.trades],
        "flow": None if flow is None else [flow.start, flow.end, flow.ofi, flow.gross,
                                           flow.updates],
    })  # fmt: skip


def _load_view(text: str) -> BookView:
    body = json.loads(text)
    book, flow = body["book"], body["flow"]
    if book is not None:
        symbol, at, *sides = book
        book = BookSnapshot(symbol, at, *(tuple((p, q) for p, q in side) for side in sides))
    return BookView(
        book, tuple(Trade(*one) for one in body["trades"]),
        None if flow is None else OrderFlow(*flow),
    )  # fmt: skip


_MAPPINGS = (
    "evidence", "weights", "contributions", "explanations", "absent", "margins", "inputs",
    "model_versions", "body",
)  # fmt: skip
_SPECIAL: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "quantiles": (_quantiles, _load_quantiles),
    "gate": (_gate, _load_gate),
    "view": (_view, _load_view),
    "reasons": (_sequence, _load_tuple),
    "tags": (_sequence, _load_tuple),
    **dict.fromkeys(_MAPPINGS, (_mapping, json.loads)),
}


def _field(table: Table, name: str, enum: type | None) -> Field:
    if name in _SPECIAL:
        return Field(name, *_SPECIAL[name], searchable=False)
    kind = table.c[name].type
    if isinstance(kind, schema.DecimalText):
        return Field(name, decimal_text, Decimal, searchable=False)
    if isinstance(kind, Double):
        return Field(name, _finite, float, searchable=False)
    if isinstance(kind, Boolean):
        return Field(name, _boolean, bool, searchable=True)
    if isinstance(kind, BigInteger):
        return Field(name, _integer, int, searchable=True)
    return Field(name, _text, enum or str, searchable=True)


def _kind(
    name: str,
    of: type,
    table: Table,
    key: Callable[[Any], str],
    enums: Mapping[str, type] | None = None,
    derived: Mapping[str, Callable[[Any], Any]] | None = None,
) -> Kind:
    columns = tuple(_field(table, f.name, (enums or {}).get(f.name)) for f in fields(of))
    numbers = tuple(c.name for c in columns if c.store in (_finite, decimal_text))
    identity = attrgetter("identity" if hasattr(of, "identity") else "id")
    return Kind(name, of, table, key, identity, columns, derived or {}, numbers, _reader(numbers))


def _reader(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda record: tuple(getattr(record, name) for name in names)


def _bar_key(bar: Bar) -> str:
    return f"{bar.symbol} {bar.timeframe} {bar.open_ms}"


def _id(record: Any) -> str:
    return str(record.id)


def _key(record: Any) -> str:
    return str(record.key)


ALL: tuple[Kind, ...] = (
    _kind("bar", Bar, schema.bars, _bar_key),
    _kind("opinion", Opinion, schema.opinions, _key),
    _kind("outcome", Outcome, schema.outcomes, _key),
    _kind(
        "decision", Decision, schema.decisions, _id,
        enums={"intent": Action, "action": Action}, derived={"id": _id},
    ),
    _kind("order", Order, schema.orders, _id, enums={"side": Side, "type": OrderType}),
    _kind("fill", Fill, schema.fills, _id, enums={"side": Side}),
    _kind("posting", Posting, schema.postings, _key),
    _kind("trade", ClosedTrade, schema.trades, _id, derived={"id": _id}),
    _kind("refusal", Refusal, schema.refusals, _key),
    _kind("equity_mark", EquityMark, schema.equity_marks, _key),
    _kind("mode_change", ModeChange, schema.mode_changes, _key, enums={"mode": RiskMode}),
    _kind("risk_event", RiskEvent, schema.risk_events, _key),
    _kind("seen_book", SeenBook, schema.seen_books, _key),
    _kind("settled_funding", SettledFunding, schema.settled_funding, _key),
    _kind("operator_report", OperatorReport, schema.operator_reports, _key),
    _kind("reflection", Reflection, schema.reflections, _key),
    _kind("external_trade", ExternalTrade, schema.external_trades, _id, derived={"id": _id}),
)  # fmt: skip
BY_TYPE: dict[type, Kind] = {kind.type: kind for kind in ALL}
BY_NAME: dict[str, Kind] = {kind.name: kind for kind in ALL}


def kind_of(of: type) -> Kind:
    """Return the kind of a domain type.

    Raises
    ------
    LedgerError : if the ledger holds no such type.
    """
    if of not in BY_TYPE:
        known = ", ".join(kind.type.__name__ for kind in ALL)
        raise LedgerError("record", "must be of a type the ledger holds", of.__name__, known)
    return BY_TYPE[of]


def refuse_unbalanced(records: Sequence[Any]) -> None:
    """Raise LedgerError unless the postings of each entry sum to zero per asset.

    An entry is booked in one piece: all its postings come in one append.
    """
    sums: dict[tuple[str, str], Decimal] = {}
    for record in records:
        if type(record) is Posting:
            place = (record.entry, record.asset)
            sums[place] = EXACT.add(sums.get(place, Decimal(0)), record.amount)
    for (entry, asset), total in sums.items():
        if total:
            rule = f"its {asset} postings must sum to zero in one append"
            raise LedgerError(f"entry {entry}", rule, str(total))
