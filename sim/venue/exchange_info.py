"""What the venue lists, with the filters of its symbols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.market import Market
from sim.venue.asked import Asked
from sim.venue.market import Listing

LIMITS: Mapping[Market, int] = {"spot": 6_000, "perp": 2_400}  # weight a minute
_FOR_EVER = 4_133_404_800_000  # delivery date of a perpetual, as the venue writes it


def exchange_info(asked: Asked) -> Any:
    """Return the symbols that are asked about, or all."""
    told = _spot_symbol if asked.market == "spot" else _perp_symbol
    now, halts = asked.markets.clock.now(), asked.markets.halts
    return {
        "timezone": "UTC",
        "serverTime": now,
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1,
             "limit": LIMITS[asked.market]},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 50},
        ],
        "exchangeFilters": [],
        "symbols": [told(listing, halts.closed(listing.key, now)) for listing in asked.listings()],
    }  # fmt: skip


def _filters(listing: Listing) -> list[dict[str, Any]]:
    rules = listing.instrument
    lot = {"minQty": f"{rules.min_qty:f}", "maxQty": f"{rules.max_qty:f}",
           "stepSize": f"{rules.step:f}"}  # fmt: skip
    return [
        {"filterType": "PRICE_FILTER", "minPrice": f"{rules.tick:f}", "maxPrice": "10000000",
         "tickSize": f"{rules.tick:f}"},
        {"filterType": "LOT_SIZE", **lot},
        {"filterType": "MARKET_LOT_SIZE", **lot},
    ]  # fmt: skip


def _spot_symbol(listing: Listing, halted: bool) -> dict[str, Any]:
    rules = listing.instrument
    return {
        "symbol": listing.name, "status": "BREAK" if halted else "TRADING",
        "baseAsset": listing.base,
        "baseAssetPrecision": 8, "quoteAsset": listing.quote, "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT",
                       "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": False, "ocoAllowed": False, "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False, "permissions": [], "permissionSets": [["SPOT"]],
        "filters": [
            *_filters(listing),
            {"filterType": "NOTIONAL", "minNotional": f"{rules.min_notional:f}",
             "applyMinToMarket": True, "maxNotional": "9000000", "applyMaxToMarket": False,
             "avgPriceMins": 5},
        ],
    }  # fmt: skip


def _perp_symbol(listing: Listing, halted: bool) -> dict[str, Any]:
    rules = listing.instrument
    return {
        "symbol": listing.name, "pair": listing.name, "contractType": "PERPETUAL",
        "deliveryDate": _FOR_EVER, "onboardDate": 0,
        "status": "TRADING_HALT" if halted else "TRADING",
        "maintMarginPercent": "2.5000", "requiredMarginPercent": "5.0000",
        "baseAsset": listing.base, "quoteAsset": listing.quote, "marginAsset": listing.quote,
        "pricePrecision": _digits(f"{rules.tick:f}"),
        "quantityPrecision": _digits(f"{rules.step:f}"),
        "baseAssetPrecision": 8, "quotePrecision": 8, "underlyingType": "COIN",
        "liquidationFee": f"{rules.liquidation_bps / 1e4:g}",
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT",
                       "TAKE_PROFIT_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        "filters": [
            *_filters(listing),
            {"filterType": "MIN_NOTIONAL", "notional": f"{rules.min_notional:f}"},
        ],
    }  # fmt: skip


def _digits(step: str) -> int:
    return len(step.rstrip("0").partition(".")[2])
