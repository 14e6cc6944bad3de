"""How long the venue is waited for, and what happens where it does not answer."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from domain.errors import AmbiguousOutcome, ServiceUnreachable

log = structlog.get_logger("live")


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds.

    Attributes
    ----------
    answer : how long an order whose answer was lost is asked after before the loop goes on.
    window : after which the venue takes no request any more: recvWindow, and a second for clocks.
    pause : between two such questions.
    """

    answer: float = 2.0
    window: float = 6.0
    pause: float = 0.25


class LaterIfUnreachable:
    """A block that is left where the venue does not answer; what it missed is asked for later.

    Parameters
    ----------
    what : was being done, for the log.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Swallow that the venue did not answer, and nothing else."""
        if not isinstance(error, ServiceUnreachable) or isinstance(error, AmbiguousOutcome):
            return False
        log.warning("venue_unreachable", what=self._what, why=error.message)
        return True
