"""Markets to try things on: made from a seed, or drawn in blocks from real bars."""

from sim.worlds.generated import (
    BLOCK,
    DEMO,
    DEMO_SEED,
    DEMO_START_MS,
    RANDOM_WALK,
    DemoMarket,
    DemoSource,
    GeneratedWorld,
    PlantedEdge,
    RandomWalk,
    World,
    WorldConfig,
)
from sim.worlds.resampled import REGIMES, Resampled

__all__ = [
    "BLOCK", "DEMO", "DEMO_SEED", "DEMO_START_MS", "RANDOM_WALK", "REGIMES", "DemoMarket",
    "DemoSource", "GeneratedWorld", "PlantedEdge", "RandomWalk", "Resampled", "World",
    "WorldConfig",
]  # fmt: skip
