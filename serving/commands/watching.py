"""How people follow a training: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from serving.commands.common import err

if TYPE_CHECKING:
    from agents.training.watch import Watch

_LINES = 20  # of progress, where there is no terminal


@contextmanager
def followed(name: str, *, quiet: bool) -> Iterator[Watch]:
    """Give a training somebody to report to; nothing is shown if ``quiet``."""
    from agents.training.watch import Watch

    if quiet:
        yield Watch()
    elif err.is_terminal:
        with _bar() as bar:
            task = bar.add_task(f"training {name}", total=None, told="")

            def tick(done: int, total: int, told: str) -> None:
                bar.update(task, completed=done, total=total, told=told)

            yield Watch(_say, tick, _checked)
    else:
        yield Watch(_say, _lines(), _checked)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}"),
        TimeRemainingColumn(), TextColumn("{task.fields[told]}"), console=err,
    )  # fmt: skip


def _say(text: str) -> None:
    err.print(text, markup=False, style="dim")


def _lines() -> Callable[[int, int, str], None]:
    said = 0

    def tick(done: int, total: int, told: str) -> None:
        nonlocal said
        every = max(10, total // _LINES)
        if done // every != said // every or done == total:
            _say(f"{done} of {total}, {told}")
        said = done

    return tick


def _checked(step: int, scores: Mapping[str, float]) -> None:
    told = ", ".join(f"{key} {value:.5g}" for key, value in scores.items())
    _say(f"validation {step}: {told}")
