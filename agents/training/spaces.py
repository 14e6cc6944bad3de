"""What ``--tune`` may choose from: the search space of every training that can be tuned.

Each holds the training's own settings, which are tried first, so that a search never ends with a
worse validation score than no search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agents.training.settings import Setting, Settings
from domain.errors import UsageError


@dataclass(frozen=True, slots=True)
class Between:
    """Any number in [low, high]; ``log`` : equally likely in every factor of it."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few values."""

    options: tuple[Setting, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.options


Space = Mapping[str, Between | OneOf]


def left_open(name: str, space: Space, settings: Settings) -> Space:
    """Return what a search may choose: the space without the settings that are given.

    Raises
    ------
    UsageError : if nothing is left to choose.
    """
    found = {key: part for key, part in space.items() if key not in settings}
    if not found:
        raise UsageError("--tune", f"finds nothing to choose for {name}")
    return found


_RATE, _L2 = Between(0.005, 0.1, log=True), Between(0.1, 100.0, log=True)
_LEAVES, _ROWS = OneOf((7, 15, 31)), OneOf((250, 500, 1000, 2000, 4000))
_TFT: Space = {
    "schedule.rate": Between(5e-4, 6e-3, log=True),
    "schedule.weight_decay": Between(1e-3, 1e-1, log=True),
    "hidden": OneOf((8, 16, 32)),
    "dropout": Between(0.0, 0.3),
    "windows": OneOf((4, 8, 16)),
}

SPACES: Mapping[str, Space] = {
    "baseline/trend": {
        "trend.learning_rate": _RATE,
        "trend.rows_a_leaf": _ROWS,
        "trend.l2": _L2,
        "trend_leaves": OneOf(("7", "15", "31", "7,15,31")),
        "shrink": Between(0.5, 1.0),
    },
    "baseline/return": {
        "width.learning_rate": _RATE,
        "width.leaves": _LEAVES,
        "width.rows_a_leaf": _ROWS,
        "width.l2": _L2,
    },
    "baseline/risk": {
        "risk.learning_rate": _RATE,
        "risk.leaves": _LEAVES,
        "risk.rows_a_leaf": _ROWS,
        "risk.l2": _L2,
        "mix": Between(0.0, 1.0),
    },
    "tft/trend": _TFT,
    "tft/return": _TFT,
    "tft/risk": _TFT,
    "chronos": {
        "schedule.rate": Between(4e-4, 4e-3, log=True),
        "schedule.weight_decay": Between(1e-3, 1e-1, log=True),
        "dropout": Between(0.0, 0.2),
        "patch": OneOf((8, 16)),
        "mix.synthetic": Between(0.0, 0.3),
    },
}
