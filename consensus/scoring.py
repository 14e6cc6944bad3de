"""Stages 0 and 2: what a resolved round does to the scores.

A *round* is one instant: who said what, what was published, and later what happened. On each
one, for every agent that was awake, L ← λL + b − b̄ with b = (p − y)², b̄ = (p_published − y)²;
the L of sleepers does not move. Scores are folded in plain floats, agents in sorted order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from consensus.edge import Edge
from consensus.settings import CouncilSettings

HALF = 0.5  # stands in for the published p where nothing was published: b̄ is then ¼


@dataclass(frozen=True, slots=True)
class Published:
    """What the council published at one instant, as far as it is scored.

    Attributes
    ----------
    p_up : P(r > 0).
    mean_abs : E|r|, log return, or None without quantiles.
    low, high : the 10 % and 90 % quantiles, log return, or None.
    """

    p_up: float
    mean_abs: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(slots=True)
class Round:
    """One instant. ``log_return`` is set when it is resolved."""

    as_of: int
    opinions: dict[str, float] = field(default_factory=dict)  # agent → admitted p
    published: Published | None = None
    log_return: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types, agents sorted."""
        shown = self.published
        return {
            "as_of": self.as_of,
            "opinions": dict(sorted(self.opinions.items())),
            "published": shown and [shown.p_up, shown.mean_abs, shown.low, shown.high],
            "log_return": self.log_return,
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Round:
        """Read :meth:`as_dict` back, bit for bit."""
        shown = body["published"]
        opinions = {str(agent): float(p) for agent, p in body["opinions"].items()}
        published = shown and Published(float(shown[0]), *map(_optional, shown[1:]))
        return cls(int(body["as_of"]), opinions, published, float(body["log_return"]))


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


@dataclass(slots=True)
class Fold:
    """Everything learnt from the rounds folded so far, for one symbol, timeframe and horizon."""

    scores: dict[str, AgentScore] = field(default_factory=dict)
    edge: Edge = field(default_factory=Edge)
    coverage: Coverage = field(default_factory=Coverage)

    def add(self, played: Round, settings: CouncilSettings) -> None:
        """Fold one resolved round."""
        y = 1.0 if played.log_return > 0.0 else 0.0
        decay = settings.decay
        shown = played.published
        published = ((shown.p_up if shown else HALF) - y) ** 2
        for agent in sorted(played.opinions):
            score = self.scores.get(agent)
            if score is None:
                score = self.scores[agent] = AgentScore()
            score.add((played.opinions[agent] - y) ** 2, published, decay)
        if shown is None:
            return
        if shown.mean_abs is not None:
            self.edge.add(shown.p_up, shown.mean_abs, played.log_return, decay)
        if shown.low is not None and shown.high is not None:
            inside = shown.low <= played.log_return <= shown.high
            self.coverage.add(inside, settings.coverage_decay)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types, agents sorted."""
        return {
            "scores": {
                agent: [score.loss, score.n, score.brier_sum, score.brier_weight]
                for agent, score in sorted(self.scores.items())
            },
            "edge": self.edge.as_dict(),
            "coverage": [self.coverage.hits, self.coverage.weight, self.coverage.n],
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Fold:
        """Read :meth:`as_dict` back, bit for bit."""
        scores = {
            str(agent): AgentScore(float(loss), int(n), float(total), float(weight))
            for agent, (loss, n, total, weight) in body["scores"].items()
        }
        hits, weight, n = body["coverage"]
        coverage = Coverage(float(hits), float(weight), int(n))
        return cls(scores, Edge.from_dict(body["edge"]), coverage)


def _optional(value: float | None) -> float | None:
    return None if value is None else float(value)
