"""Stage 4, the no-harm layer: Vovk's aggregating algorithm over every candidate for p.

For the Brier loss of a binary outcome the game is mixable at η = 2: with weights w_j over the
candidates, g(y) = −½ ln Σ w_j e^(−2(p_j − y)²) and p = ½ + ½(g(0) − g(1)), the loss of p is at most
g(y) whatever happens (Vovk, *A Game of Prediction with Expert Advice*, 1998). A candidate that is
silent keeps its weight and the mixture runs over the others (specialists: Freund, Schapire, Singer
and Warmuth, *Using and Combining Predictors That Specialize*, 1997). So on the rounds on which any
of m candidates spoke, p loses to it at most ½ ln m in all.

Outcomes are known H bars later: round k is played by copy k mod H, which always knows its own last
outcome, and the bound is (H/2)·ln m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

ETA = 2.0


class Mixture:
    """One copy: candidate → ln of its weight, 0 for one that was never awake."""

    def __init__(self, ln_weights: Mapping[str, float] | None = None) -> None:
        self.ln_weights = dict(ln_weights or {})

    def share(self, candidates: Mapping[str, float]) -> dict[str, float]:
        """Return each awake candidate's weight, sorted, summing to 1.

        Parameters
        ----------
        candidates : name → p, at least one.
        """
        names = sorted(candidates)
        known = self.ln_weights.get
        logs = [known(name, 0.0) for name in names]
        top = max(logs)
        raw = [math.exp(value - top) for value in logs]
        total = math.fsum(raw)
        return {name: mass / total for name, mass in zip(names, raw, strict=True)}

    def mix(
        self, candidates: Mapping[str, float], share: Mapping[str, float] | None = None
    ) -> float:
        """Return p, between the least and the greatest candidate.

        Parameters
        ----------
        share : of the candidates, where it is known already.
        """
        share = share or self.share(candidates)
        p = 0.5 + 0.5 * (_loss(share, candidates, 0.0) - _loss(share, candidates, 1.0))
        return min(max(p, min(candidates.values())), max(candidates.values()))

    def learn(self, candidates: Mapping[str, float], y: float) -> None:
        """Fold one outcome y ∈ {0, 1}; the weight of all awake together stays what it was."""
        share, known = self.share(candidates), self.ln_weights
        mixed = _loss(share, candidates, y)
        for name in share:
            known[name] = known.get(name, 0.0) - ETA * ((candidates[name] - y) ** 2 - mixed)


def _loss(share: Mapping[str, float], candidates: Mapping[str, float], y: float) -> float:
    """g(y), the loss that the mixture is charged with."""
    total = math.fsum(
        [mass * math.exp(-ETA * (candidates[name] - y) ** 2) for name, mass in share.items()]
    )
    return -math.log(total) / ETA


class NoHarm:
    """H interleaved copies, of which round k is played by copy k mod H.

    Parameters
    ----------
    horizon_bars : H, bars until an outcome is known.
    """

    def __init__(self, horizon_bars: int) -> None:
        self.copies = [Mixture() for _ in range(horizon_bars)]

    def at(self, k: int) -> Mixture:
        """Return the copy that plays round k, bars since the epoch."""
        return self.copies[k % len(self.copies)]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types, candidates sorted."""
        return {"copies": [dict(sorted(copy.ln_weights.items())) for copy in self.copies]}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        made = cls(len(body["copies"]))
        for copy, weights in zip(made.copies, body["copies"], strict=True):
            copy.ln_weights = {str(name): float(value) for name, value in weights.items()}
        return made
