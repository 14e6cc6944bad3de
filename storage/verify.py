"""Walking the chain: which row, if any, is not what was appended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from domain.errors import DatabaseDamaged, LedgerError
from storage import kinds
from storage.bookkeeping import BadRow, Books
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


@dataclass(slots=True)
class Walk:
    """Where a walk along the chain is: the last good row, and its hash."""

    seq: int = 0
    digest: str = GENESIS

    def step(self, link_row: Any, row: dict[str, Any] | None) -> None:
        """Check the next row, whose ``world`` is taken out of it.

        Raises
        ------
        BadRow : if it is not the row that was appended here.
        """
        seq, world, name, key, stored = link_row
        if seq != self.seq + 1:
            raise BadRow(self.seq + 1, "is missing from the chain")
        if name not in kinds.BY_NAME:
            raise BadRow(seq, f"is of the unknown kind {name!r}")
        if row is None:
            raise BadRow(seq, f"is missing from {kinds.BY_NAME[name].table.name}")
        if row.pop("world") != world:
            raise BadRow(seq, "was moved to another world")
        try:
            digest = link(self.digest, name, world, kinds.BY_NAME[name].hashed(key, row))
        except (TypeError, ValueError, LedgerError) as error:
            raise BadRow(seq, f"holds a value that was never appended ({error})") from error
        if digest != stored:
            raise BadRow(
                seq, f"does not match its hash: this {name}, its place or its link changed"
            )
        self.seq, self.digest = seq, digest


def verify_chain(engine: Engine, tick: Callable[[int], None] | None = None) -> VerifyReport:
    """Check every row of every world: numbers, content, links, and that the books add up.

    What a chain cannot show by itself is a cut at its end; rows beyond the end and snapshots of
    rows that are gone are reported, and a head noted elsewhere settles it.

    Parameters
    ----------
    tick : called now and then with the number of rows checked.
    """
    walk, books = Walk(), Books()
    bad: BadRow | None = None
    try:
        with read(engine) as connection:  # one view: rows appended meanwhile do not count
            for link_row, row in chain_rows(connection):
                walk.step(link_row, row)
                books.take(walk.seq, link_row.world, link_row.kind, row or {})
                if tick is not None and walk.seq % _CHUNK == 0:
                    tick(walk.seq)
            books.close()
            _refuse_beyond(connection, walk.seq)
    except BadRow as found:
        bad = found
    totals = {" ".join(book): kinds.decimal_text(sum_) for book, sum_ in books.totals.items()}
    return VerifyReport(
        ok=bad is None,
        rows=walk.seq,
        head_seq=walk.seq,
        head_hash=walk.digest,
        first_bad_seq=None if bad is None else bad.seq,
        problem="" if bad is None else f"row {bad.seq} {bad.problem}",
        totals=dict(sorted(totals.items())),
    )


def verify_tail(engine: Engine, rows: int) -> str:
    """Check the newest rows against the hash before them; return what is wrong, "" if nothing."""
    try:
        with read(engine) as connection:
            head = connection.execute(select(func.max(chain.c.seq))).scalar() or 0
            before = select(chain.c.seq, chain.c.hash).where(chain.c.seq == max(head - rows, 0))
            start = connection.execute(before).first()
            walk = Walk() if start is None else Walk(*start)
            for link_row, row in chain_rows(connection, walk.seq):
                walk.step(link_row, row)
            _refuse_beyond(connection, walk.seq)
    except BadRow as bad:
        return f"row {bad.seq} {bad.problem}"
    return ""


def trouble(engine: Engine, rows: int = 2_000) -> str:
    """Look for damage within a second: the file's structure (SQLite) and the newest rows.

    Returns
    -------
    What is wrong, "" if nothing; :func:`verify_chain` is what looks at everything.
    """
    try:
        if engine.dialect.name == "sqlite":
            with read(engine) as connection:
                found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
            if found != "ok":
                return " ".join(found.replace("*** in database main ***", "").split())
        return verify_tail(engine, rows)
    except DatabaseDamaged as error:
        return error.message


def chain_rows(
    connection: Connection, after: int = 0
) -> Iterator[tuple[Any, dict[str, Any] | None]]:
    """Iterate over (row of the chain, its typed row with ``world``, or None if that is gone).

    Raises
    ------
    BadRow : at a row that cannot be read, or that the chain does not know.
    """
    size = _CHUNK
    while True:
        try:
            links, rows = _chunk(connection, after, size)
        except LedgerError as error:  # a damaged page: go row by row to name the first one
            if size == 1:
                raise BadRow(after + 1, f"cannot be read ({error.message})") from error
            size = 1
            continue
        for link_row in links:
            yield link_row, rows.pop((link_row.kind, link_row.seq), None)
        for name, seq in sorted(rows, key=lambda place: place[1]):
            raise BadRow(
                seq, f"is in {kinds.BY_NAME[name].table.name} but not in the chain as such"
            )
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
            raise BadRow(head + 1, f"is missing: {table.name} goes on to row {newest}")
