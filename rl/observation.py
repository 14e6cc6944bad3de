"""What is seen at a close: an account's position first, then what the market and strategy say.

One number a column, float32, within ±:data:`LARGEST`; see :class:`Schema` for the names. σ is that
of the horizon: the ``s`` feature (one bar's volatility) times √H. The same function makes the rows
that are trained on and those that are judged live.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.canonical import short_hash
from domain.decision import Action, Decision
from domain.errors import DataRefused
from domain.market import MarketState
from domain.times import DAY_MS

DEFINITION = 1  # raise it whenever a column's meaning changes and its name does not
LARGEST = 10.0
SCALE = "s"  # the feature that measures a bar's volatility, fraction

ACCOUNT = ("position", "size", "profit", "left")
SIGNAL = (
    "intent", "speaks", "logit", "expected", "p10", "p50", "p90", "risk_down", "risk_up",
    "dispersion", "beyond_break_even",
)  # fmt: skip
COSTS_AND_TIME = ("cost", "day_sin", "day_cos", "week_sin", "week_cos")
FEATURES = (
    "ret_0", "ret_1", "ret_2", "cum_3", "cum_12", "cum_36", "cum_96", "cum_288", "rsi_14",
    "macd_hist", "ema_gap_12", "ema_gap_48", "ema_gap_288", "atr", "range_hl", "log_s", "rv_3",
    "rv_12", "rv_48", "rv_288", "vol_z", "signed_vol_12", "close_loc", "range_pos_48", "vol_rank",
    "regime",
)  # fmt: skip

_FUSION = "_fusion"
_WEEK_MS = 7 * DAY_MS
_MOST = 3.0  # logits: nobody is believed beyond


@dataclass(frozen=True, slots=True)
class Schema:
    """Which columns there are.

    Attributes
    ----------
    agents : whose contributions (logits) are seen; none for a strategy that asks nobody.
    features : columns of the feature frame.
    horizon_bars : H.
    """

    agents: tuple[str, ...] = ()
    features: tuple[str, ...] = FEATURES
    horizon_bars: int = 5

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every column, in order."""
        voices = (*self.agents, _FUSION) if self.agents else ()
        voices = tuple(f"voice:{name}" for name in voices)
        features = tuple(f"feature:{name}" for name in self.features)
        return (*ACCOUNT, *SIGNAL, *voices, *COSTS_AND_TIME, *features)

    @property
    def hash(self) -> str:
        """Hash of names and meanings; a policy refuses another."""
        return short_hash([DEFINITION, list(self.names), self.horizon_bars])

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {
            "agents": list(self.agents), "features": list(self.features),
            "horizon_bars": self.horizon_bars, "hash": self.hash,
        }  # fmt: skip


def sigma_of(state: MarketState, horizon_bars: int) -> float:
    """Return σ of the horizon, log return; NaN where it is not known yet.

    Raises
    ------
    DataRefused : if the state has no such feature.
    """
    if SCALE not in state.features.names:
        raise DataRefused("features", f"must have the column {SCALE}", state.features.schema)
    return state.feature(SCALE) * math.sqrt(horizon_bars)


def market_row(
    schema: Schema, decision: Decision, state: MarketState, cost: float
) -> NDArray[np.float32]:
    """Return all columns but the account's, (len(schema.names) − 4,), NaN where not known yet.

    Parameters
    ----------
    decision : as the strategy made it, before gate and risk.
    cost : of a round trip, fraction.

    Raises
    ------
    DataRefused : if the state lacks a feature of the schema.
    """
    sigma = sigma_of(state, schema.horizon_bars)
    row = [
        *_signal(decision, sigma),
        *_voices(schema.agents, decision),
        cost / sigma,
        *_waves(state.as_of),
        *_features(schema.features, state),
    ]
    return np.clip(np.array(row, dtype=np.float64), -LARGEST, LARGEST).astype(np.float32)


def account_row(
    lots: float, entry: float, price: float, stake: float, unit: float, left: float, sigma: float
) -> tuple[float, float, float, float]:
    """Return the account's columns.

    Parameters
    ----------
    lots : held, signed, of ``unit`` base units each; ``entry`` : their average price.
    price : of the close. ``stake`` : quote units of an order of full size.
    left : part of the horizon until what is held is closed.
    """
    if lots == 0.0:
        return 0.0, 0.0, 0.0, 0.0
    side = 1.0 if lots > 0.0 else -1.0
    size = min(abs(lots) * unit * entry / stake, LARGEST)
    profit = side * math.log(price / entry) / sigma
    return side, size, min(max(profit, -LARGEST), LARGEST), left


def _signal(decision: Decision, sigma: float) -> list[float]:
    intent = float(decision.intent.sign)
    p = decision.prob_up
    if p is None:
        return [intent, *(0.0,) * (len(SIGNAL) - 1)]
    logit = math.log(p / (1.0 - p)) if 0.0 < p < 1.0 else math.copysign(_MOST, p - 0.5)
    quantiles, mean = decision.quantiles, decision.expected_return
    bands = [0.0] * 3 if quantiles is None else [quantiles.at(q) / sigma for q in (0.1, 0.5, 0.9)]
    side = Action.LONG if p >= 0.5 else Action.SHORT
    own = p if side is Action.LONG else 1.0 - p
    needed = decision.break_even_prob
    return [
        intent, 1.0, max(min(logit, _MOST), -_MOST), 0.0 if mean is None else mean / sigma, *bands,
        decision.risk_down or 0.0, decision.risk_up or 0.0,
        float(decision.inputs.get("dispersion") or 0.0),
        -0.5 if needed is None else own - needed,
    ]  # fmt: skip


def _voices(agents: Sequence[str], decision: Decision) -> list[float]:
    if not agents:
        return []
    return [float(decision.contributions.get(name, 0.0)) for name in (*agents, _FUSION)]


def _waves(at: int) -> list[float]:
    turns = ((at % DAY_MS) / DAY_MS, (at % _WEEK_MS) / _WEEK_MS)
    angles = [2.0 * math.pi * turn for turn in turns]
    return [wave(angle) for angle in angles for wave in (math.sin, math.cos)]


def _features(names: Sequence[str], state: MarketState) -> list[float]:
    frame = state.features
    where = _places(frame.names, tuple(names))
    row: list[float] = np.asarray(frame.values[-1])[where].tolist()
    return row


_known: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}


def _places(have: tuple[str, ...], want: tuple[str, ...]) -> list[int]:
    found = _known.get((have, want))
    if found is None:
        lacking = [name for name in want if name not in have]
        if lacking:
            raise DataRefused("features", f"must have the columns {', '.join(lacking)}")
        found = _known.setdefault((have, want), [have.index(name) for name in want])
    return found
