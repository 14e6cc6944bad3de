"""What is wrong with the settings: all of it at once, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from domain.errors import SettingError


class SettingErrors(SettingError):
    """Several problems in one error.

    Attributes
    ----------
    problems : each one with its name, rule, value and hint.
    """

    def __init__(self, problems: Sequence[SettingError]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"{len(problems)} problems with the settings{lines}")

    def __reduce__(self) -> tuple[type[SettingErrors], tuple[tuple[SettingError, ...]]]:
        return type(self), (self.problems,)


def raise_for(problems: Sequence[SettingError]) -> None:
    """Raise what was found, if anything was."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise SettingErrors(problems)
