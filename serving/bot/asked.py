"""What somebody asks of the bot."""

from __future__ import annotations

from dataclasses import dataclass

from serving.bot.access import Role
from serving.killing import clean_text


@dataclass(frozen=True, slots=True)
class Asked:
    """A command with its words, and who gave it where.

    Attributes
    ----------
    words : what stood after the command, at most 2,000 characters.
    name : what the person calls themselves; for the ledger and the audit, never trusted.
    """

    command: str
    words: str
    chat: int
    user: int
    name: str
    role: Role

    @property
    def by(self) -> str:
        """Who it was, for the ledger: one short line."""
        return f"telegram {clean_text(self.name, 40) or 'somebody'} ({self.user})"

    @property
    def first(self) -> str:
        """The first word after the command, empty if there is none."""
        return self.words.split()[0] if self.words.split() else ""

    @property
    def rest(self) -> str:
        """What stands after the first word."""
        parts = self.words.split(maxsplit=1)
        return parts[1] if len(parts) > 1 else ""


def parse(text: str, bot_name: str) -> tuple[str, str] | None:
    """Return (command, words) of a message; None if it is no command, or another bot's.

    Parameters
    ----------
    bot_name : without @; ``/status@other_bot`` in a group is not for us.
    """
    head, _, words = text[:2_200].strip().partition(" ")
    if "\n" in head:
        head, _, words = text[:2_200].strip().partition("\n")
    name, at, whom = head.partition("@")
    if not name.startswith("/") or len(name) < 2:
        return None
    if at and whom.lower() != bot_name.lower():
        return None
    return name[1:].lower(), words.strip()[:2_000]
