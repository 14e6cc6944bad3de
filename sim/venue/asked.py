"""One question to the venue: a market and its parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping

from domain.errors import NotFound
from domain.market import Market
from sim.venue import refusals
from sim.venue.market import Listing, Markets


class Asked:
    """One question: a market and its parameters."""

    def __init__(self, market: Market, query: Mapping[str, str], markets: Markets) -> None:
        self.market, self.query, self.markets = market, query, markets

    def listing(self) -> Listing:
        """Return the symbol that is asked about.

        Raises
        ------
        Refused : without one, or if it is not listed.
        """
        name = self.query.get("symbol")
        if not name:
            raise refusals.missing("symbol")
        return self._listed(name)

    def _listed(self, name: str) -> Listing:
        try:
            return self.markets.listing(self.market, name)
        except NotFound:
            raise refusals.invalid_symbol() from None

    def listings(self) -> list[Listing]:
        """Return the symbol or the symbols that are asked about, or all of the market.

        Raises
        ------
        Refused : if one is not listed, or ``symbols`` is no list in JSON.
        """
        if "symbol" in self.query:
            return [self.listing()]
        if "symbols" in self.query:
            return [self._listed(name) for name in _names(self.query["symbols"])]
        return [one for (market, _), one in self.markets.listings.items() if market == self.market]

    def number(self, name: str) -> int | None:
        """Return a whole number ≥ 0; None where it is not given.

        Raises
        ------
        Refused : if it is none.
        """
        text = self.query.get(name)
        if text is None or text == "":
            return None
        if not text.isdecimal():
            raise refusals.illegal(name)
        return int(text)

    def limit(self, usual: int, most: int) -> int:
        """Return how many are wanted, at most ``most``."""
        wanted = self.number("limit")
        return usual if not wanted else min(wanted, most)


def _names(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise refusals.illegal("symbols")
    return names


def text(value: float) -> str:
    """Write a number as the venue does."""
    return repr(float(value))
