"""Stages 0 and 2: what a resolved round does to the scores.

On each round, for every agent that was awake, L ← λL + b − b̄ with b = (p − y)²,
b̄ = (p_published − y)²; the L of sleepers does not move. Scores are folded in plain floats, agents
in sorted order.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Self

from consensus.edge import Edge
from consensus.learning import Learning
from consensus.pooling import CONSTANT
from consensus.rounds import Round
from consensus.seats import Seats
from consensus.settings import CouncilSettings

HALF = 0.5  # stands in for the published p where nothing was published: b̄ is then ¼


@dataclass(slots=True)
class AgentScore:
    """What one agent has earned.

    Attributes
    ----------
    loss : L, decayed sum of its Brier loss minus the published one's.
    n : outcomes it was awake for.
    brier_sum, brier_weight : decayed Σ b and Σ 1.
    """

    loss: float = 0.0
    n: int = 0
    brier_sum: float = 0.0
    brier_weight: float = 0.0

    def add(self, brier: float, published: float, decay: float) -> None:
        """Fold one outcome's Brier losses."""
        self.loss = decay * self.loss + brier - published
        self.brier_sum = decay * self.brier_sum + brier
        self.brier_weight = decay * self.brier_weight + 1.0
        self.n += 1

    @property
    def brier(self) -> float | None:
        """Decayed mean Brier score, or None before the first outcome."""
        return self.brier_sum / self.brier_weight if self.n else None


@dataclass(slots=True)
class Coverage:
    """Decayed share of outcomes inside the published p10–p90 interval."""

    hits: float = 0.0
    weight: float = 0.0
    n: int = 0

    def add(self, inside: bool, decay: float) -> None:
        """Fold one outcome."""
        self.hits = decay * self.hits + (1.0 if inside else 0.0)
        self.weight = decay * self.weight + 1.0
        self.n += 1

    @property
    def share(self) -> float | None:
        """Observed coverage in [0, 1], or None before the first outcome."""
        return self.hits / self.weight if self.n else None


class Fold:
    """Everything learnt from the rounds folded so far, for one symbol, timeframe and horizon."""

    def __init__(self, settings: CouncilSettings) -> None:
        self._settings = settings
        self.scores: dict[str, AgentScore] = {}
        self.edge, self.coverage = Edge(), Coverage()
        self.learning, self.seats = Learning(settings), Seats(settings)

    def add(self, played: Round) -> None:
        """Fold one resolved round."""
        y = 1.0 if played.log_return > 0.0 else 0.0
        decay = self._settings.decay
        shown = played.published
        published = ((shown.p_up if shown else HALF) - y) ** 2
        climatology = ((shown.candidates.get(CONSTANT, HALF) if shown else HALF) - y) ** 2
        losses = {
            agent: (said.p_up - y) ** 2
            for agent, said in sorted(played.opinions.items())
            if said.p_up is not None
        }
        for agent, brier in losses.items():
            if agent not in self.scores:
                self.scores[agent] = AgentScore()
            self.scores[agent].add(brier, published, decay)
        for agent in self.seats.add(played.copy, losses, climatology):
            self.scores[agent].loss = 0.0
        self.learning.add(played)
        if shown is None:
            return
        if shown.mean_abs is not None:
            self.edge.add(shown.p_up, shown.mean_abs, played.log_return, decay)
        if shown.low is not None and shown.high is not None:
            inside = shown.low <= played.log_return <= shown.high
            self.coverage.add(inside, self._settings.coverage_decay)

    def copy(self) -> Self:
        """Return another one of the same state."""
        return deepcopy(self, {id(self._settings): self._settings})

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types, agents sorted."""
        return {
            "scores": {
                agent: [score.loss, score.n, score.brier_sum, score.brier_weight]
                for agent, score in sorted(self.scores.items())
            },
            "edge": self.edge.as_dict(),
            "coverage": [self.coverage.hits, self.coverage.weight, self.coverage.n],
            "learning": self.learning.as_dict(),
            "seats": self.seats.as_dict(),
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], settings: CouncilSettings) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        made = cls(settings)
        made.scores = {
            str(agent): AgentScore(float(loss), int(n), float(total), float(weight))
            for agent, (loss, n, total, weight) in body["scores"].items()
        }
        hits, weight, n = body["coverage"]
        made.edge = Edge.from_dict(body["edge"])
        made.coverage = Coverage(float(hits), float(weight), int(n))
        made.learning = Learning.from_dict(body["learning"], settings)
        made.seats = Seats.from_dict(body["seats"], settings)
        return made
