"""Stop and target from ATR and regime, for decisions that come without any."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from domain.decision import Action
from domain.errors import SettingError
from domain.market import MarketState

Regime = Literal["calm", "usual", "wild"]


@dataclass(frozen=True, slots=True)
class LevelSettings:
    """How far away stop and target are, in ATR(14).

    Attributes
    ----------
    stop_atr, target_atr : in the usual regime; None turns that level off.
    calm, wild : both distances are times this in the week's calmest and wildest third. An ATR
        lags, and volatility comes back: on BTC bars of 2022-08 to 2024-12 the furthest move of
        five bars was 1.41, 1.26 and 1.13 ATRs in the three, so that 1.1 and 0.9 make a stop as
        likely to be hit in each.
    """

    stop_atr: float | None = 2.0
    target_atr: float | None = 3.0
    calm: float = 1.1
    wild: float = 0.9

    def __post_init__(self) -> None:
        for name in ("stop_atr", "target_atr", "calm", "wild"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise SettingError(name, "must be above 0", value)

    @property
    def on(self) -> bool:
        """Whether there is any level to find."""
        return self.stop_atr is not None or self.target_atr is not None


OFF = LevelSettings(None, None)


@dataclass(frozen=True, slots=True)
class Levels:
    """Stop and target of one decision, quote units, and what they come from."""

    stop: float | None
    target: float | None
    atr: float
    regime: Regime

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {"atr_14": self.atr, "regime": self.regime}


def regime_of(rank: float) -> Regime:
    """Return the third that a volatility rank in [0, 1] lies in."""
    if rank < 1 / 3:
        return "calm"
    return "wild" if rank > 2 / 3 else "usual"


def levels_for(action: Action, state: MarketState, settings: LevelSettings) -> Levels | None:
    """Return stop and target of a side taken at the last close of ``state``.

    Read are the features ``atr_14`` (quote units) and ``vol_rank`` (share of the trailing week
    that was calmer); without them, or for NO_TRADE, None. A level that would not be above 0 is
    left out.
    """
    if action is Action.NO_TRADE or not settings.on:
        return None
    atr, rank = _feature(state, "atr_14"), _feature(state, "vol_rank")
    if atr is None or rank is None or atr <= 0.0:
        return None
    regime = regime_of(rank)
    times = {"calm": settings.calm, "usual": 1.0, "wild": settings.wild}[regime]
    close, step = float(state.bars.close[-1]), action.sign * times * atr
    stop = None if settings.stop_atr is None else close - settings.stop_atr * step
    target = None if settings.target_atr is None else close + settings.target_atr * step
    return Levels(_price(stop), _price(target), atr, regime)


def _price(level: float | None) -> float | None:
    return level if level is not None and level > 0.0 else None


def _feature(state: MarketState, name: str) -> float | None:
    if name not in state.features.names or not len(state.features.values):
        return None
    value = state.feature(name)
    return value if math.isfinite(value) else None
