"""Stage 0's unit: one instant, who said what, what was published, and later what happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from domain.opinion import ADVERSE_MOVE
from domain.quantiles import CANONICAL_LEVELS

Row = tuple[float, ...]
Floats = NDArray[np.float64]

WIDTH = len(CANONICAL_LEVELS) + 3
P, LEVELS, DOWN, UP = 0, slice(1, 1 + len(CANONICAL_LEVELS)), WIDTH - 2, WIDTH - 1
"""Where a row of (16,) numbers has p, quantiles on the canonical levels, and either side's risk."""


@dataclass(frozen=True, slots=True)
class Said:
    """An admitted opinion in numbers; None is what it does not forecast.

    Attributes
    ----------
    p_up : P(r > 0).
    levels : quantiles on the canonical levels (13,), log return.
    risk_down, risk_up : probabilities of the adverse moves.
    row : the same as (16,) numbers, NaN for what it does not forecast; not to be changed.
    """

    p_up: float | None = None
    levels: Row | None = None
    risk_down: float | None = None
    risk_up: float | None = None
    row: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = (self.p_up, *(self.levels or _SILENT), self.risk_down, self.risk_up)
        row = np.array(numbers, dtype=np.float64)  # None becomes NaN
        object.__setattr__(self, "row", row)

    def as_list(self) -> list[Any]:
        """Return JSON's types."""
        levels = None if self.levels is None else list(self.levels)
        return [self.p_up, levels, self.risk_down, self.risk_up]

    @classmethod
    def from_list(cls, body: list[Any]) -> Self:
        """Read :meth:`as_list` back, bit for bit."""
        p, levels, down, up = body
        return cls(_optional(p), _row(levels), _optional(down), _optional(up))


def stacked(said: Iterable[Said]) -> Floats:
    """Return (n, 16), NaN for silence."""
    rows = [one.row for one in said]
    return np.concatenate(rows).reshape(-1, WIDTH) if rows else np.empty((0, WIDTH))


@dataclass(frozen=True, slots=True)
class Published:
    """What the council published at one instant, as far as it is scored.

    Attributes
    ----------
    p_up : P(r > 0). ``candidates`` : what it was mixed from, by name.
    mean_abs : E|r|, log return, or None without quantiles.
    low, high : the 10 % and 90 % quantiles, log return, or None.
    pooled : the Bernstein pools of p, quantiles and risks, before tracker and calibration.
    theta : (13,) what moved the quantiles, in units of ``sigma``, the volatility of the horizon;
        None where there was none.
    """

    p_up: float
    mean_abs: float | None = None
    low: float | None = None
    high: float | None = None
    candidates: Mapping[str, float] = field(default_factory=dict)
    pooled: Said = field(default_factory=Said)
    theta: Row | None = None
    sigma: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {
            "p_up": self.p_up, "mean_abs": self.mean_abs, "low": self.low, "high": self.high,
            "candidates": dict(self.candidates), "pooled": self.pooled.as_list(),
            "theta": None if self.theta is None else list(self.theta), "sigma": self.sigma,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        return cls(
            float(body["p_up"]), _optional(body["mean_abs"]), _optional(body["low"]),
            _optional(body["high"]), {str(k): float(v) for k, v in body["candidates"].items()},
            Said.from_list(body["pooled"]), _row(body["theta"]), _optional(body["sigma"]),
        )  # fmt: skip


@dataclass(slots=True)
class Round:
    """One instant; ``log_return``, ``drop`` and ``rise`` are set when it is resolved.

    Attributes
    ----------
    copy : of the no-harm layer that played it.
    """

    as_of: int
    copy: int = 0
    opinions: dict[str, Said] = field(default_factory=dict)  # by agent
    published: Published | None = None
    log_return: float = 0.0
    drop: float = 0.0
    rise: float = 0.0

    @property
    def fell(self) -> bool:
        """Whether the adverse move down happened."""
        return self.drop > ADVERSE_MOVE

    @property
    def rose(self) -> bool:
        """Whether the adverse move up happened."""
        return self.rise > ADVERSE_MOVE

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types, agents sorted."""
        return {
            "as_of": self.as_of, "copy": self.copy,
            "opinions": {agent: one.as_list() for agent, one in sorted(self.opinions.items())},
            "published": self.published and self.published.as_dict(),
            "outcome": [self.log_return, self.drop, self.rise],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        shown, (log_return, drop, rise) = body["published"], map(float, body["outcome"])
        opinions = {str(agent): Said.from_list(one) for agent, one in body["opinions"].items()}
        return cls(
            int(body["as_of"]), int(body["copy"]), opinions,
            shown and Published.from_dict(shown), log_return, drop, rise,
        )  # fmt: skip


_SILENT = (None,) * len(CANONICAL_LEVELS)


def _optional(value: float | None) -> float | None:
    return None if value is None else float(value)


def _row(values: list[float] | None) -> Row | None:
    return None if values is None else tuple(map(float, values))
