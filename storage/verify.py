"""Walking the chain: which row, if any, is not what was appended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from domain.errors import LedgerError
from storage import kinds
from storage.chaining import GENESIS, link
from storage.engine import read
from storage.schema import TYPED, chain, snapshots

_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a walk along the chain found.

    Attributes
    ----------
    rows : rows that were checked and found good before the first bad one.
    head_seq, head_hash : the newest row that was checked and found good; (0, 64 zeros) if none.
    first_bad_seq : the first row that is altered, missing, extra or moved, or None.
    problem : what is wrong with it, "" if nothing is.
    totals : "world account book asset" → sum of all postings (Decimal text).
    """

    ok: bool
    rows: int
    head_seq: int
    head_hash: str
    first_bad_seq: int | None
    problem: str
    totals: dict[str, str]


class _Bad(Exception):
    def __init__(self, seq: int, problem: str) -> None:
        self.seq, self.problem = seq, problem
        super().__init__(problem)


@dataclass(slots=True)
class _Walk:
    """Where the walk is, and the books so far."""

    seq: int = 0
    digest: str = GENESIS
    open_entries: dict[tuple[str, str, str], tuple[int, Decimal]] = field(default_factory=dict)
    totals: dict[tuple[str, str, str, str], Decimal] = field(default_factory=dict)

    def step(self, link_row: Any, row: dict[str, Any] | None) -> None:
        seq, world, name, key, stored = link_row
        if seq != self.seq + 1:
            raise _Bad(self.seq + 1, "is missing from the chain")
        if name not in kinds.BY_NAME:
            raise _Bad(seq, f"is of the unknown kind {name!r}")
        if row is None:
            raise _Bad(seq, f"is missing from {kinds.BY_NAME[name].table.name}")
        if row.pop("world") != world:
            raise _Bad(seq, "was moved to another world")
        try:
            digest = link(self.digest, name, world, kinds.BY_NAME[name].hashed(key, row))
        except (TypeError, ValueError, LedgerError) as error:
            raise _Bad(seq, f"holds a value that was never appended ({error})") from error
        if digest != stored:
            raise _Bad(seq, f"does not match its hash: this {name}, its place or its link changed")
        self.seq, self.digest = seq, digest
        if name == "posting":
            self._book(seq, world, row)

    def _book(self, seq: int, world: str, row: dict[str, Any]) -> None:
        amount = Decimal(row["amount"])
        entry = (world, row["entry"], row["asset"])
        first, before = self.open_entries.pop(entry, (seq, Decimal(0)))
        if total := kinds.EXACT.add(before, amount):
            self.open_entries[entry] = (first, total)
        book = (world, row["account"], row["book"], row["asset"])
        self.totals[book] = kinds.EXACT.add(self.totals.get(book, Decimal(0)), amount)

    def balance(self) -> None:
        for (_, entry, asset), (seq, total) in self.open_entries.items():
            raise _Bad(seq, f"begins entry {entry}, whose {asset} postings sum to {total}")


def verify_chain(engine: Engine) -> VerifyReport:
    """Check every row of every world: numbers, content, links, and that each entry balances.

    What a chain cannot show by itself is a cut at its end; rows beyond the end and snapshots of
    rows that are gone are reported, and a head noted elsewhere settles it.
    """
    walk = _Walk()
    bad: _Bad | None = None
    try:
        with read(engine) as connection:  # one view: rows appended meanwhile do not count
            for link_row, row in chain_rows(connection):
                walk.step(link_row, row)
            walk.balance()
            _refuse_beyond(connection, walk.seq)
    except _Bad as found:
        bad = found
    totals = {" ".join(book): kinds.decimal_text(sum_) for book, sum_ in walk.totals.items()}
    return VerifyReport(
        ok=bad is None,
        rows=walk.seq,
        head_seq=walk.seq,
        head_hash=walk.digest,
        first_bad_seq=None if bad is None else bad.seq,
        problem="" if bad is None else f"row {bad.seq} {bad.problem}",
        totals=dict(sorted(totals.items())),
    )


def chain_rows(connection: Connection) -> Iterator[tuple[Any, dict[str, Any] | None]]:
    """Iterate over (row of the chain, its typed row with ``world``, or None if that is gone)."""
    after, size = 0, _CHUNK
    while True:
        try:
            links, rows = _chunk(connection, after, size)
        except LedgerError as error:  # a damaged page: go row by row to name the first one
            if size == 1:
                raise _Bad(after + 1, f"cannot be read ({error.message})") from error
            size = 1
            continue
        for link_row in links:
            yield link_row, rows.pop((link_row.kind, link_row.seq), None)
        for name, seq in sorted(rows, key=lambda place: place[1]):
            raise _Bad(seq, f"is in {kinds.BY_NAME[name].table.name} but not in the chain as such")
        if len(links) < size:
            return
        after = links[-1].seq


def _chunk(
    connection: Connection, after: int, size: int
) -> tuple[list[Any], dict[tuple[str, int], dict[str, Any]]]:
    query = select(chain).where(chain.c.seq > after).order_by(chain.c.seq).limit(size)
    links = list(connection.execute(query))
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    if links:
        for kind in kinds.ALL:
            found = select(kind.table).where(kind.table.c.seq.between(after + 1, links[-1].seq))
            for row in connection.execute(found).mappings():
                values = dict(row)
                rows[kind.name, values.pop("seq")] = values
    return links, rows


def _refuse_beyond(connection: Connection, head: int) -> None:
    for table in (*TYPED, snapshots):
        newest = connection.execute(select(func.max(table.c.seq))).scalar()
        if newest is not None and newest > head:
            raise _Bad(head + 1, f"is missing: {table.name} goes on to row {newest}")
