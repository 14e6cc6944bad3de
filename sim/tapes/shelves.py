"""Where the parts of a tape lie: in a folder, or in memory for those who have none."""

from __future__ import annotations

import fnmatch
import os
import threading
from pathlib import Path
from typing import Protocol

from domain.errors import ConclaveError


class Shelf(Protocol):
    """Keeps bytes under names like ``folder/file.parquet``."""

    def get(self, name: str) -> bytes | None:
        """Return what is kept under a name, or None."""
        ...

    def put(self, name: str, body: bytes, instead_of: str) -> None:
        """Keep bytes, whole or not at all, and let go of other names that match a pattern."""
        ...


class MemoryShelf:
    """A shelf that lasts as long as its process."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        """Return what is kept under a name, or None."""
        return self._kept.get(name)

    def put(self, name: str, body: bytes, instead_of: str) -> None:
        """Keep bytes and let go of other names that match."""
        for old in [old for old in self._kept if fnmatch.fnmatchcase(old, instead_of)]:
            del self._kept[old]
        self._kept[name] = body


class FolderShelf:
    """A shelf on disk; any number of processes may use it at once.

    Parameters
    ----------
    root : made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, name: str) -> bytes | None:
        """Return a file's bytes, or None if there is none.

        Raises
        ------
        ConclaveError : if it is there and cannot be read.
        """
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConclaveError(
                name, f"cannot be read: {error.strerror or error}",
                hint="Check the rights of the tape folder, or remove it: it is made again.",
            ) from error  # fmt: skip

    def put(self, name: str, body: bytes, instead_of: str) -> None:
        """Write a file and remove those that match; a reader sees the whole file or none.

        Raises
        ------
        ConclaveError : if the disk is full, read-only or otherwise unwilling; what was there stays.
        """
        path = self.root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, body)
            for old in self.root.glob(instead_of):
                if old != path:
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise ConclaveError(
                name, f"cannot be written: {error.strerror or error}",
                hint="Free some space, or choose a writable tape folder; what is on tape stays.",
            ) from error  # fmt: skip


def _replace(path: Path, body: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        # Not synced to the disk: after a power cut a damaged part is found out and made again.
        temporary.write_bytes(body)
        temporary.replace(path)
    except FileNotFoundError:
        if not path.exists():  # else another writer of the same part tidied up, see below
            raise
    finally:
        temporary.unlink(missing_ok=True)
    for left in path.parent.glob(f".{path.name}.*.tmp"):  # of a writer that was killed
        left.unlink(missing_ok=True)
