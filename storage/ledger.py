"""The ledger on SQL: one hash chain for the whole database, typed tables per kind of record.

A *world* names the market a session lives in (``binance``, ``demo-7``): worlds share the chain
and its numbers, but no record of one is ever seen in another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Select, insert, select
from sqlalchemy.exc import IntegrityError

from domain.errors import DuplicateRecord, UsageError
from storage import kinds
from storage.chaining import GENESIS, link
from storage.engine import read, write
from storage.kinds import Kind, Row
from storage.schema import chain
from storage.verify import VerifyReport, verify_chain

R = TypeVar("R")
Place = tuple[str, str]
"""Name of the kind, and key."""
_CHUNK = 1000  # rows read at once; no read transaction stays open between chunks
_LOOKUP = 500  # keys in one IN (…)
_INTO = {kind.name: insert(kind.table) for kind in kinds.ALL}
_INTO_CHAIN = insert(chain)
_HEAD = select(chain.c.seq, chain.c.hash).order_by(chain.c.seq.desc()).limit(1)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record on its way into the database."""

    kind: Kind
    key: str
    row: Row

    @property
    def place(self) -> Place:
        return self.kind.name, self.key


class SqlLedger:
    """The records of one world; implements :class:`domain.ports.Ledger`.

    Parameters
    ----------
    engine : from :func:`storage.engine.open_database`, migrated.
    world : non-empty name of the market this session lives in.
    """

    def __init__(self, engine: Engine, world: str) -> None:
        if not world or "\n" in world:
            raise UsageError("world", "must be one non-empty line", world)
        self.engine = engine
        self.world = world

    def append(self, records: Sequence[Any]) -> list[int]:
        """Store records in one transaction and return their numbers; all of them or none.

        A record stored before with equal content is skipped and keeps its old number.

        Raises
        ------
        DuplicateRecord : if a key is stored with other content.
        LedgerError : if a record has no place here, holds NaN, or an entry does not balance.
        ServiceUnreachable : if another process keeps the database locked.
        """
        entries = [_entry(record) for record in records]
        kinds.refuse_unbalanced(records)
        fresh = _distinct(entries)
        if not fresh:
            return []
        try:
            with write(self.engine) as connection:
                numbers = self._store(connection, fresh)
        except IntegrityError:  # at least one is stored, and so none of them was
            with write(self.engine) as connection:
                numbers = self._known(connection, fresh)
                numbers |= self._store(connection, [e for e in fresh if e.place not in numbers])
        return [numbers[entry.place] for entry in entries]

    def records(self, kind: type[R], after: int = 0, **where: Any) -> Iterator[tuple[int, R]]:
        """Iterate over (number, record) of one type in order, ``seq > after``.

        ``where`` tests plain fields for equality: ``symbol="BTC/USDT", as_of=…``.

        Raises
        ------
        UsageError : if ``where`` names a Decimal, a float, a mapping or no field at all.
        """
        return self._stream(kinds.kind_of(kind), after, where)

    def records_since(self, after: int = 0) -> Iterator[tuple[int, Any]]:
        """Iterate over (number, record) of all types in order, ``seq > after``, in chunks."""
        spine = select(chain.c.seq, chain.c.kind).where(chain.c.world == self.world)
        while True:
            query = spine.where(chain.c.seq > after).order_by(chain.c.seq).limit(_CHUNK)
            with read(self.engine) as connection:
                rows = connection.execute(query).all()
                if not rows:
                    return
                found = {
                    name: self._between(connection, kinds.BY_NAME[name], rows[0][0], rows[-1][0])
                    for name in {row.kind for row in rows}
                }
            for seq, name in rows:
                yield seq, kinds.BY_NAME[name].decode(found[name].get(seq, {}), seq)
            after = rows[-1][0]

    def find(self, kind: type[R], key: str) -> tuple[int, R] | None:
        """Return (number, record) of one type by its id or key, or None."""
        of = kinds.kind_of(kind)
        query = (
            select(of.table)
            .join(chain, chain.c.seq == of.table.c.seq)
            .where(chain.c.world == self.world, chain.c.record_key == key, chain.c.kind == of.name)
        )
        with read(self.engine) as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else (row["seq"], of.decode(row, row["seq"]))

    def head(self) -> tuple[int, str]:
        """Return the newest number and hash of the whole chain; (0, 64 zeros) when empty."""
        with read(self.engine) as connection:
            return _head(connection)

    def verify(self) -> VerifyReport:
        """Check the whole database's chain, every world in it, and the double entry."""
        return verify_chain(self.engine)

    def _known(self, connection: Connection, entries: Sequence[_Entry]) -> dict[Place, int]:
        """Return the numbers of those entries that are stored, after comparing their content."""
        keys = sorted({entry.key for entry in entries})
        stored: dict[Place, int] = {}
        for i in range(0, len(keys), _LOOKUP):
            query = select(chain.c.kind, chain.c.record_key, chain.c.seq).where(
                chain.c.world == self.world, chain.c.record_key.in_(keys[i : i + _LOOKUP])
            )
            stored |= {(kind, key): seq for kind, key, seq in connection.execute(query)}
        numbers = {e.place: stored[e.place] for e in entries if e.place in stored}
        seen = self._contents(connection, entries, numbers)
        for entry in entries:
            if seen.get(entry.place, entry.row) != entry.row:
                _refuse_other(entry, seen[entry.place], f"row {numbers[entry.place]}")
        return numbers

    def _contents(
        self,
        connection: Connection,
        entries: Sequence[_Entry],
        numbers: dict[Place, int],
    ) -> dict[Place, Row]:
        """Return the stored rows of the entries that have a number."""
        kinds_of = {entry.place: entry.kind for entry in entries if entry.place in numbers}
        by_seq: dict[int, Row] = {}
        for kind in set(kinds_of.values()):
            seqs = [numbers[place] for place, of in kinds_of.items() if of is kind]
            for i in range(0, len(seqs), _LOOKUP):
                query = select(kind.table).where(kind.table.c.seq.in_(seqs[i : i + _LOOKUP]))
                for row in connection.execute(query).mappings():
                    by_seq[row["seq"]] = {
                        name: value for name, value in row.items() if name not in ("seq", "world")
                    }
        return {place: by_seq.get(numbers[place], {}) for place in kinds_of}

    def _store(self, connection: Connection, entries: Sequence[_Entry]) -> dict[Place, int]:
        """Store entries whose keys are new, and return their numbers.

        Raises
        ------
        IntegrityError : if a key is not.
        """
        if not entries:
            return {}
        seq, digest = _head(connection)
        numbers: dict[Place, int] = {}
        links: list[Row] = []
        rows: dict[str, list[Row]] = {}
        for entry in entries:
            name, key = entry.place
            digest = link(digest, name, self.world, entry.kind.hashed(key, entry.row))
            seq += 1
            numbers[entry.place] = seq
            place = {"seq": seq, "world": self.world}
            links.append({**place, "kind": name, "record_key": key, "hash": digest})
            rows.setdefault(name, []).append({**place, **entry.row})
        connection.execute(_INTO_CHAIN, links)
        for name, values in rows.items():
            connection.execute(_INTO[name], values)
        return numbers

    def _stream(self, kind: Kind, after: int, where: dict[str, Any]) -> Iterator[tuple[int, Any]]:
        base = filtered(kind, self.world, where)
        while True:
            query = base.where(kind.table.c.seq > after).order_by(kind.table.c.seq).limit(_CHUNK)
            with read(self.engine) as connection:
                rows = connection.execute(query).mappings().all()
            for row in rows:
                yield row["seq"], kind.decode(row, row["seq"])
            if len(rows) < _CHUNK:
                return
            after = rows[-1]["seq"]

    def _between(self, connection: Connection, kind: Kind, first: int, last: int) -> dict[int, Any]:
        query = filtered(kind, self.world, {}).where(kind.table.c.seq.between(first, last))
        return {row["seq"]: row for row in connection.execute(query).mappings()}


