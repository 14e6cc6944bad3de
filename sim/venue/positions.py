"""What Binance USDT-M answers to questions about wallets, positions and leverage."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from domain.trading import ZERO
from sim.venue import order_refusals as refuse
from sim.venue import refusals
from sim.venue.margins import Margins
from sim.venue.market import Listing
from sim.venue.refusals import Refused
from sim.venue.reports import Body, num
from sim.venue.trading import Call, Endpoint, Endpoints


def _margins(call: Call) -> Margins:
    return Margins(call.markets, call.account, call.at)


def _used(call: Call) -> list[Listing]:
    """Listings with a position or an order."""
    names = {name for name, held in call.account.perp.held.items() if held.qty}
    names |= {order.name for order in call.account.open_orders("perp")}
    return [listing for listing in call.listings() if listing.name in names]


def _position(call: Call, margins: Margins, listing: Listing) -> Body:
    held, alone = call.account.perp.of(listing.name), margins.position_margin(listing)
    tied = margins.tied(listing)
    return {
        "symbol": listing.name, "positionSide": "BOTH", "positionAmt": num(held.qty),
        "isolatedMargin": "0", "isolatedWallet": "0", "notional": num(margins.notional(listing)),
        "initialMargin": num(tied), "maintMargin": num(margins.maintenance(listing)),
        "positionInitialMargin": num(alone), "openOrderInitialMargin": num(tied - alone),
        "updateTime": held.updated_at,
    }  # fmt: skip


def _risk(call: Call, margins: Margins, listing: Listing) -> Body:
    held = call.account.perp.of(listing.name)
    return {
        **_position(call, margins, listing), "entryPrice": num(held.entry),
        "breakEvenPrice": num(held.entry), "markPrice": num(margins.mark(listing)),
        "unRealizedProfit": num(margins.profit(listing)),
        "liquidationPrice": num(margins.liquidation(listing)), "adl": 0, "bidNotional": "0",
        "askNotional": "0", "marginAsset": listing.quote,
    }  # fmt: skip


def _most(listing: Listing, leverage: int) -> Decimal:
    """Largest notional at a leverage, quote units."""
    tiers = listing.instrument.tiers
    return max((tier.up_to for tier in tiers if tier.max_leverage >= leverage), default=ZERO)


def _risks_v3(call: Call) -> Any:
    margins = _margins(call)
    return [_risk(call, margins, listing) for listing in _used(call)]


def _risks_v2(call: Call) -> Any:
    margins, rows = _margins(call), []
    for listing in call.listings():
        leverage = call.account.perp.of(listing.name).leverage
        rows.append({
            **_risk(call, margins, listing), "leverage": str(leverage), "marginType": "cross",
            "isAutoAddMargin": "false", "isolated": False, "adlQuantile": 0,
            "maxNotionalValue": num(_most(listing, leverage)),
        })  # fmt: skip
    return rows


def _assets(call: Call) -> list[str]:
    settled = {listing.quote for listing in call.listings()}
    return sorted(settled | set(call.account.perp.balances))


def _asset(call: Call, margins: Margins, asset: str) -> Body:
    wallet, gained = call.account.perp.balances.get(asset, ZERO), margins.unrealised(asset)
    names = {listing.name: listing for listing in call.listings() if listing.quote == asset}
    alone = sum((margins.position_margin(listing) for listing in names.values()), ZERO)
    tied, free = margins.tied_all(asset), num(margins.available(asset))
    return {
        "asset": asset, "walletBalance": num(wallet), "unrealizedProfit": num(gained),
        "marginBalance": num(wallet + gained), "maintMargin": num(margins.maintenance_all(asset)),
        "initialMargin": num(tied), "positionInitialMargin": num(alone),
        "openOrderInitialMargin": num(tied - alone), "crossWalletBalance": num(wallet),
        "crossUnPnl": num(gained), "availableBalance": free, "maxWithdrawAmount": free,
        "marginAvailable": True, "updateTime": call.at,
    }  # fmt: skip


def _account(call: Call, positions: list[Body], margins: Margins) -> Body:
    rows = [_asset(call, margins, asset) for asset in _assets(call)]
    totals = {
        "totalInitialMargin": "initialMargin", "totalMaintMargin": "maintMargin",
        "totalWalletBalance": "walletBalance", "totalUnrealizedProfit": "unrealizedProfit",
        "totalMarginBalance": "marginBalance",
        "totalPositionInitialMargin": "positionInitialMargin",
        "totalOpenOrderInitialMargin": "openOrderInitialMargin",
        "totalCrossWalletBalance": "crossWalletBalance", "totalCrossUnPnl": "crossUnPnl",
        "availableBalance": "availableBalance", "maxWithdrawAmount": "maxWithdrawAmount",
    }  # fmt: skip
    sums = {
        total: num(sum((Decimal(row[name]) for row in rows), ZERO))
        for total, name in totals.items()
    }
    return {**sums, "assets": rows, "positions": positions}


def _account_v3(call: Call) -> Any:
    margins = _margins(call)
    rows = [
        {**_position(call, margins, listing), "unrealizedProfit": num(margins.profit(listing))}
        for listing in _used(call)
    ]
    return _account(call, rows, margins)


def _account_v2(call: Call) -> Any:
    margins, rows = _margins(call), []
    for listing in call.listings():
        held = call.account.perp.of(listing.name)
        rows.append({
            **_position(call, margins, listing), "unrealizedProfit": num(margins.profit(listing)),
            "leverage": str(held.leverage), "entryPrice": num(held.entry), "isolated": False,
            "breakEvenPrice": num(held.entry), "maxNotional": num(_most(listing, held.leverage)),
            "bidNotional": "0", "askNotional": "0",
        })  # fmt: skip
    more = {"feeTier": 0, "canTrade": call.key.trades, "canDeposit": True,
            "canWithdraw": call.key.withdraws, "updateTime": call.at,
            "multiAssetsMargin": False, "tradeGroupId": -1}  # fmt: skip
    return {**more, **_account(call, rows, margins)}


def _balance(call: Call) -> Any:
    margins, rows = _margins(call), []
    for asset in _assets(call):
        row = _asset(call, margins, asset)
        rows.append({
            "accountAlias": call.account.name, "balance": row["walletBalance"],
            **{name: row[name] for name in ("asset", "crossWalletBalance", "crossUnPnl",
               "availableBalance", "maxWithdrawAmount", "marginAvailable", "updateTime")},
        })  # fmt: skip
    return rows


def _set_leverage(call: Call) -> Any:
    listing, leverage = call.listing(), call.number("leverage")
    if leverage is None:
        raise refusals.missing("leverage")
    tiers, held = listing.instrument.tiers, call.account.perp.of(listing.name)
    if not 1 <= leverage <= max(tier.max_leverage for tier in tiers):
        raise Refused(400, -4028, f"Leverage {leverage} is not valid")
    margins, before = _margins(call), held.leverage
    if _most(listing, leverage) < margins.largest(listing):
        raise refuse.too_large()
    more = margins.largest(listing) * (Decimal(1) / leverage - Decimal(1) / before)
    if more > margins.available(listing.quote):
        raise refuse.poor("perp")
    held.leverage = leverage
    return {"symbol": listing.name, "leverage": leverage,
            "maxNotionalValue": num(_most(listing, leverage))}  # fmt: skip


def _set_margin_type(call: Call) -> Any:
    call.listing()
    if call.query.get("marginType", "").upper() != "CROSSED":
        raise refuse.invalid("marginType")  # isolated margin is not there
    raise Refused(400, -4046, "No need to change margin type.")


def _set_dual(call: Call) -> Any:
    if call.query.get("dualSidePosition", "").lower() != "false":
        raise refuse.invalid("dualSidePosition")  # nor are two positions of a symbol
    raise Refused(400, -4059, "No need to change position side.")


def _brackets(call: Call) -> Any:
    rows = []
    for listing in call.listings():
        floor, brackets = ZERO, []
        for number, tier in enumerate(listing.instrument.tiers, 1):
            brackets.append({
                "bracket": number, "initialLeverage": tier.max_leverage,
                "notionalCap": float(tier.up_to), "notionalFloor": float(floor),
                "maintMarginRatio": float(tier.rate), "cum": float(tier.deducted),
            })  # fmt: skip
            floor = tier.up_to
        rows.append({"symbol": listing.name, "brackets": brackets})
    return rows


def _commission(call: Call) -> Any:
    listing = call.listing()
    return {
        "symbol": listing.name,
        "makerCommissionRate": f"{listing.instrument.maker_bps / 1e4:.6f}",
        "takerCommissionRate": f"{listing.instrument.taker_bps / 1e4:.6f}",
    }


def _config(call: Call) -> Any:
    rows = []
    for listing in call.listings():
        leverage = call.account.perp.of(listing.name).leverage
        rows.append({
            "symbol": listing.name, "marginType": "CROSSED", "isAutoAddMargin": False,
            "leverage": leverage, "maxNotionalValue": num(_most(listing, leverage)),
        })  # fmt: skip
    return rows


POSITIONS: Endpoints = {
    ("GET", "/fapi/v2/positionRisk"): Endpoint(_risks_v2, 5),
    ("GET", "/fapi/v3/positionRisk"): Endpoint(_risks_v3, 5),
    ("GET", "/fapi/v2/account"): Endpoint(_account_v2, 5),
    ("GET", "/fapi/v3/account"): Endpoint(_account_v3, 5),
    ("GET", "/fapi/v2/balance"): Endpoint(_balance, 5),
    ("GET", "/fapi/v3/balance"): Endpoint(_balance, 5),
    ("POST", "/fapi/v1/leverage"): Endpoint(_set_leverage, 1, "trade"),
    ("POST", "/fapi/v1/marginType"): Endpoint(_set_margin_type, 1, "trade"),
    ("GET", "/fapi/v1/positionSide/dual"): Endpoint(lambda _: {"dualSidePosition": False}, 30),
    ("POST", "/fapi/v1/positionSide/dual"): Endpoint(_set_dual, 1, "trade"),
    ("GET", "/fapi/v1/multiAssetsMargin"): Endpoint(lambda _: {"multiAssetsMargin": False}, 30),
    ("GET", "/fapi/v1/leverageBracket"): Endpoint(_brackets),
    ("GET", "/fapi/v1/commissionRate"): Endpoint(_commission, 20),
    ("GET", "/fapi/v1/symbolConfig"): Endpoint(_config, 5),
}
