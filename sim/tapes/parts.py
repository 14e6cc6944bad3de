"""How a memory is cut into the parts of a tape, and what a part's opinions depend on.

Parts lie on a grid of absolute time, so that ranges which overlap share them. What an agent says
about a bar depends on the bars since the last gap and on nothing else (features and states start
anew there), so a part is known by the SHA-256 of the bars from the last gap before its first bar
to its last bar. Bars that are appended leave it as it is; a bar that changes makes another part
of its own and of every later one up to the next gap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from domain.market import BarFrame

_COLUMNS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Part:
    """Bars of one cell of the grid.

    Attributes
    ----------
    cell : open of the cell, UTC ms.
    start, stop : rows [start, stop) of the memory.
    whole : False if a later bar may still belong to it.
    bars : hash of all that its opinions can depend on, 64 hexadecimal digits.
    """

    cell: int
    start: int
    stop: int
    whole: bool
    bars: str

    def __len__(self) -> int:
        return self.stop - self.start


def parts_of(bars: BarFrame, first: int, last: int, length: int) -> list[Part]:
    """Return the parts that hold the rows [first, last), in order.

    Parameters
    ----------
    bars : all that the memory holds, from its first bar; later ones may follow ``last``.
    length : of a cell, in bars.
    """
    span = length * bars.step_ms
    cells = bars.ts // span
    edges = [0, *(np.flatnonzero(np.diff(cells)) + 1).tolist(), len(bars)]
    cuts = [(a, b) for a, b in pairwise(edges) if a < last and b > first]
    ends = int(bars.ts[-1]) + bars.step_ms
    made = []
    for (a, b), digest in zip(cuts, _digests(bars, cuts), strict=True):
        cell = int(cells[a]) * span
        made.append(Part(cell, a, b, cell + span <= ends, digest))
    return made


def _digests(bars: BarFrame, cuts: list[tuple[int, int]]) -> Iterator[str]:
    rows, since = _rows(bars), bars.bars_since_gap()
    begun, at, run = -1, 0, hashlib.sha256()
    for a, b in cuts:
        begin = a - int(since[a]) + 1
        if begin != begun:
            begun, at, run = begin, begin, hashlib.sha256()
        run.update(rows[at:a].data)
        at = a
        part = run.copy()
        part.update(rows[a:b].data)
        yield part.hexdigest()


def _rows(bars: BarFrame) -> NDArray[np.int64]:
    """The bits of ts and of the five prices and volume, bar by bar, little-endian, (n, 6)."""
    rows = np.empty((len(bars), 1 + len(_COLUMNS)), dtype="<i8")
    rows[:, 0] = bars.ts
    for k, name in enumerate(_COLUMNS, 1):
        rows[:, k] = np.ascontiguousarray(getattr(bars, name), dtype="<f8").view("<i8")
    return rows
