"""Bars of the ledger, taken into the memory of a process that appends none."""

from __future__ import annotations

from data.memory import MarketMemory
from domain.times import timeframe_ms
from storage.queries import Reader


def follow(reader: Reader, symbol: str, memory: MarketMemory) -> None:
    """Take all stored bars that a memory does not know yet into it."""
    while True:
        last = memory.last_as_of
        after = -1 if last is None else last - timeframe_ms(memory.timeframe)
        frame = reader.bars(symbol, memory.timeframe, after_open_ms=after)
        if not len(frame):
            return
        memory.append(frame)
