"""Reference strategies that need no forecasters."""

from execution.strategies.ema_cross import EmaCross
from execution.strategies.mean_reversion import MeanReversion

__all__ = ["EmaCross", "MeanReversion"]
