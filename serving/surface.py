"""What the API has beside the council: its own tables, its limits, its readers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from domain.ports import Clock
from serving.auth import Door
from serving.envelope import Guard
from serving.limits import Kind, Limiter
from serving.resources import Use
from serving.scoreboard import Scoreboard
from serving.streaming import MOST_STREAMS, Streams
from serving.tokens import Known
from serving.watching_symbols import Watchlist
from storage.audit import Audit
from storage.jobs import Jobs

MOST_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is let in.

    Attributes
    ----------
    rates : requests a second for one caller; 0 is no limit.
    at_once : requests that are worked on, streams included; the rest is told to come again.
    patience_s : for a body.
    hosts : names beside loopback's own that a loopback API answers to.
    """

    rates: Mapping[Kind, float]
    at_once: int = MOST_AT_ONCE
    patience_s: float = 10.0
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Surface:
    """Handed in by the composition root.

    Attributes
    ----------
    uses : returns what the run uses of its machine.
    """

    symbols: Watchlist
    jobs: Jobs
    raw_dir: Path
    audit: Audit
    streams: Streams
    scoreboard: Scoreboard
    tokens: Known
    limits: Limits
    uses: Callable[[], Sequence[Use]]

    def guard(self, token: str, *, loopback: bool, proxied: bool, now: Clock) -> Guard:
        """Return what the envelope goes by."""

        def note(actor: str, action: str, body: Mapping[str, object]) -> None:
            self.audit.note(now.now(), actor, action, body)

        return Guard(
            Door(token, loopback, self.tokens),
            Limiter(self.limits.rates, time.monotonic),
            note,
            max(1, self.limits.at_once - MOST_STREAMS),
            self.limits.patience_s,
            proxied,
            self.limits.hosts if loopback else None,
        )
