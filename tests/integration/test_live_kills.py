"""Kills of a desk that trades live, by whatever way they come: what is open is closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from domain.errors import ServiceUnreachable
from domain.trading import RiskMode
from serving.desk_requests import Requests
from serving.killing import KILL_FILE, KillOrder, read_kill, write_kill
from storage.aside import FileAside
from tests.live_acts import Scene, held_long


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


@contextmanager
def ledger_away(made: Scene) -> Iterator[None]:
    append = made.ledger.append

    def away(records: Any) -> Any:
        raise ServiceUnreachable("database", "does not answer")

    made.ledger.append = away  # type: ignore[method-assign]
    with pytest.raises(ServiceUnreachable, match="database"):
        yield
    made.ledger.append = append  # type: ignore[method-assign]


@pytest.mark.parametrize("frozen", [False, True])
def test_kill_when_the_ledger_is_away_then_it_closes_and_is_known_after_the_restart(
    tmp_path: Path, frozen: bool
) -> None:
    file = tmp_path / "unwritten.jsonl"
    with held_long(FileAside(file)) as made:
        if frozen:
            made.loop.kill("me", "lunch", made.here.at, flatten=False)
        with ledger_away(made):
            made.loop.kill("me", "enough", made.here.at)
        assert not made.held
        assert made.exits() == []
        made.begin()
        assert made.loop.mode is RiskMode.KILLED
        assert not file.exists()
        made.play(4)
        made.closed()
        assert made.exits() == ["kill"]


def test_kill_when_ledger_and_exchange_are_away_then_its_exit_leaves_after_the_restart(
    tmp_path: Path,
) -> None:
    with held_long(FileAside(tmp_path / "unwritten.jsonl")) as made:
        made.fall_silent(left_alone=True)
        with ledger_away(made):
            made.loop.kill("me", "enough", made.here.at)
        made.answer_again()
        assert made.held
        made.begin()
        made.play(4)
        made.closed()
        assert made.exits() == ["kill"]


def test_kill_when_nothing_takes_its_orders_then_they_leave_all_the_same(tmp_path: Path) -> None:
    with held_long(FileAside(tmp_path / "no" / "unwritten.jsonl")) as made:
        with ledger_away(made):
            made.loop.kill("me", "enough", made.here.at)
        assert not made.held


def test_arm_when_the_ledger_is_away_then_nothing_is_allowed_after_the_restart(
    tmp_path: Path,
) -> None:
    with held_long(FileAside(tmp_path / "unwritten.jsonl")) as made:
        made.loop.kill("me", "enough", made.here.at)
        with ledger_away(made):
            made.loop.arm("me", "again", made.here.at)
        made.begin()
        assert made.loop.mode is RiskMode.KILLED