def filtered(kind: Kind, world: str, where: dict[str, Any]) -> Select[Any]:
    """Select a world's rows of one kind by equality of plain fields; UsageError for others."""
    kind.refuse_unknown(where)
    columns = kind.table.c
    tests = [columns[name] == value for name, value in where.items()]
    return select(kind.table).where(columns.world == world, *tests)


def _entry(record: Any) -> _Entry:
    kind = kinds.kind_of(type(record))
    row = kind.encode(record)
    return _Entry(kind, kind.key(record), row)


def _head(connection: Connection) -> tuple[int, str]:
    row = connection.execute(_HEAD).first()
    return (0, GENESIS) if row is None else (row[0], row[1])


def _distinct(entries: Sequence[_Entry]) -> list[_Entry]:
    """Return the entries without those told twice; DuplicateRecord if they differ."""
    first: dict[Place, _Entry] = {}
    for entry in entries:
        told = first.setdefault(entry.place, entry)
        if told.row != entry.row:
            _refuse_other(entry, told.row, "the same append")
    return list(first.values())


def _refuse_other(entry: _Entry, stored: Row, where: str) -> None:
    differing = sorted(name for name in entry.row if entry.row[name] != stored.get(name))
    raise DuplicateRecord(
        f"{entry.kind.name} {entry.key}", f"is in {where} with other content", differing,
        "What is written stays: append a new record instead.",
    )  # fmt: skip
