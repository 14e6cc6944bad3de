"""Kills of a desk that trades live, by whatever way they come: what is open is closed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from serving.desk_requests import Requests
from serving.killing import KILL_FILE, KillOrder, read_kill, write_kill
from tests.integration.test_live_exits import Scene, held_long


def obeying(made: Scene, var_dir: Path) -> Requests:
    """The part of a desk that looks at the kill file."""
    none: Any = None
    control: Any = SimpleNamespace(killed_by_file=lambda: read_kill(var_dir / KILL_FILE))
    clock: Any = SimpleNamespace(now=lambda: made.here.at)
    return Requests(
        made.loop, none, none, {}, {}, control, clock, none, none, none, lambda: None
    )  # fmt: skip


def test_kill_file_when_a_freeze_came_before_then_it_closes_once(tmp_path: Path) -> None:
    with held_long() as made:
        desk = obeying(made, tmp_path)
        write_kill(tmp_path, KillOrder("lunch", flatten=False))
        for _ in range(2):
            desk.obey_file()
        assert made.held
        write_kill(tmp_path, KillOrder("now close all"))
        for _ in range(2):
            desk.obey_file()
        assert not made.held
        made.play(2)
        desk.obey_file()
        made.closed()
        assert made.exits() == ["kill"]


def test_kill_file_when_a_kill_by_the_api_froze_then_it_closes(tmp_path: Path) -> None:
    with held_long() as made:
        made.loop.kill("me", "live disabled", made.here.at, flatten=False)
        write_kill(tmp_path, KillOrder("now close all"))
        obeying(made, tmp_path).obey_file()
        assert not made.held
