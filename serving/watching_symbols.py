"""The symbols that are watched: kept in a table, taken up at the next start."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from data.instruments import instrument_for
from domain.errors import UsageError
from domain.market import market_of
from serving.requests import SymbolChange, SymbolRequest
from serving.schema import symbol_in
from serving.settings import Settings
from serving.settings.data import TIMEFRAMES
from serving.settings.load import BASE
from serving.settings.model import DEFAULT
from storage.symbols import SymbolRow, Symbols

MOST = 50
UNSET = (DEFAULT, f"configs/{BASE}.yaml")  # where a value comes from that nobody chose


@dataclass(frozen=True, slots=True)
class Watchlist:
    """The table, as the API shows and changes it.

    Attributes
    ----------
    followed : what the desk that runs now follows.
    """

    table: Symbols
    timeframe: str
    followed: Collection[str]

    def all(self) -> list[dict[str, Any]]:
        """Return every symbol, by name."""
        return [self._view(row) for row in self.table.list()]

    def one(self, text: str) -> dict[str, Any]:
        """Return a symbol. Raises NotFound."""
        return self._view(self.table.get(symbol_in(text)))

    def add(self, asked: SymbolRequest) -> dict[str, Any]:
        """Add a symbol.

        Raises
        ------
        UsageError : if it is none, or one too many.
        DuplicateRecord : if it is there.
        """
        symbol = symbol_in(asked.symbol)
        instrument = instrument_for(symbol)
        if len(self.table.list()) >= MOST:
            raise UsageError("symbols", f"are at most {MOST}", symbol, "Remove one first.")
        timeframe = _timeframe(asked.timeframe or self.timeframe)
        row = SymbolRow(symbol, instrument.market, timeframe, asked.active, asked.meta)
        return self._view(self.table.add(row))

    def change(self, text: str, asked: SymbolChange) -> dict[str, Any]:
        """Change what is given of a symbol.

        Raises
        ------
        NotFound : if it is not there.
        UsageError : for a timeframe that is none.
        """
        values = asked.model_dump(exclude_none=True)
        if "timeframe" in values:
            _timeframe(values["timeframe"])
        return self._view(self.table.change(symbol_in(text), **values))

    def remove(self, text: str) -> None:
        """Forget a symbol; its records stay. Raises NotFound."""
        self.table.remove(symbol_in(text))

    def _view(self, row: SymbolRow) -> dict[str, Any]:
        return {
            "symbol": row.symbol, "market": row.market, "timeframe": row.timeframe,
            "active": row.active, "meta": dict(row.meta), "followed": row.symbol in self.followed,
        }  # fmt: skip


def _timeframe(text: str) -> str:
    if text not in TIMEFRAMES:
        raise UsageError("timeframe", f"must be one of {' '.join(TIMEFRAMES)}", text)
    return text


def watched(table: Symbols, settings: Settings) -> tuple[str, ...]:
    """Return what the next start follows: the table's active symbols, unless SYMBOLS is set.

    A table without a row yet takes down what the settings name. Symbols of another timeframe wait
    for a start with theirs.
    """
    named = settings.data.symbols
    if not table.list():
        for symbol in named:
            table.add(SymbolRow(symbol, market_of(symbol), settings.data.timeframe))
    if settings.source_of("SYMBOLS") not in UNSET:
        return named
    rows = table.list(active=True)
    found = tuple(row.symbol for row in rows if row.timeframe == settings.data.timeframe)
    return found or named
