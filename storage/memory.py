"""The ports of this package without SQL: for backtests, and for tests of everyone else."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from domain.canonical import plain
from domain.errors import DuplicateRecord
from domain.trading import Event
from storage import kinds
from storage.chaining import GENESIS

R = TypeVar("R")
Place = tuple[type, Hashable]
"""Type and identity of a record."""


class MemoryLedger:
    """A :class:`domain.ports.Ledger` that forgets everything at the end.

    It keeps the laws of :func:`storage.checks.check_ledger`. Its head's hash follows the keys
    appended, not their content: nothing is encoded, so that a backtest stays fast.
    """

    def __init__(self) -> None:
        self._rows: list[Any] = []
        self._seqs: dict[Place, int] = {}
        self._by_type: dict[type, list[int]] = {}
        self._keys: dict[tuple[type, str], int] = {}  # of the first rows, up to the last question
        self._hashed = 0
        self._digest = GENESIS

    def append(self, records: Sequence[Any]) -> list[int]:
        """Store records, all of them or none; see :meth:`storage.ledger.SqlLedger.append`.

        Raises
        ------
        DuplicateRecord : if a key is stored with other content.
        LedgerError : if a record has no place here, holds NaN, or an entry does not balance.
        """
        places: list[Place] = []
        fresh: dict[Place, Any] = {}
        for record in records:
            kind = kinds.kind_of(type(record))
            kind.refuse_nan(record)
            place = (kind.type, kind.identity(record))
            places.append(place)
            seq = self._seqs.get(place)
            stored = fresh.get(place) if seq is None else self._rows[seq - 1]
            if stored is None:
                fresh[place] = record
            elif stored is not record:
                _refuse_other(kind, stored, record)
        kinds.refuse_unbalanced(records)
        for place, record in fresh.items():
            self._rows.append(record)
            seq = self._seqs[place] = len(self._rows)
            self._by_type.setdefault(place[0], []).append(seq)
        return [self._seqs[place] for place in places]

    def records(self, kind: type[R], after: int = 0, **where: Any) -> Iterator[tuple[int, R]]:
        """Iterate over (number, record) of one type in order; ``where`` tests for equality."""
        kinds.kind_of(kind).refuse_unknown(where)
        seqs = self._by_type.get(kind, [])
        for seq in seqs[bisect_right(seqs, after) :]:
            record = self._rows[seq - 1]
            if all(getattr(record, name) == value for name, value in where.items()):
                yield seq, record

    def records_since(self, after: int = 0) -> Iterator[tuple[int, Any]]:
        """Iterate over (number, record) of all types in order, ``seq > after``."""
        yield from enumerate(self._rows[after:], start=after + 1)

    def find(self, kind: type[R], key: str) -> tuple[int, R] | None:
        """Return (number, record) of one type by its id or key, or None."""
        for i in range(len(self._keys), len(self._rows)):
            of = kinds.BY_TYPE[type(self._rows[i])]
            self._keys[of.type, of.key(self._rows[i])] = i + 1
        seq = self._keys.get((kind, key))
        return None if seq is None else (seq, self._rows[seq - 1])

    def head(self) -> tuple[int, str]:
        """Return the newest number and a hash of the keys; (0, 64 zeros) when empty."""
        for record in self._rows[self._hashed :]:
            of = type(record)
            text = f"{self._digest}\n{of.__name__}\n{kinds.BY_TYPE[of].key(record)}"
            self._digest = hashlib.sha256(text.encode()).hexdigest()
        self._hashed = len(self._rows)
        return self._hashed, self._digest


class MemorySnapshots:
    """A :class:`domain.ports.SnapshotStore` that keeps the newest per kind and key."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}

    def save(self, kind: str, key: str, seq: int, body: Mapping[str, Any]) -> bool:
        """Keep a state that includes all rows up to ``seq``; it knows no ledger to compare with."""
        if seq >= self._kept.get((kind, key), (0, {}))[0]:
            self._kept[kind, key] = (seq, plain(body))
        return True

    def latest(self, kind: str, key: str) -> tuple[int, dict[str, Any]] | None:
        """Return the newest (seq, body), or None."""
        return self._kept.get((kind, key))


class MemoryOutbox:
    """A :class:`domain.ports.Outbox` that lists what was put, once per key, in order."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}

    def put(self, event: Event, key: str) -> None:
        """Queue once per key."""
        self.events.setdefault(key, event)


def _refuse_other(kind: kinds.Kind, stored: Any, record: Any) -> None:
    before, now = kind.encode(stored), kind.encode(record)
    differing = sorted(name for name in now if now[name] != before[name])
    if differing:
        raise DuplicateRecord(
            f"{kind.name} {kind.key(record)}", "is stored with other content", differing,
            "What is written stays: append a new record instead.",
        )  # fmt: skip
