"""The consensus over a whole panel of opinions, compiled: stages 2 to 5, 7 and κ of every bar.

It repeats :mod:`consensus.fusion` and :mod:`consensus.scoring` number by number, for one symbol,
timeframe and horizon, fast enough to search settings with; a test holds the two against each other.
Needs numba. Nothing that decides imports it.
"""

from consensus.kernel.play import fold
from consensus.kernel.state import Folded, Panel

__all__ = ["Folded", "Panel", "fold"]
