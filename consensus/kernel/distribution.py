"""E[r], E|r| and F(0) of a completed quantile function, compiled."""

from data.jit import jit
from domain.quantiles import canonical_moments

moments = jit(canonical_moments)
