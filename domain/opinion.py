"""What a forecaster says, why one stayed silent, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from domain.canonical import short_hash
from domain.quantiles import Quantiles

ADVERSE_MOVE = 0.005  # fraction; the default size of the move that risk_down and risk_up forecast


@dataclass(frozen=True, slots=True)
class Opinion:
    """One agent's forecast of the log return r over (as_of, as_of + horizon_bars].

    Attributes
    ----------
    p_up : P(r > 0) in [0, 1]; None if the agent forecasts quantiles only.
    quantiles : quantiles of r (fractions of log return), or None.
    expected_return : E[r] (fraction of log return), or None.
    risk_down : P(max(0, 1 − min low / close) > adverse move) within the horizon, or None.
    risk_up : P(max(0, max high / close − 1) > adverse move) within the horizon, or None.
    confidence : |2·p_up − 1|, or 0 without p_up.
    rationale : one sentence for people.
    evidence : small JSON-able facts that the rationale is written from.
    """

    agent: str
    model_version: str
    symbol: str
    timeframe: str
    as_of: int  # ms, close of the last bar seen
    horizon_bars: int
    p_up: float | None
    quantiles: Quantiles | None
    expected_return: float | None = None
    risk_down: float | None = None
    risk_up: float | None = None
    rationale: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def confidence(self) -> float:
        """|2·p_up − 1| in [0, 1]."""
        return 0.0 if self.p_up is None else abs(2.0 * self.p_up - 1.0)

    @property
    def identity(self) -> tuple[str | int, ...]:
        """What makes an opinion the same opinion: a repeat is dropped at the ledger."""
        return (
            self.symbol, self.timeframe, self.as_of, self.horizon_bars, self.agent,
            self.model_version,
        )  # fmt: skip

    @property
    def key(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)

    @property
    def finite(self) -> bool:
        """Whether every number in it is one; an opinion that is not is never stored or pooled."""
        for number in (self.p_up, self.expected_return, self.risk_down, self.risk_up):
            if number is not None and not math.isfinite(number):
                return False
        return self.quantiles is None or self.quantiles.finite

    def direction_probability(self) -> float | None:
        """Return p_up, or 1 − F(0) of the quantiles, or None."""
        if self.p_up is not None:
            return self.p_up
        return None if self.quantiles is None else 1.0 - float(self.quantiles.table().cdf(0.0)[0])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened over (as_of, due]; known at ``due``.

    Attributes
    ----------
    log_return : ln(close at due / close at as_of).
    up : log_return > 0; a tie is not up.
    drop, rise : largest fall below and rise above the close at as_of within the horizon, ≥ 0.
    """

    symbol: str
    timeframe: str
    as_of: int
    horizon_bars: int
    due: int
    log_return: float
    drop: float
    rise: float

    @property
    def up(self) -> bool:
        """Whether the price was higher at ``due``."""
        return self.log_return > 0.0

    @property
    def identity(self) -> tuple[str | int, ...]:
        """One outcome per symbol, timeframe, instant and horizon."""
        return self.symbol, self.timeframe, self.as_of, self.horizon_bars

    @property
    def key(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)


def outcome_of(
    symbol: str,
    timeframe: str,
    as_of: int,
    due: int,
    close: float,
    path: list[tuple[float, float, float]],
) -> Outcome:
    """Score the bars after ``as_of``.

    Parameters
    ----------
    close : close of the bar that ended at ``as_of``, quote units.
    path : (high, low, close) of the horizon's bars, in order.
    """
    highs, lows, closes = zip(*path, strict=True)
    return Outcome(
        symbol, timeframe, as_of, len(path), due,
        log_return=math.log(closes[-1] / close),
        drop=max(0.0, 1.0 - min(lows) / close),
        rise=max(0.0, max(highs) / close - 1.0),
    )  # fmt: skip
