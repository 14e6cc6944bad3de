"""What funding stamps paid, out of the ledger: what positions are charged, and charged again."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Engine

from domain.market import SettledFunding
from storage.ledger import SqlLedger


class SqlFunding:
    """One world's settled funding: (symbol, stamp in ms) → rate, fraction of notional."""

    def __init__(self, engine: Engine, world: str) -> None:
        self._ledger = SqlLedger(engine, world)
        self._rates: dict[tuple[str, int], float] = {}
        self._read = 0  # number of the last row that is known

    def remember(self, settled: Iterable[SettledFunding]) -> None:
        """Take in what is about to be stored; the first rate of a stamp holds."""
        for one in settled:
            self._rates.setdefault(one.identity, one.rate)

    def look(self, symbol: str, stamp: int) -> float | None:
        """Return the rate of a stamp; None where nobody saw one."""
        found = self._rates.get((symbol, stamp))
        if found is None:
            for seq, one in self._ledger.records(SettledFunding, self._read):
                self._read = seq
                self.remember((one,))
            found = self._rates.get((symbol, stamp))
        return found
