"""What an exchange lists, from ccxt's words to ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from data.instruments import instrument_for
from domain.errors import DataRefused
from domain.market import Instrument, parse_symbol


def instrument_of(market: Mapping[str, Any]) -> Instrument:
    """Return filters and fees of one of ccxt's markets whose precision is a step (``TICK_SIZE``).

    What it does not tell (fees of an account that nobody asked about, tiers of margin) is as in
    :func:`data.instruments.instrument_for`.

    Raises
    ------
    DataRefused : if it is not traded now, or a step is missing or not positive.
    """
    usual = instrument_for(parse_symbol(str(market["symbol"])))
    if market.get("active") is False:
        raise DataRefused(usual.symbol, "must be traded now", "closed by the exchange")
    amount = market["limits"]["amount"]
    taker, maker = market.get("taker"), market.get("maker")
    step = _step(market, "amount")
    return replace(
        usual,
        tick=_step(market, "price"),
        step=step,
        min_qty=_number(amount.get("min")) or step,
        max_qty=_number(amount.get("max")) or usual.max_qty,
        min_notional=_number(market["limits"]["cost"].get("min")) or usual.min_notional,
        taker_bps=usual.taker_bps if taker is None else round(float(taker) * 1e4, 6),
        maker_bps=usual.maker_bps if maker is None else round(float(maker) * 1e4, 6),
    )


def _step(market: Mapping[str, Any], name: str) -> Decimal:
    found = _number(market["precision"].get(name))
    if found is None or not found > 0:
        raise DataRefused(
            str(market["symbol"]), f"must have a step of its {name}",
            market["precision"].get(name),
        )  # fmt: skip
    return found


def _number(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))
