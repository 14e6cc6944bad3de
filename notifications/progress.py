"""How far messages came, and how long to wait before the next attempt."""

from __future__ import annotations

from dataclasses import dataclass

from storage.snapshots import SqlSnapshots

SNAPSHOT = "telegram"  # the kind under which places are remembered
_CURSOR = "events"


@dataclass(slots=True)
class Patience:
    """1, 2, 4 … seconds between attempts, up to ``most``."""

    most: float = 30.0
    failures: int = 0

    def next(self) -> float:
        """Note a failure and return how long to wait."""
        self.failures += 1
        return float(min(self.most, 2.0 ** min(self.failures - 1, 16)))


@dataclass(slots=True)
class Cursor:
    """The last event that was taken in; survives a restart."""

    snapshots: SqlSnapshots

    def get(self) -> int | None:
        """Return it, None before the first start."""
        found = self.snapshots.latest(SNAPSHOT, _CURSOR)
        return None if found is None else int(found[1]["event"])

    def begin(self, event_id: int) -> None:
        """Start there, unless it was begun before: what is past is not told."""
        if self.get() is None:
            self.set(event_id)

    def set(self, event_id: int) -> None:
        """Remember it."""
        self.snapshots.save(SNAPSHOT, _CURSOR, 0, {"event": event_id})
