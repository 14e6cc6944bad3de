"""The database of a process."""

from __future__ import annotations

from sqlalchemy import Engine

from serving.settings import Settings
from storage.engine import open_database
from storage.migrate import upgrade


def open_storage(settings: Settings, *, busy_ms: int = 10_000) -> Engine:
    """Open the database and bring its schema up to date; ``busy_ms`` as in ``open_database``."""
    engine = open_database(settings.database_url(), busy_ms=busy_ms)
    upgrade(engine)
    return engine
