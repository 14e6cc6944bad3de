"""The second step of what changes something: a button whose code is good once, and not for long."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from domain.errors import UsageError

_MOST = 100  # open questions; the oldest goes first


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits for a confirmation; ``choices`` are what may be pressed."""

    action: str
    text: str
    chat: int
    user: int
    choices: tuple[str, ...]
    until: float


@dataclass(slots=True)
class Confirmations:
    """Open questions, by their code. A restart forgets them all.

    Parameters
    ----------
    seconds : for how long each can be answered.
    monotonic : seconds of a clock that nobody sets.
    """

    seconds: float
    monotonic: Callable[[], float]
    _open: dict[str, Pending] = field(default_factory=dict)

    def ask(self, action: str, text: str, chat: int, user: int, choices: tuple[str, ...]) -> str:
        """Remember a question and return its code."""
        code = secrets.token_hex(4)
        until = self.monotonic() + self.seconds
        self._open[code] = Pending(action, text, chat, user, choices, until)
        while len(self._open) > _MOST:
            self._open.pop(next(iter(self._open)))
        return code

    def take(self, code: str, choice: str, chat: int, user: int) -> Pending:
        """Return the question that an answer belongs to, once.

        Raises
        ------
        UsageError : if there is none, it is another's, the answer is none of it, or it is too old.
        """
        found = self._open.get(code)
        if found is None:
            raise UsageError(
                "confirmation", "is used or forgotten", None, "Give the command again."
            )
        if self.foreign(code, chat, user):
            raise UsageError("confirmation", "belongs to who asked")
        del self._open[code]
        if self.monotonic() > found.until:
            rule = f"must come within {self.seconds:.0f} s"
            raise UsageError("confirmation", rule, None, "Give the command again.")
        if choice not in found.choices:
            raise UsageError("confirmation", f"must be one of {', '.join(found.choices)}", choice)
        return found

    def foreign(self, code: str, chat: int, user: int) -> bool:
        """Whether a question is somebody else's."""
        found = self._open.get(code)
        return found is not None and (found.chat, found.user) != (chat, user)

    def drop(self, code: str) -> None:
        """Forget a question."""
        self._open.pop(code, None)
