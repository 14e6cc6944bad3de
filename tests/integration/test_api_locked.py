"""The API while another program holds the database's lock."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from pathlib import Path

import pytest

from serving.control import DESK_LEASE, LEASE_TTL_MS
from serving.system import SystemClock
from storage.engine import open_database
from storage.leases import Lease
from tests.api_world import PLAN, api_of, asking, run, settings_in

PATIENCE_SECONDS = 9.0  # of the API with the database (2), its audit (1), and a busy machine


@pytest.mark.long
def test_api_when_the_database_is_locked_then_writers_come_back_and_readers_do_not_wait(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        settings = settings_in(tmp_path)
        app = api_of(PLAN, settings)
        engine = open_database(settings.database_url())
        assert Lease(engine, DESK_LEASE, "desk", 10 * LEASE_TTL_MS, SystemClock()).acquire()
        holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        async with asking(app, tmp_path) as world:
            began = time.monotonic()
            telling = [
                asyncio.create_task(world.ask("POST", "/v1/risk/hrv", {"value": 50.0}))
                for _ in range(3)
            ]
            waits = []
            while not all(one.done() for one in telling):
                asked = time.monotonic()
                assert (await world.ask("GET", "/v1/signals")).status_code == 200
                waits.append(time.monotonic() - asked)
                await asyncio.sleep(0.05)
            seconds = time.monotonic() - began
            replies = [one.result() for one in telling]
        holder.execute("ROLLBACK")
        holder.close()
        engine.dispose()

        assert [reply.status_code for reply in replies] == [503] * 3
        assert all(reply.headers["retry-after"] for reply in replies)
        assert {reply.json()["error"]["code"] for reply in replies} == {"service_unreachable"}
        assert seconds < PATIENCE_SECONDS
        assert len(waits) > 5
        assert statistics.median(waits) < 1.0

    run(scene)
