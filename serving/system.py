"""The machine's clock, environment and checkout: the only place that reads them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from agents.environment import cpu_features
from domain.canonical import short_hash

REPO_ROOT = Path(__file__).resolve().parent.parent
BUILD_FILE = "BUILD_COMMIT"  # written when an image is built, where there is no git
_GIT_SECONDS = 5.0
_CODE = (".", ":(exclude)docs/trials.csv")  # a look that was logged changes no code


class SystemClock:
    """The wall clock as a :class:`domain.ports.Clock`."""

    def now(self) -> int:
        """Return UTC milliseconds."""
        return time.time_ns() // 1_000_000


def environment() -> Mapping[str, str]:
    """Return a read-only copy of the process's environment."""
    return MappingProxyType(dict(os.environ))


def set_defaults(**names: str) -> None:
    """Set environment variables that nobody set, for libraries that can be told in no other way."""
    for name, value in names.items():
        os.environ.setdefault(name, value)


def platform_name() -> str:
    """Return what the last bits of a computed number depend on: interpreter, NumPy, processor."""
    version, machine = platform.python_version(), platform.machine()
    return f"python {version}, numpy {np.__version__}, {machine} {short_hash(cpu_features(), 8)}"


def git_commit(root: Path = REPO_ROOT) -> str:
    """Return the commit of the code that runs.

    The commit's 40 hexadecimal digits, with ``-dirty`` if tracked files differ from it (the trial
    log aside); without a git checkout at ``root`` what the file ``BUILD_COMMIT`` there says; else
    ``unknown``.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is not None and Path(top).resolve() == root.resolve():
        head = _git(root, "rev-parse", "HEAD")
        if head is not None:
            changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *_CODE)
            return f"{head}-dirty" if changed else head
    try:
        return (root / BUILD_FILE).read_text(encoding="utf-8").strip() or "unknown"
    except OSError:
        return "unknown"


def _git(root: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [git, "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
            # Reading must not take the index lock from whoever is committing.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
