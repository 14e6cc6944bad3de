"""The port to a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Why = Literal["deadline", "rate_limited", "refused", "unreachable", "oversized", "invalid"]


class ProviderError(Exception):
    """A provider gave no answer.

    Attributes
    ----------
    why : one word. ``wait_s`` : seconds for which it asked not to be called again.
    """

    def __init__(self, why: Why, detail: str = "", wait_s: float = 0.0) -> None:
        super().__init__(f"{why}: {detail}" if detail else why)
        self.why: Why = why
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model wrote, and the tokens it was charged for (0 if it does not say)."""

    text: str
    tokens: int = 0


class Provider(Protocol):
    """A language model somewhere."""

    @property
    def name(self) -> str:
        """Name of the agent that speaks by it."""
        ...

    @property
    def model(self) -> str:
        """The model's own name."""
        ...

    async def complete(self, system: str, user: str, timeout_s: float) -> Reply:
        """Return the model's text.

        Raises
        ------
        ProviderError : if there is none within ``timeout_s`` seconds, whatever the cause.
        """
        ...
