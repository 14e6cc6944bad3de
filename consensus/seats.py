"""Stage 2's seats: who is pooled, with what prior, and how a seat is won and lost.

Members sit from the first decision. Everybody else starts in probation: scored, in no pool. A seat
is won after enough outcomes there if the lower 95 % bound of the skill against climatology is above
0, and lost once the upper one is below it; evidence is gathered anew from each change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from consensus.evidence import Evidence
from consensus.settings import CouncilSettings

Change = Literal["won", "lost"]


@dataclass(slots=True)
class Seat:
    """An agent's standing.

    Attributes
    ----------
    prior : π > 0, not normalised; None in probation.
    evidence : since it took, or lost, its seat.
    changes : seats won and lost since the first outcome.
    """

    prior: float | None
    evidence: Evidence
    changes: int = 0


class Seats:
    """Every agent's standing on one symbol, timeframe and horizon."""

    def __init__(self, settings: CouncilSettings) -> None:
        self._settings = settings
        share = 1.0 / len(settings.members)
        self._seats = {agent: self._fresh(share) for agent in sorted(settings.members)}

    def priors(self) -> dict[str, float]:
        """Return π of everybody who has a seat, sorted by agent."""
        return {
            agent: seat.prior
            for agent, seat in sorted(self._seats.items())
            if seat.prior is not None
        }

    def get(self, agent: str) -> Seat | None:
        """Return an agent's standing, None before its first outcome outside the council."""
        return self._seats.get(agent)

    def add(self, agent: str, copy: int, loss: float, climatology: float) -> Change | None:
        """Fold one outcome's Brier losses and return whether it moved the agent."""
        seat = self._seats.setdefault(agent, self._fresh(None))
        evidence = seat.evidence
        evidence.add(copy, loss, climatology)
        change: Change
        if seat.prior is not None and evidence.worse:
            change, seat.prior = "lost", None
        elif seat.prior is None and evidence.n >= self._settings.probation and evidence.better:
            change, seat.prior = "won", 1.0 / (len(self.priors()) + 1)
        else:
            return None
        seat.evidence, seat.changes = Evidence(self._settings.horizon_bars), seat.changes + 1
        return change

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types, agents sorted."""
        return {
            agent: {
                "prior": seat.prior, "evidence": seat.evidence.as_dict(), "changes": seat.changes,
            }
            for agent, seat in sorted(self._seats.items())
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], settings: CouncilSettings) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        made = cls(settings)
        made._seats = {
            str(agent): Seat(
                None if seat["prior"] is None else float(seat["prior"]),
                Evidence.from_dict(seat["evidence"]), int(seat["changes"]),
            )
            for agent, seat in body.items()
        }  # fmt: skip
        return made

    def _fresh(self, prior: float | None) -> Seat:
        return Seat(prior, Evidence(self._settings.horizon_bars))
