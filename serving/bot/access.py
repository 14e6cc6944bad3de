"""Who may command: chats and people that are listed, each as viewer or operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["viewer", "operator"]


@dataclass(frozen=True, slots=True)
class Access:
    """The roles of listed chats and people, by their number."""

    roles: Mapping[str, Role]

    @classmethod
    def of(cls, main: str | None, listed: Iterable[str]) -> Access:
        """Read the settings.

        Parameters
        ----------
        main : the chat that is written to. A person there is an operator; of a group, where anybody
            may have been invited, each is a viewer. ``listed`` goes before that.
        listed : ``ID:viewer`` or ``ID:operator``.
        """
        roles: dict[str, Role] = {}
        if main is not None and not main.startswith("@"):
            roles[main] = "viewer" if main.startswith("-") else "operator"
        for entry in listed:
            number, _, role = entry.rpartition(":")
            roles[number] = "operator" if role == "operator" else "viewer"
        return cls(roles)

    def role(self, chat: int, user: int) -> Role | None:
        """Return what somebody may do in a chat; None in a chat that is not listed.

        A person's own role goes before the group's.
        """
        own = self.roles.get(str(chat))
        return None if own is None else self.roles.get(str(user), own)
