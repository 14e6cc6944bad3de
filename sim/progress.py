"""How far long work is, told to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # done, in all
Steps = Callable[[str], Progress]  # what is being done → how far it is


def quiet(_: str) -> Progress:
    """Report no progress."""
    return unseen


def unseen(done: int, total: int) -> None:
    """Show nothing."""
    del done, total


class Ticker:
    """Counts steps of known number and tells a progress callback of each."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def __call__(self) -> None:
        self._done = min(self._done + 1, self._total)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def finish(self) -> None:
        """Say that all is done, whatever was left out."""
        self._done = self._total - 1
        self()
