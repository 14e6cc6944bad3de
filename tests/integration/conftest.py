"""The real command line on a VAR_DIR of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.cli import run as conclave
from tests.command_line import COUNCIL_OF_FOUR, Cli


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
