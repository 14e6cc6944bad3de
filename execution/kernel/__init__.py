"""The fill engine and an account on one market, compiled: what training and search play with.

It repeats :mod:`execution.fills`, :class:`execution.paper.PaperBroker` and what the loop makes of a
side, for one symbol on bars alone, in whole ticks and lots; a test holds the two against each other
on random bars. Latency moves no price there and books are not walked. Needs numba. Nothing that
decides imports it.
"""

from execution.kernel.play import play
from execution.kernel.state import Bars, Played, Rules, Wishes, bars_of, rules_of, tiers_of

__all__ = ["Bars", "Played", "Rules", "Wishes", "bars_of", "play", "rules_of", "tiers_of"]
