"""Whether a venue is worth asking: one that answers nothing is left alone for a while.

A circuit breaker: https://martinfowler.com/bliki/CircuitBreaker.html. Every call that waits in vain
holds up whoever calls; behind an open breaker it fails at once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from data.sources.waiting import backoff
from domain.errors import ServiceUnreachable


class NotSent(ServiceUnreachable):
    """Nothing was sent, because the venue is left alone: what was asked for has not happened."""

    code = "not_sent"


@dataclass(slots=True)
class Reach:
    """What whoever asks went through.

    Attributes
    ----------
    open : whether the venue is left alone. ``opened`` : how often that began.
    in_vain : calls in a row that nobody answered; 0 while it is open = the venue asked for it.
    problem : what came of the last one; empty if it was answered.
    """

    open: bool = False
    opened: int = 0
    in_vain: int = 0
    problem: str = ""


@dataclass(slots=True)
class Breaker:
    """Opens after some calls in vain; once the wait is over it lets one through, to see.

    Times are monotonic seconds, handed in.

    Attributes
    ----------
    calls : in a row that nobody answers, after which it opens.
    first, longest : how long it stays open, seconds: doubled each time, with jitter.
    """

    calls: int = 2
    first: float = 5.0
    longest: float = 60.0
    rng: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - jitter only
    health: Reach = field(default_factory=Reach)
    _until: float = field(default=0.0, init=False)

    def left(self, now: float) -> float:
        """Return for how many seconds nothing is to be asked; 0 = ask."""
        return max(self._until - now, 0.0) if self.health.open else 0.0

    def check(self, venue: str, now: float) -> None:
        """Let a call through.

        Raises
        ------
        NotSent : while it is open.
        """
        left = self.left(now)
        if left > 0:
            health = self.health
            silent = f"did not answer {health.in_vain} times and is left alone"
            said = silent if health.in_vain else "asked to be left alone"
            rule, hint = f"{said} for {left:.0f} s", "It is asked again then."
            raise NotSent(venue, rule, health.problem, hint)

    def answered(self) -> None:
        """Take note of an answer, whatever it says."""
        health = self.health
        health.open, health.in_vain, health.problem = False, 0, ""

    def in_vain(self, now: float, why: str) -> None:
        """Take note of a call that nobody answered."""
        health = self.health
        health.in_vain += 1
        health.problem = why
        if health.in_vain >= self.calls:
            wait = backoff(health.in_vain - self.calls + 1, self.first, self.longest, self.rng)
            self._open(now, wait, why)

    def rest(self, now: float, seconds: float, why: str) -> None:
        """Open for so long, because the venue answers that it wants to be left alone."""
        self.health.in_vain = 0
        self._open(now, seconds, why)

    def _open(self, now: float, seconds: float, why: str) -> None:
        health = self.health
        health.opened += not health.open
        health.open, health.problem = True, why
        self._until = now + seconds
