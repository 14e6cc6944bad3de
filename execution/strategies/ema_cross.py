"""The side of the faster of two moving averages, at every bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from domain.decision import Action, Decision, Reason
from domain.errors import SettingError
from domain.market import Floats, MarketState
from domain.opinion import Opinion
from domain.ports import Needs
from domain.trading import ClosedTrade

WINDOW = 250  # closes; beyond them a weight of EMA 20 is below 1e-10


@lru_cache(maxsize=1024)
def _apart(fast: int, slow: int, n: int) -> Floats:
    """Return the weights of the difference of both averages over n closes, (n,)."""
    return _weights(fast, n) - _weights(slow, n)


def _weights(span: int, n: int) -> Floats:
    """Return the weights of the recursion e ← e + 2/(span+1)·(close − e) over n closes, (n,)."""
    alpha = 2.0 / (span + 1)
    weights = alpha * (1.0 - alpha) ** np.arange(n - 1, -1, -1, dtype=np.float64)
    weights[0] = (1.0 - alpha) ** (n - 1)
    return weights


@dataclass(frozen=True, slots=True)
class Crossing:
    """What the strategy read: the distance between the averages, as a fraction of the close."""

    state: MarketState
    gap: float | None  # None: too few bars since a data gap


class EmaCross:
    """Fast against slow exponential moving average of the closes, a side at every bar.

    A function of the last :data:`WINDOW` contiguous closes and nothing else, so that a restart
    decides as if nothing had happened. No stop, no target, no probability.

    Parameters
    ----------
    fast, slow : spans in bars.
    horizon_bars : the horizon exit of its positions.
    """

    name = "ema_cross"

    def __init__(self, fast: int = 10, slow: int = 20, horizon_bars: int = 5) -> None:
        if not 0 < fast < slow:
            raise SettingError("ema_cross", "fast must be shorter than slow", (fast, slow))
        self.fast, self.slow, self.horizon_bars = fast, slow, horizon_bars

    @property
    def needs(self) -> Needs:
        """How much of the state it reads."""
        return Needs(bars=WINDOW, feature_rows=0)

    def prepare_state(
        self, state: MarketState, opinions: Sequence[Opinion], absent: Mapping[str, str]
    ) -> Crossing:
        """Measure the distance between the averages; opinions are not read."""
        del opinions, absent
        closes = state.bars.close[-WINDOW:]
        n = len(closes)
        if n < self.slow:
            return Crossing(state, None)
        weights = _apart(self.fast, self.slow, n)
        return Crossing(state, float(np.add.reduce(weights * (closes / closes[-1] - 1.0))))

    def generate_signal(self, prepared: Crossing, now: int) -> Decision:
        """Take the side of the fast average."""
        state, gap = prepared.state, prepared.gap
        action = Action.NO_TRADE
        reasons: tuple[str, ...] = ()
        if gap is None:
            reasons = (Reason.DATA_GAP.value,)
            text = f"Fewer than {self.slow} bars since the last gap."
        elif gap == 0:
            reasons = (Reason.BELOW_THRESHOLD.value,)
            text = f"EMA {self.fast} and EMA {self.slow} are equal."
        else:
            action = Action.LONG if gap > 0 else Action.SHORT
            where = "above" if gap > 0 else "below"
            text = f"EMA {self.fast} is {abs(gap) * 1e4:.2f} bps {where} EMA {self.slow}."
        return Decision(
            state.symbol, state.timeframe, state.as_of, now, self.horizon_bars, self.name,
            intent=action, action=action, reasons=reasons, reason=text, prob_up=None,
            expected_return=None, quantiles=None, risk_score=None, risk_down=None, risk_up=None,
            break_even_prob=None, stop=None, target=None, inputs={"gap": gap},
        )  # fmt: skip

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        """Learn nothing: the averages are read from the bars."""

    def post_trade_update(self, trade: ClosedTrade) -> None:
        """Learn nothing from trades."""
