"""Every way to stop the system, tried in every state that it can be in; how long until flat."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from decimal import Decimal
from pathlib import Path

import httpx
import psutil
import pytest

from storage.engine import open_database, sqlite_url
from storage.inbox import Inbox
from tests.acceptance.running import Running, conclave, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LOCKED_SECONDS = 12.0  # longer than anybody waits for the database
FLAT_SECONDS = 90.0


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A system on Ray that holds a position at nearly every bar, one every two seconds."""
    var_dir = tmp_path_factory.mktemp("kill") / "var"
    flags = ["--source", "demo", "--profile", "exercise", "--speed", "150"]
    running = start(var_dir, [*flags, "--set", "WARM_UP_DAYS=2"])
    try:
        yield running.ready()
    finally:
        running.stop()


def held(running: Running) -> Decimal:
    """The net quantity of all fills, read past everybody."""
    file = f"file:{running.var_dir / 'ledger.db'}?mode=ro"
    with sqlite3.connect(file, uri=True, timeout=1.0) as database:
        rows = database.execute("SELECT side, qty FROM fills").fetchall()
    return sum(((1 if side == "buy" else -1) * Decimal(qty) for side, qty in rows), Decimal(0))


# How it is told


def by_command(running: Running) -> None:
    assert conclave(running.var_dir, "kill", "--why", "drill").returncode == 0


def by_http(running: Running) -> None:
    with running.authorised() as client:
        try:
            client.post("/v1/risk/kill", json={"why": "drill"}).raise_for_status()
        except httpx.HTTPError:  # nobody is there to hear it: what the documents then say to do
            (running.var_dir / "KILL").write_text("drill\n")


def by_message(running: Running) -> None:
    """What a messenger does: it leaves a request, and the file if it cannot."""
    engine = open_database(sqlite_url(running.var_dir / "ledger.db"))
    try:
        body = {"by": "message", "why": "drill"}
        Inbox(engine, running.plan["world"]).put("kill", body)
    finally:
        engine.dispose()


def by_file(running: Running) -> None:
    (running.var_dir / "KILL").write_text("drill\n")


# What is broken meanwhile


def _process(running: Running, module: str) -> psutil.Process:
    found = [p for p in running.processes() if module in " ".join(p.cmdline())]
    return found[0]


@contextmanager
def desk_dead(running: Running) -> Iterator[None]:
    _process(running, "serving.desk_process").kill()
    yield


@contextmanager
def ray_dead(running: Running) -> Iterator[None]:
    _process(running, "serving.ray_host").kill()
    yield


@contextmanager
def database_locked(running: Running) -> Iterator[None]:
    with sqlite3.connect(running.var_dir / "ledger.db", isolation_level=None) as database:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            time.sleep(LOCKED_SECONDS)
        finally:
            database.execute("ROLLBACK")


STATES: dict[str, Callable[[Running], AbstractContextManager[None]]] = {
    "healthy": lambda _: nullcontext(),
    "desk dead": desk_dead,
    "database locked": database_locked,
    "Ray dead": ray_dead,
}
PATHS = {"command": by_command, "http": by_http, "message": by_message, "file": by_file}
CELLS = [
    (state, path)
    for state in STATES
    for path in PATHS
    # a request cannot be left in a database that takes none: a messenger would write the file
    if (state, path) != ("database locked", "message")
]


@pytest.mark.parametrize(("state", "path"), CELLS)
def test_kill_when_told_in_any_way_in_any_state_then_flat_and_no_entry_until_armed(
    desk: Running, state: str, path: str, record_property: Callable[[str, object], None]
) -> None:
    desk.until(FLAT_SECONDS, lambda: held(desk) != 0, "open position")
    began = time.monotonic()
    with STATES[state](desk):
        PATHS[path](desk)
    desk.until(FLAT_SECONDS, lambda: held(desk) == 0, "flat account")
    seconds = time.monotonic() - began
    record_property("seconds_to_flat", round(seconds, 1))
    print(f"\nkill by {path}, {state}: flat after {seconds:.1f} s")
    desk.ready()  # whatever was broken is mended
    mode = _risk(desk)["mode"]
    assert mode == "KILLED"
    time.sleep(5.0)  # two bars and more
    assert held(desk) == 0, "an entry was made while killed"
    _arm(desk)


def test_kill_when_it_freezes_then_the_position_stays_until_another_kill(desk: Running) -> None:
    before = Decimal(0)
    for _ in range(5):  # it may come between an exit and the entry of the other side
        desk.until(FLAT_SECONDS, lambda: held(desk) != 0, "open position")
        assert conclave(desk.var_dir, "kill", "--freeze", "--why", "lunch").returncode == 0
        time.sleep(5.0)  # what was on its way has come
        before = held(desk)
        if before:
            break
        _arm(desk)
    assert before != 0
    time.sleep(14.0)  # past the horizon of five bars
    assert held(desk) == before
    assert _risk(desk)["mode"] == "KILLED"
    assert conclave(desk.var_dir, "kill", "--why", "now").returncode == 0
    desk.until(FLAT_SECONDS, lambda: held(desk) == 0, "flat account")
    _arm(desk)


def _risk(running: Running) -> dict[str, object]:
    def asked() -> dict[str, object]:
        with running.client() as client:
            return dict(client.get("/v1/risk/state").raise_for_status().json())

    return dict(running.until(60, asked, "risk state"))


def _arm(running: Running) -> None:
    Path(running.var_dir / "KILL").unlink(missing_ok=True)

    def armed() -> bool:
        with running.authorised() as client:
            code = client.post("/v1/risk/arm", json={}).json().get("confirm")
            told = client.post("/v1/risk/arm", json={"confirm": code}).json()
        return bool(told.get("mode") == "ACTIVE")

    running.until(60, armed, "armed system")
