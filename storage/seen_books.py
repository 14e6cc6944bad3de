"""Order books that were seen, out of the ledger: what agents and fills are shown again."""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Iterable

from sqlalchemy import Engine, func, select

from domain.market import BookView, SeenBook
from storage import kinds
from storage.engine import read
from storage.schema import seen_books

REACH_MS = 60_000  # a book that is older says nothing of an instant
_KEPT = 512
_NOTHING = BookView()


class SqlBooks:
    """One world's seen books: a :class:`domain.ports.BookSource`.

    What this process saw itself is remembered; the rest is read, once it is asked for.
    """

    def __init__(self, engine: Engine, world: str) -> None:
        self._engine, self._world = engine, world
        self._kind = kinds.kind_of(SeenBook)
        self._kept: OrderedDict[tuple[str, int], BookView] = OrderedDict()
        self._fresh: dict[str, list[SeenBook]] = {}
        self._first: dict[str, int | None] = {}  # the oldest of a symbol; never changes once known

    def remember(self, seen: Iterable[SeenBook]) -> None:
        """Take in what is about to be stored."""
        for one in seen:
            rows = self._fresh.setdefault(one.symbol, [])
            insort(rows, one, key=lambda row: row.at)
            del rows[:-_KEPT]

    def look(self, symbol: str, as_of: int) -> BookView:
        """Return the newest view at or before ``as_of`` (ms), or an empty one."""
        for one in reversed(self._fresh.get(symbol, ())):
            if one.at <= as_of:
                return one.view if as_of - one.at <= REACH_MS else _NOTHING
        if as_of < self._oldest(symbol):
            return _NOTHING
        key = (symbol, as_of)
        found = self._kept.get(key)
        if found is None:
            found = self._read(symbol, as_of)
            if found is None:
                return _NOTHING  # it may still come
            self._kept[key] = found
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def _oldest(self, symbol: str) -> int:
        found = self._first.get(symbol)
        if found is None:
            query = select(func.min(seen_books.c.at)).where(
                seen_books.c.world == self._world, seen_books.c.symbol == symbol
            )
            with read(self._engine) as connection:
                found = self._first[symbol] = connection.execute(query).scalar()
        return 2**62 if found is None else found

    def _read(self, symbol: str, as_of: int) -> BookView | None:
        table = seen_books.c
        query = (
            select(seen_books)
            .where(
                table.world == self._world, table.symbol == symbol, table.at <= as_of,
                table.at >= as_of - REACH_MS,
            )
            .order_by(table.at.desc())
            .limit(1)
        )  # fmt: skip
        with read(self._engine) as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        seen: SeenBook = self._kind.decode(row, row["seq"])
        return seen.view
