"""One holder at a time: who may run the desk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update

from domain.ports import Clock
from storage.engine import read, write
from storage.schema import leases


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, until when (ms), and what it says about itself."""

    owner: str
    expires_at: int
    info: dict[str, Any]


class Lease:
    """A named lease that runs out ``ttl_ms`` after it was last renewed.

    Parameters
    ----------
    owner : unique per process and start, e.g. host, pid and start time.
    clock : the wall clock that all contenders share.
    """

    def __init__(self, engine: Engine, name: str, owner: str, ttl_ms: int, clock: Clock) -> None:
        self._engine = engine
        self._name = name
        self._owner = owner
        self._ttl_ms = ttl_ms
        self._clock = clock

    def acquire(self, info: Mapping[str, Any] | None = None) -> bool:
        """Take the lease if it is free, stale or ours; ``info`` is kept beside it."""
        with write(self._engine) as connection:
            if (held := self._live(connection)) is not None and held.owner != self._owner:
                return False
            connection.execute(delete(leases).where(leases.c.name == self._name))
            row = {
                "name": self._name, "owner": self._owner, "info": dict(info or {}),
                "expires_at": self._clock.now() + self._ttl_ms,
            }  # fmt: skip
            connection.execute(insert(leases), row)
            return True

    def renew(self, info: Mapping[str, Any] | None = None) -> bool:
        """Prolong it; False if it ran out or is another's: then stop writing and acquire anew."""
        with write(self._engine) as connection:
            held = self._live(connection)
            if held is None or held.owner != self._owner:
                return False
            values: dict[str, Any] = {"expires_at": self._clock.now() + self._ttl_ms}
            if info is not None:
                values["info"] = dict(info)
            connection.execute(update(leases).where(leases.c.name == self._name).values(**values))
            return True

    def release(self) -> None:
        """Give it back, if it is ours."""
        mine = (leases.c.name == self._name, leases.c.owner == self._owner)
        with write(self._engine) as connection:
            connection.execute(delete(leases).where(*mine))

    def holder(self) -> Holder | None:
        """Return who holds it now, or None if it is free or stale."""
        with read(self._engine) as connection:
            return self._live(connection)

    def _live(self, connection: Connection) -> Holder | None:
        row = connection.execute(select(leases).where(leases.c.name == self._name)).first()
        if row is None or row.expires_at <= self._clock.now():
            return None
        return Holder(row.owner, row.expires_at, row.info)
