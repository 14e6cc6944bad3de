"""Against the move, once the close is far from its mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.decision import Action, Decision, Reason
from domain.errors import SettingError
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Needs
from domain.trading import ClosedTrade


@dataclass(frozen=True, slots=True)
class Stretch:
    """How far the close lies from its rolling mean.

    Attributes
    ----------
    mean, sd : of the window's closes, quote units; None with too few bars since a data gap.
    z : (close − mean) / sd; None also where the closes do not move.
    """

    state: MarketState
    mean: float | None = None
    sd: float | None = None
    z: float | None = None


class MeanReversion:
    """Bollinger's bands traded inwards: a side while z_in ≤ |z| < z_stop, else none.

    A function of the last ``window`` contiguous closes and nothing else: sums are taken anew at
    every bar, so that they cannot drift and a restart decides as if nothing had happened. The
    target is the mean, the stop where |z| would reach z_stop by today's mean and deviation.

    Parameters
    ----------
    window : closes in mean and standard deviation (ddof 0).
    z_in, z_stop : standard deviations.
    horizon_bars : the horizon exit of its positions.
    """

    name = "mean_reversion"

    def __init__(
        self, window: int = 48, z_in: float = 2.0, z_stop: float = 3.5, horizon_bars: int = 5
    ) -> None:
        if window < 2:
            raise SettingError("mean_reversion", "window must be at least 2", window)
        if not 0 < z_in < z_stop:
            rule = "z_in must be above 0 and below z_stop"
            raise SettingError("mean_reversion", rule, (z_in, z_stop))
        self.window, self.z_in, self.z_stop = window, z_in, z_stop
        self.horizon_bars = horizon_bars

    @property
    def needs(self) -> Needs:
        """How much of the state it reads."""
        return Needs(bars=self.window, feature_rows=0)

    def prepare_state(
        self, state: MarketState, opinions: Sequence[Opinion], absent: Mapping[str, str]
    ) -> Stretch:
        """Measure how far the close is from its mean; opinions are not read."""
        del opinions, absent
        closes = state.bars.close[-self.window :]
        if len(closes) < self.window:
            return Stretch(state)
        last = float(closes[-1])
        moves = closes / last - 1.0  # near zero, where floats are densest
        mean = float(moves.mean())
        sd = float(moves.std())
        z = -mean / sd if sd > 0.0 else None
        return Stretch(state, last * (1.0 + mean), last * sd, z)

    def generate_signal(self, prepared: Stretch, now: int) -> Decision:
        """Take the side back to the mean."""
        state, z = prepared.state, prepared.z
        action, reason, text = self._judged(prepared)
        stop = target = None
        if action is not Action.NO_TRADE and prepared.mean is not None and prepared.sd is not None:
            stop = prepared.mean - action.sign * self.z_stop * prepared.sd
            target = prepared.mean
        return Decision(
            state.symbol, state.timeframe, state.as_of, now, self.horizon_bars, self.name,
            intent=action, action=action, reasons=() if reason is None else (reason.value,),
            reason=text, prob_up=None, expected_return=None, quantiles=None, risk_score=None,
            risk_down=None, risk_up=None, break_even_prob=None,
            stop=stop if stop is not None and stop > 0.0 else None, target=target,
            inputs={"z": z, "mean": prepared.mean, "sd": prepared.sd},
        )  # fmt: skip

    def _judged(self, prepared: Stretch) -> tuple[Action, Reason | None, str]:
        z = prepared.z
        if prepared.sd is None:
            text = f"Fewer than {self.window} bars since the last gap."
            return Action.NO_TRADE, Reason.DATA_GAP, text
        if z is None:
            return Action.NO_TRADE, Reason.BELOW_THRESHOLD, "The closes do not move."
        text = f"The close lies {z:+.2f} standard deviations from its mean of {self.window} bars."
        if abs(z) < self.z_in:
            return Action.NO_TRADE, Reason.BELOW_THRESHOLD, text
        if abs(z) >= self.z_stop:
            text = f"{text} That is beyond the stop."
            return Action.NO_TRADE, Reason.RISK_VETO, text
        return (Action.LONG if z < 0 else Action.SHORT), None, text

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        """Learn nothing: mean and deviation are read from the bars."""

    def post_trade_update(self, trade: ClosedTrade) -> None:
        """Learn nothing from trades."""
