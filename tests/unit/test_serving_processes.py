"""Children, ports, pacing and plans."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from domain.errors import ServiceUnreachable, SettingError
from serving.pacing import Pacer
from serving.plan import RunPlan, load_plan, replay_world, server_name, simulated_world
from serving.processes import Backoff, alive, choose_port, spawn, stop

PLAN = RunPlan("demo", "demo-7", "demo", 60.0, overrides=(("VAR_DIR", "x"),), data=("a",))


def _until(seen: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_backoff_when_failing_then_waits_double_up_to_a_minute_and_give_up_in_the_end() -> None:
    backoff = Backoff(cap=8)
    waits = [backoff.failed(float(i)) for i in range(9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, None]


def test_backoff_when_failures_are_long_ago_then_they_are_forgotten() -> None:
    backoff = Backoff(cap=2, window=10.0)
    assert [backoff.failed(at) for at in (0.0, 1.0, 20.0)] == [1, 2, 1]


def test_alive_when_a_process_ends_then_false() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert alive(child.pid)
    child.kill()
    _until(lambda: not alive(child.pid))  # a zombie is not alive, though nobody has waited for it
    child.wait()
    assert not alive(0)


def test_choose_port_when_taken_then_setting_error_names_it_and_zero_finds_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=f"API_PORT.*taken.*{port}"):
            choose_port("127.0.0.1", port, "API_PORT")
        assert choose_port("127.0.0.1", 0, "API_PORT") != port


def test_spawn_when_stopped_then_the_child_gets_sigterm_and_its_output_is_kept(
    tmp_path: Path,
) -> None:
    (tmp_path / "obedient.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(7)))\n"
        "print('up', sys.argv[1:], flush=True)\n"
        "time.sleep(60)\n"
    )
    log = tmp_path / "logs" / "child.log"
    child = spawn("obedient", ["x"], {**os.environ, "PYTHONPATH": str(tmp_path)}, log)
    _until(lambda: "up" in log.read_text())
    stop(child, 60.0)
    assert child.returncode == 7
    assert log.read_text() == f"up ['x', '--parent', '{os.getpid()}']\nbye\n"


def test_spawn_when_the_parent_is_killed_then_the_child_dies_too(tmp_path: Path) -> None:
    (tmp_path / "orphan.py").write_text(
        "import pathlib, os, sys, time\n"
        "from serving.processes import die_with_parent\n"
        "die_with_parent(int(sys.argv[-1]))\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    parent = subprocess.Popen(
        [
            sys.executable, "-c",
            "import os, pathlib, sys, time\n"
            "from serving.processes import spawn\n"
            "spawn('orphan', [], os.environ, pathlib.Path(sys.argv[1]))\n"
            "time.sleep(60)",
            str(tmp_path / "log"),
        ],
        env=env,
    )  # fmt: skip
    try:
        _until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        child = int((tmp_path / "pid").read_text())
        assert alive(child)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _until(lambda: not alive(child))


def test_pacer_when_sixty_times_faster_then_a_minute_takes_a_second() -> None:
    pacer = Pacer(60.0)
    before = time.monotonic()
    assert pacer.wall_seconds(1_000_000) == 0.0
    wait = pacer.wall_seconds(1_060_000)
    passed = time.monotonic() - before  # between the two, on a busy machine
    assert max(1.0 - passed, 0.0) - 1e-6 <= wait <= 1.0 + 1e-6
    assert pacer.wall_seconds(940_000) == 0.0


def test_pacer_when_asked_to_leave_then_it_stops_waiting_at_once() -> None:
    async def leave_soon() -> tuple[bool, float]:
        pacer, leave = Pacer(1.0), asyncio.Event()
        await pacer.until(0, leave)
        asyncio.get_running_loop().call_later(0.05, leave.set)
        began = time.monotonic()
        return await pacer.until(60_000, leave), time.monotonic() - began

    went_on, seconds = asyncio.run(leave_soon())
    assert not went_on
    assert seconds < 5


def test_plan_when_saved_then_it_comes_back_equal(tmp_path: Path) -> None:
    assert load_plan(PLAN.save(tmp_path / "var")) == PLAN


def test_plan_when_nothing_was_started_then_unreachable_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnreachable, match=r"has not been started.*make run"):
        load_plan(tmp_path / "run.json")


def test_plan_when_var_dir_cannot_be_written_then_setting_error(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("in the way")
    with pytest.raises(SettingError, match=r"VAR_DIR.*writable"):
        replace(PLAN).save(tmp_path / "var")


def test_replay_world_when_files_range_or_rules_differ_then_another_world() -> None:
    base = replay_world(["a", "b"], (0, 1), "r")
    assert replay_world(["b", "a"], (0, 1), "r") == base
    others = {
        replay_world(["a"], (0, 1), "r"),
        replay_world(["a", "b"], (0, 2), "r"),
        replay_world(["a", "b"], (0, 1), "s"),
        replay_world(["a", "b"], (0, 1), "r", made=True),
    }
    assert len(others) == 4
    assert base not in others


@pytest.mark.parametrize(
    ("world", "simulated"),
    [
        (replay_world(["a"], (None, None), ""), False),
        (replay_world(["a"], (None, None), "", made=True), True),
        ("demo-7", True),
        (server_name("binance", None), False),
        (server_name("binance", "http://127.0.0.1:8089"), True),
    ],
)
def test_simulated_world_goes_by_its_name(world: str, simulated: bool) -> None:
    assert simulated_world(world) is simulated
