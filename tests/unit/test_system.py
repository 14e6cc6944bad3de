"""The clock, the environment and the commit."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from serving.system import SystemClock, environment, git_commit


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.txt").write_text("1", encoding="utf-8")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_clock_when_asked_then_it_says_utc_milliseconds() -> None:
    before = time.time() * 1000

    now = SystemClock().now()

    assert isinstance(now, int)
    assert before - 1 <= now <= time.time() * 1000 + 1


def test_environment_when_read_then_it_is_a_copy_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONCLAVE_TEST_ONLY", "1")
    env = environment()
    monkeypatch.setenv("CONCLAVE_TEST_ONLY", "2")

    assert env["CONCLAVE_TEST_ONLY"] == "1"
    with pytest.raises(TypeError):
        env["CONCLAVE_TEST_ONLY"] = "3"  # type: ignore[index]


def test_git_commit_when_the_checkout_is_clean_then_it_is_the_commit(checkout: Path) -> None:
    (checkout / "untracked").write_text("x", encoding="utf-8")

    commit = git_commit(checkout)

    assert len(commit) == 40
    assert int(commit, 16) > 0


def test_git_commit_when_tracked_files_differ_then_it_says_dirty(checkout: Path) -> None:
    clean = git_commit(checkout)
    (checkout / "a.txt").write_text("2", encoding="utf-8")

    assert git_commit(checkout) == f"{clean}-dirty"


def test_git_commit_when_the_repository_is_somebody_elses_then_it_is_not_taken(
    checkout: Path,
) -> None:
    inner = checkout / "inner"
    inner.mkdir()

    assert git_commit(inner) == "unknown"


def test_git_commit_when_there_is_a_build_file_then_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "BUILD_COMMIT").write_text("abc123\n", encoding="utf-8")

    assert git_commit(tmp_path) == "abc123"
