"""The one place where a candidate becomes the published p. Nothing alters p after it."""

from __future__ import annotations

from collections.abc import Mapping

from consensus.pooling import BRIER_POOL


def publish(candidates: Mapping[str, float]) -> float:
    """Return P(r > 0) out of the candidate pools: the Brier-weighted log pool."""
    return candidates[BRIER_POOL]
