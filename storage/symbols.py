"""The symbols that are watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sqlalchemy import Engine, delete, insert, select, update

from domain.errors import DuplicateRecord, NotFound, UsageError
from storage.engine import read, write
from storage.schema import symbols


@dataclass(frozen=True, slots=True)
class SymbolRow:
    """A symbol (ccxt-unified) and how it is watched."""

    symbol: str
    market: str  # spot or perp
    timeframe: str
    active: bool = True
    meta: Mapping[str, Any] = field(default_factory=dict)


class Symbols:
    """The table of symbols, shared by all worlds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, row: SymbolRow) -> SymbolRow:
        """Add a symbol. Raises DuplicateRecord if it is there."""
        with write(self._engine) as connection:
            query = select(symbols.c.symbol).where(symbols.c.symbol == row.symbol)
            if connection.execute(query).first() is not None:
                raise DuplicateRecord("symbol", "is there already", row.symbol)
            connection.execute(insert(symbols), asdict(row))
        return row

    def get(self, symbol: str) -> SymbolRow:
        """Return a symbol. Raises NotFound if it is not there."""
        with read(self._engine) as connection:
            row = connection.execute(select(symbols).where(symbols.c.symbol == symbol)).first()
        if row is None:
            raise _missing(symbol)
        return SymbolRow(*row)

    def list(self, active: bool | None = None) -> list[SymbolRow]:
        """Return all symbols by name, or only those that are (in)active."""
        query = select(symbols).order_by(symbols.c.symbol)
        if active is not None:
            query = query.where(symbols.c.active.is_(active))
        with read(self._engine) as connection:
            return [SymbolRow(*row) for row in connection.execute(query)]

    def change(self, symbol: str, **values: Any) -> SymbolRow:
        """Change market, timeframe, active or meta and return the symbol as it is now.

        Raises
        ------
        NotFound : if it is not there.
        UsageError : if ``values`` names anything else.
        """
        known = [f.name for f in fields(SymbolRow) if f.name != "symbol"]
        for name in values:
            if name not in known:
                raise UsageError("symbol field", "cannot be changed", name, ", ".join(known))
        if values:
            with write(self._engine) as connection:
                change = update(symbols).where(symbols.c.symbol == symbol).values(**values)
                if not connection.execute(change).rowcount:
                    raise _missing(symbol)
        return self.get(symbol)

    def remove(self, symbol: str) -> None:
        """Remove a symbol; its records stay. Raises NotFound if it is not there."""
        with write(self._engine) as connection:
            if not connection.execute(delete(symbols).where(symbols.c.symbol == symbol)).rowcount:
                raise _missing(symbol)


def _missing(symbol: str) -> NotFound:
    return NotFound("symbol", "is not watched", symbol, "Add it first.")
