"""The real command line on a VAR_DIR of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from consensus_cases import COSTS, MEMBERS, life

from consensus.council import Council
from consensus.settings import CouncilSettings, DecisionRules
from domain.decision import Decision
from serving.bootstrap.storage import open_storage
from serving.cli import run as conclave
from serving.commands.common import settings_from
from storage.ledger import SqlLedger
from tests.command_line import COUNCIL_OF_FOUR, Cli

Change = Callable[[Decision], Decision]


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command on a VAR_DIR of its own; returns exit code, stdout and stderr.

    The council has four members unless the words name others: loading PyTorch for every command
    would take longer than all of these tests.
    """

    def call(*words: str | Path, trials: Path | None = None) -> tuple[int, str, str]:
        sets = [f"VAR_DIR={tmp_path / 'var'}", f"TRIALS_LOG={trials or 'none'}"]
        if not any("models.agents=" in str(word) for word in words):
            sets.append(f"models.agents={COUNCIL_OF_FOUR}")
        flags = [flag for text in sets for flag in ("--set", text)]
        code = conclave([*map(str, words), *flags])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def _as_it_is(decision: Decision) -> Decision:
    return decision


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., list[Decision]]:
    """Store the life of a council in the ledger of that VAR_DIR, and return its decisions.

    Parameters
    ----------
    platform : on which they were made.
    change : of the last decision, before it is stored.
    """

    def store(platform: str, change: Change = _as_it_is) -> list[Decision]:
        settings = CouncilSettings(members=MEMBERS, half_life=20.0, late_window=8)
        judge = Council(settings, DecisionRules(), lambda _: COSTS, platform=platform)
        records = [x for _, x in life(3, 40, made_by=judge, swap_outcomes=(5, 6, 20))]
        records[-1] = change(records[-1])
        ledger = SqlLedger(
            open_storage(settings_from(None, None, [f"VAR_DIR={tmp_path / 'var'}"])), "test"
        )
        for record in records:
            ledger.append([record])
        return [x for x in records if isinstance(x, Decision)]

    return store
