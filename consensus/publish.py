"""The one place where candidates become the published p. Nothing alters p after it."""

from __future__ import annotations

from collections.abc import Mapping

from consensus.noharm import Mixture


def publish(
    candidates: Mapping[str, float], mixture: Mapping[str, float]
) -> tuple[float, dict[str, float]]:
    """Return P(r > 0) by the no-harm layer, and each candidate's share in it.

    Parameters
    ----------
    candidates : name → p. ``mixture`` : name → ln of its weight in this round's copy.
    """
    layer = Mixture(mixture)
    share = layer.share(candidates)
    return layer.mix(candidates, share), share
