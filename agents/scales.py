"""How wide other symbols' intervals must be, seen from the symbol a model was trained on.

One volatility model, fitted to one symbol, is too narrow for most others. A factor for each symbol
that was there in training puts that right; one that nobody saw gets the factors' geometric mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from domain.errors import ModelError


def pair_of(symbol: str) -> str:
    """Return the pair of a market: a perpetual has its pair's."""
    return symbol.split(":")[0]


@dataclass(frozen=True, slots=True)
class Scales:
    """Factors on σ̂ by pair, the training symbol's own (1) among them; empty = 1 for all."""

    factors: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, body: Any) -> Self:
        """Read what a params.json holds; None where there is nothing.

        Raises
        ------
        ModelError : if a factor is no finite number above 0.
        """
        try:
            factors = {str(pair): float(factor) for pair, factor in (body or {}).items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelError("scales", f"must be factors by symbol: {error}") from error
        if not all(0.0 < factor < np.inf for factor in factors.values()):
            raise ModelError("scales", "must be finite and above 0", factors)
        return cls(factors)

    def of(self, symbol: str) -> float:
        """Return the factor on σ̂ of a symbol."""
        if not self.factors:
            return 1.0
        usual = float(np.exp(np.mean(np.log(list(self.factors.values())))))
        return self.factors.get(pair_of(symbol), usual)
