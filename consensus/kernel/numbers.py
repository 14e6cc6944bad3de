"""Small functions of numbers, compiled; each repeats the one of the same name elsewhere."""

from __future__ import annotations

import math

from consensus.pooling import LEAST
from consensus.recalibration import LARGEST
from data.jit import jit


@jit
def sigmoid(x: float) -> float:
    """Return 1/(1 + e^(−x)), x clipped to ±30."""
    return 1.0 / (1.0 + math.exp(-min(max(x, -LARGEST), LARGEST)))


@jit
def logit(p: float) -> float:
    """Return ln(p / (1 − p))."""
    return math.log(p / (1.0 - p))


@jit
def risk_logit(risk: float) -> float:
    """Return the logit of a probability that may be 0 or 1."""
    return logit(min(max(risk, LEAST), 1.0 - LEAST))
