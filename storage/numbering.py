"""Ids that rise in commit order: taken under the writer's lock, so no reader passes one over."""

from __future__ import annotations

from sqlalchemy import Connection, Table, func, select


def next_id(connection: Connection, table: Table) -> int:
    """Return the id after the newest one; call it inside :func:`storage.engine.write`."""
    newest: int | None = connection.execute(select(func.max(table.c.id))).scalar()
    return (newest or 0) + 1
