"""The rule that engines are compared on, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.jit import jit
from domain.market import Floats


@jit
def sides(close: Floats, fast: int, slow: int) -> NDArray[np.int8]:
    """Return the sign of e(fast) − e(slow) of e ← e + 2/(span + 1)·(close − e), from the first."""
    quick = late = close[0]
    made = np.zeros(len(close), np.int8)
    for i in range(len(close)):
        quick += 2.0 / (fast + 1) * (close[i] - quick)
        late += 2.0 / (slow + 1) * (close[i] - late)
        if i >= slow - 1:
            made[i] = np.sign(quick - late)
    return made
