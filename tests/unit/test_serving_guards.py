"""Who may pass, what the desk is asked, and how errors show what they refuse."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from domain.errors import ConclaveError, LedgerError, SettingError, UsageError
from serving.auth import Door, Unauthorized, token_of
from serving.control import Confirmation, Control
from serving.killing import KILL_FILE, KillOrder, clean_text, write_kill
from serving.plan import RunPlan
from serving.processes import choose_port, port_free
from serving.system import SystemClock
from storage.engine import open_database, sqlite_url
from storage.inbox import Inbox
from storage.leases import Lease
from storage.migrate import upgrade

TOKEN = "0123456789abcdef-XYZ"
BEARER = f"Bearer {TOKEN}".encode()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    return engine


@pytest.fixture
def control(engine: Engine, tmp_path: Path) -> Control:
    lease = Lease(engine, "desk", "me", 10_000, SystemClock())
    return Control(lease, Inbox(engine, "demo-7"), tmp_path / KILL_FILE)


# The door


@pytest.mark.parametrize(
    ("method", "path", "loopback", "open_to_all"),
    [
        ("GET", "/v1/positions", True, True),
        ("HEAD", "/", True, True),
        ("POST", "/v1/signals", True, True),
        ("POST", "/v1/signals/", True, False),
        ("DELETE", "/v1/signals", True, False),
        ("PUT", "/v1/anything/new", True, False),
        ("FOO", "/", True, False),
        ("GET", "/v1/positions", False, False),
        ("GET", "/metrics", False, False),
        ("POST", "/v1/signals", False, False),
        ("GET", "/health/live", False, True),
        ("GET", "/health/ready", False, True),
        ("GET", "/health/ready/x", False, False),
    ],
)
def test_door_when_no_token_is_shown_then_only_reading_on_loopback_and_probes_pass(
    method: str, path: str, loopback: bool, open_to_all: bool
) -> None:
    door = Door(TOKEN, loopback)
    door.demand(method, path, BEARER)
    if open_to_all:
        door.demand(method, path, b"")
    else:
        with pytest.raises(Unauthorized, match="needs the API token"):
            door.demand(method, path, b"")


def test_token_when_many_ask_at_once_then_all_get_the_same_from_a_private_file(
    tmp_path: Path,
) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: token_of(tmp_path / "var", None), range(32)))
    (token,) = tokens
    assert len(token) >= 32
    assert [path.name for path in (tmp_path / "var").iterdir()] == ["api_token"]
    assert stat.S_IMODE((tmp_path / "var" / "api_token").stat().st_mode) == 0o600
    assert token_of(tmp_path / "var", "configured") == "configured"


@pytest.mark.parametrize("content", [b"", b"  \n", b"short", b"two words 0123456789", b"\xff" * 40])
def test_token_when_the_file_is_no_token_then_setting_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "api_token").write_bytes(content)
    with pytest.raises(SettingError, match="api_token: must hold one word"):
        token_of(tmp_path, None)


# The desk's inbox


def test_confirmation_when_the_code_is_not_ascii_then_it_is_refused_and_the_right_one_still_works(
    tmp_path: Path,
) -> None:
    confirmation = Confirmation()
    code = confirmation.ask()
    for wrong in ("é", "💥", ""):
        with pytest.raises(UsageError, match="confirm"):
            confirmation.check(wrong)
    confirmation.check(code)


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyError("symbol"), "internal"), (LedgerError("database", "cannot grow"), "ledger")],
)
def test_control_when_a_request_breaks_the_desk_then_it_is_answered_and_not_met_again(
    control: Control, error: Exception, code: str
) -> None:
    def breaks(_: Mapping[str, Any]) -> dict[str, Any]:
        raise error

    number = control.inbox.put("signal", {})
    with pytest.raises(type(error)):
        control.serve({"signal": breaks})
    told = control.inbox.result(number)
    assert told is not None
    assert told["error"]["code"] == code
    control.serve({"signal": breaks})  # the next desk finds nothing to fall over


def test_control_when_a_request_is_refused_then_the_next_one_is_served(control: Control) -> None:
    def refuses(_: Mapping[str, Any]) -> dict[str, Any]:
        raise UsageError("as_of", "is too old", 5, "Ask for a newer one.")

    first, unknown, last = (control.inbox.put(kind, {}) for kind in ("signal", "dance", "kill"))
    control.serve({"signal": refuses, "kill": lambda _: {"mode": "KILLED"}})
    assert control.inbox.result(first) == {
        "error": {"code": "usage", "message": "as_of: is too old (got 5)",
                  "hint": "Ask for a newer one."}
    }  # fmt: skip
    assert "dance" in (control.inbox.result(unknown) or {})["error"]["message"]
    assert control.inbox.result(last) == {"mode": "KILLED"}


def test_control_when_an_answer_takes_long_then_a_kill_does_not_wait_for_it(
    control: Control,
) -> None:
    async def scene() -> None:
        begun, goes_on = asyncio.Event(), asyncio.Event()
        calls = []

        async def slowly(body: Mapping[str, Any]) -> dict[str, Any]:
            calls.append(body)
            begun.set()
            await goes_on.wait()
            return {"items": []}

        asked, kill = control.inbox.put("assertions", {}), control.inbox.put("kill", {})
        served = {"kill": lambda _: {"mode": "KILLED"}}, {"assertions": slowly}
        control.serve(*served)
        assert control.inbox.result(kill) == {"mode": "KILLED"}
        await begun.wait()
        control.serve(*served)
        assert control.inbox.result(asked) is None
        goes_on.set()
        while control.inbox.result(asked) is None:
            await asyncio.sleep(0)
        control.serve(*served)
        assert control.inbox.result(asked) == {"items": []}
        assert len(calls) == 1

    asyncio.run(scene())


def test_control_when_a_long_answer_breaks_then_it_is_answered_and_the_desk_falls(
    control: Control,
) -> None:
    async def scene() -> None:
        async def breaks(_: Mapping[str, Any]) -> dict[str, Any]:
            raise LedgerError("database", "cannot grow")

        asked = control.inbox.put("assertions", {})
        control.serve({}, {"assertions": breaks})
        while control.inbox.result(asked) is None:
            await asyncio.sleep(0)
        with pytest.raises(LedgerError, match="cannot grow"):
            control.serve({}, {"assertions": breaks})
        assert (control.inbox.result(asked) or {})["error"]["code"] == "ledger"

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "KILL"), (b"news\n", "news"), (b"a\r\n b\x1b[2J\x00", "a b[2J"),
     (b"\xff" * 5000, "�" * 400)],
)  # fmt: skip
def test_kill_file_when_it_holds_anything_then_one_short_printable_line_is_told(
    control: Control, content: bytes, why: str
) -> None:
    assert control.killed_by_file() is None
    control.kill_file.write_bytes(content)
    assert control.killed_by_file() == KillOrder(why)


def test_kill_file_when_it_is_a_folder_then_it_kills(control: Control) -> None:
    control.kill_file.mkdir()
    order = control.killed_by_file()
    assert order is not None
    assert order.flatten
    assert order.why.startswith(KILL_FILE)


def test_kill_file_when_written_to_freeze_then_it_reads_back_and_positions_stay(
    control: Control,
) -> None:
    write_kill(control.kill_file.parent, KillOrder("lunch", flatten=False))
    order = control.killed_by_file()
    assert order is not None
    assert not order.flatten
    assert "lunch" in order.why


def test_clean_text_when_it_holds_half_a_character_then_every_store_takes_it() -> None:
    assert clean_text("a\ud800b", 9).encode() == b"a?b"


# Ports and addresses


def test_choose_port_when_the_host_is_not_ours_then_the_host_is_blamed_and_not_the_port() -> None:
    for host in ("203.0.113.7", "no such host"):
        assert port_free(host, 0)
        with pytest.raises(SettingError, match="API_HOST: must be an address of this machine"):
            choose_port(host, 0, "API_PORT")


def test_choose_port_when_the_host_is_ipv6_then_the_address_can_be_called() -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("needs IPv6")
    if not Path("/proc/net/if_inet6").read_text():
        pytest.skip("needs an IPv6 loopback")
    port = choose_port("::1", 0, "API_PORT")
    plan = RunPlan("demo", "demo-7", "demo", 60.0, host="::1", port=port)
    assert plan.address == f"http://[::1]:{port}"


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may use any port")
def test_choose_port_when_it_is_the_administrators_then_the_error_says_so() -> None:
    with pytest.raises(SettingError, match="below 1024"):
        choose_port("127.0.0.1", 80, "API_PORT")


# Errors


def test_error_when_the_value_is_enormous_then_the_message_stays_readable() -> None:
    bomb: list[Any] = ["x"] * 9
    for _ in range(12):
        bomb = [bomb] * 9
    for value in (bomb, "x" * 1_000_000, b"x" * 1_000_000, {i: i for i in range(100_000)}):
        assert len(ConclaveError("thing", "is too large", value).message) < 5_000
    assert ConclaveError("thing", "is wrong", [1, "a"]).message == "thing: is wrong (got [1, 'a'])"
