"""Default venue filters and fees, for when the venue itself cannot be asked.

Binance's, regular tier (see the venue's ``exchangeInfo``): the tables hold tick, quantity step and
minimum notional of the pairs the sample data covers. Any other pair gets filters scaled by its
price where one is given, else ones that suit a price of about 1–100 USDT.
"""

from __future__ import annotations

from decimal import Decimal

from domain.errors import UsageError
from domain.market import Instrument, MarginTier, Market, market_of, parse_symbol

TAKER_BPS: dict[Market, float] = {"spot": 10.0, "perp": 5.0}
MAKER_BPS: dict[Market, float] = {"spot": 10.0, "perp": 2.0}

# base: (tick, step = minimum quantity, maximum quantity, minimum notional), against USDT
_PERP = {
    "BTC": ("0.10", "0.001", "1000", "100"),
    "ETH": ("0.01", "0.001", "10000", "20"),
    "BNB": ("0.01", "0.01", "100000", "5"),
    "SOL": ("0.01", "0.01", "1000000", "5"),
    "XRP": ("0.0001", "0.1", "10000000", "5"),
    "DOGE": ("0.00001", "1", "50000000", "5"),
    "ADA": ("0.0001", "1", "20000000", "5"),
    "LTC": ("0.01", "0.001", "100000", "5"),
}
_SPOT = {
    "BTC": ("0.01", "0.00001", "9000", "5"),
    "ETH": ("0.01", "0.0001", "9000", "5"),
    "BNB": ("0.01", "0.001", "900000", "5"),
    "SOL": ("0.01", "0.001", "90000", "5"),
    "XRP": ("0.0001", "0.1", "9000000", "5"),
    "DOGE": ("0.00001", "1", "90000000", "5"),
    "ADA": ("0.0001", "0.1", "9000000", "5"),
    "LTC": ("0.01", "0.001", "90000", "5"),
}
_TABLES = {"spot": _SPOT, "perp": _PERP}
_OTHER = ("0.0001", "0.1", "10000000", "5")

# up to a notional: (notional, maintenance rate, largest leverage, deducted amount)
_BTC_TIERS = (
    ("300000", "0.004", 150, "0"),
    ("800000", "0.005", 100, "300"),
    ("3000000", "0.0065", 75, "1500"),
    ("12000000", "0.01", 50, "12000"),
    ("70000000", "0.02", 25, "132000"),
    ("100000000", "0.025", 20, "482000"),
)
_OTHER_TIERS = (
    # stricter than any pair of the tables has: what is not known must not look cheap
    ("50000", "0.01", 50, "0"),
    ("250000", "0.025", 20, "750"),
    ("1000000", "0.05", 10, "7000"),
)


def instrument_for(symbol: str, price: float | None = None) -> Instrument:
    """Return the default filters and fees of a symbol.

    Parameters
    ----------
    symbol : any form that :func:`domain.market.parse_symbol` reads.
    price : a recent price in quote units; only used for pairs without an entry of their own, whose
        tick becomes 0.01–0.1 bps of it and whose step is worth at most 1 quote unit.

    Raises
    ------
    UsageError : if the symbol cannot be read, or the price is not positive.
    """
    symbol = parse_symbol(symbol)
    market = market_of(symbol)
    base, quote = symbol.split(":")[0].split("/")
    known = _TABLES[market].get(base) if quote == "USDT" else None
    row = known or (_OTHER if price is None else _scaled(price))
    tick, step, max_qty, min_notional = (Decimal(text) for text in row)
    return Instrument(
        symbol=symbol,
        tick=tick,
        step=step,
        min_qty=step,
        max_qty=max_qty,
        min_notional=min_notional,
        taker_bps=TAKER_BPS[market],
        maker_bps=MAKER_BPS[market],
        tiers=() if market == "spot" else _tiers(base),
    )


def _tiers(base: str) -> tuple[MarginTier, ...]:
    rows = _BTC_TIERS if base == "BTC" else _OTHER_TIERS
    return tuple(
        MarginTier(Decimal(up_to), Decimal(rate), most, Decimal(deducted))
        for up_to, rate, most, deducted in rows
    )


def _scaled(price: float) -> tuple[str, str, str, str]:
    if not price > 0:
        raise UsageError("price", "must be positive", price)
    magnitude = Decimal(repr(float(price))).adjusted()  # 10^magnitude ≤ price
    step = Decimal(1).scaleb(-(magnitude + 1))
    tick = Decimal(1).scaleb(magnitude - 5)
    return (format(tick, "f"), format(step, "f"), format(step * 10**8, "f"), "5")
