"""TimescaleDB: the growing tables of measurements become hypertables where the extension is there.

A hypertable needs its time column in every unique key. The ledger's tables are keyed by ``seq``
and stay ordinary: nothing in them is ever dropped or compressed, which is what hypertables are for.
"""

from __future__ import annotations

from sqlalchemy import Engine, text

from storage.engine import read

WEEK_MS = 7 * 86_400_000

# The library must be loaded when the server starts: where it is not, CREATE EXTENSION would end
# the connection. An ordinary user cannot see that setting; then a DBA has made the extension.
_USABLE = """
  EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
  OR EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
  AND EXISTS (SELECT FROM pg_settings WHERE name = 'shared_preload_libraries'
              AND position('timescaledb' IN setting) > 0)"""


def make_hypertable(table: str, time: str) -> str:
    """Return the statement that makes a hypertable of an empty table, where it can.

    Parameters
    ----------
    time : its column of UTC milliseconds, part of every unique key.
    """
    return f"""DO $$ BEGIN
IF {_USABLE} THEN
  CREATE EXTENSION IF NOT EXISTS timescaledb;
  PERFORM create_hypertable('{table}', '{time}', chunk_time_interval => {WEEK_MS},
                            if_not_exists => TRUE);
END IF;
END $$"""


def hypertables(engine: Engine) -> list[str] | None:
    """Return the names of the hypertables of a PostgreSQL database; None without the extension."""
    with read(engine) as connection:
        there = text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")
        if connection.execute(there).first() is None:
            return None
        names = text("SELECT hypertable_name FROM timescaledb_information.hypertables ORDER BY 1")
        return [str(name) for name in connection.execute(names).scalars()]
