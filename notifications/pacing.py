"""How fast messages may go: so many to one chat, so many in all, and none while told to wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Monotonic = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Rates:
    """Messages a second: to one person, to one group or channel, and to all together.

    The defaults are what Telegram asks of bots: one a second, 20 a minute, 30 a second.
    """

    person: float = 1.0
    group: float = 20.0 / 60.0
    overall: float = 30.0

    def gap(self, chat: str) -> float:
        """Return the seconds between two messages to a chat; groups and channels start - or @."""
        return 1.0 / (self.group if chat.startswith(("-", "@")) else self.person)


@dataclass(slots=True)
class Pace:
    """Gives every message its turn, first come, first served.

    Parameters
    ----------
    monotonic : seconds of a clock that nobody sets.
    sleep : waits so many seconds.
    """

    rates: Rates
    monotonic: Monotonic
    sleep: Sleep
    _free: dict[str, float] = field(default_factory=dict)  # chat: when the next may go
    _held: dict[str, float] = field(default_factory=dict)
    _all_free: float = 0.0

    async def turn(self, chat: str) -> None:
        """Wait until a message to this chat may go."""
        now = self.monotonic()
        at = max(now, self._free.get(chat, now), self._all_free)
        self._free[chat] = at + self.rates.gap(chat)
        self._all_free = at + 1.0 / self.rates.overall
        while (wait := max(at, self._held.get(chat, at)) - self.monotonic()) > 0:
            await self.sleep(wait)

    def hold(self, chat: str, seconds: float) -> None:
        """Let nothing go to this chat for so long."""
        until = self.monotonic() + seconds
        self._held[chat] = max(until, self._held.get(chat, until))
        self._free[chat] = max(self._held[chat], self._free.get(chat, until))
