"""What the ledger could not take at a moment that did not wait: kept beside it for the next start.

A kill while the database is away sends exits all the same. Without this the next process would
know neither of them nor of the kill.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from domain.errors import DuplicateRecord, LedgerError
from domain.ports import Ledger
from storage import kinds

_COMPARE = (
    "It holds orders that were sent while the database was away: compare with the exchange, then "
    "remove the file."
)


class FileAside:
    """Implements :class:`domain.ports.Aside` by a file with a record a line, in their order.

    Parameters
    ----------
    path : of one world's file; it is there only while it holds something.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, records: Sequence[Any]) -> None:
        """Add records; a power cut after this returns does not lose them.

        Raises
        ------
        OSError : if the disk does not take them.
        LedgerError : if one is none that the ledger holds.
        """
        kept = self._path.read_bytes() if self._path.exists() else b""
        temporary = self._path.with_name(f"{self._path.name}.tmp")
        with temporary.open("wb") as file:
            file.write(kept + b"".join(map(_line, records)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def settle(self, ledger: Ledger) -> None:
        """Append to the ledger what was put aside, then forget it.

        Raises
        ------
        LedgerError : if the file is damaged, or the ledger does not take it.
        ServiceUnreachable : if the ledger is away still.
        """
        if not self._path.exists():
            return
        try:
            ledger.append(list(self._records()))
        except DuplicateRecord as error:
            raise LedgerError(
                str(self._path), "must go with what the ledger holds", error.message, _COMPARE
            ) from error
        self._path.unlink()

    def _records(self) -> Iterator[Any]:
        for number, line in enumerate(self._path.read_bytes().splitlines(), 1):
            try:
                name, row = json.loads(line)
                yield kinds.BY_NAME[name].decode(row, number)
            except (ValueError, TypeError, LookupError, LedgerError) as error:
                raise LedgerError(
                    str(self._path), f"line {number} cannot be read", line,
                    _COMPARE,
                ) from error  # fmt: skip


def _line(record: Any) -> bytes:
    kind = kinds.kind_of(type(record))
    return json.dumps([kind.name, kind.encode(record)]).encode() + b"\n"
