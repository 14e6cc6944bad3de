"""Stage 2's seats: who is pooled, with what prior, and how a seat is won and lost.

Members sit from the first decision. Everybody else starts in probation: scored, in no pool. A seat
is won after enough outcomes there if the lower 95 % bound of the skill against climatology is above
0, and lost once the upper one is below it; evidence is gathered anew from each change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from consensus.evidence import Evidence
from consensus.settings import CouncilSettings


class Seats:
    """Every agent's standing on one symbol, timeframe and horizon.

    Attributes
    ----------
    evidence : since an agent took, or lost, its seat.
    priors : agent with a seat → π > 0, not normalised; sorted by agent.
    changes : agent → seats won and lost so far.
    """

    def __init__(self, settings: CouncilSettings) -> None:
        self._settings = settings
        self.evidence = Evidence(settings.horizon_bars)
        self.priors = dict.fromkeys(sorted(settings.members), 1.0 / len(settings.members))
        self.changes: dict[str, int] = {}

    def add(self, copy: int, losses: Mapping[str, float], climatology: float) -> list[str]:
        """Fold one outcome's Brier losses, agents sorted, and return who won a seat by it."""
        agents = list(losses)
        if not agents:
            return []
        self.evidence.add(copy, agents, [climatology - loss for loss in losses.values()])
        won = []
        for agent, (better, worse) in zip(
            agents, self.evidence.claims(agents).tolist(), strict=True
        ):
            seated = agent in self.priors
            if seated and worse:
                del self.priors[agent]
            elif not seated and better and self.evidence.n(agent) >= self._settings.probation:
                self.priors[agent] = 1.0 / (len(self.priors) + 1)
                self.priors = dict(sorted(self.priors.items()))
                won.append(agent)
            else:
                continue
            self.evidence.restart(agent)
            self.changes[agent] = self.changes.get(agent, 0) + 1
        return won

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {
            "evidence": self.evidence.as_dict(), "priors": dict(self.priors),
            "changes": dict(sorted(self.changes.items())),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], settings: CouncilSettings) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        made = cls(settings)
        made.evidence = Evidence.from_dict(body["evidence"], settings.horizon_bars)
        made.priors = {str(agent): float(pi) for agent, pi in body["priors"].items()}
        made.changes = {str(agent): int(n) for agent, n in body["changes"].items()}
        return made
