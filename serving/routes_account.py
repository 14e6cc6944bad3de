"""Routes of the account: trades, positions, orders, equity, and the journal about them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from domain.canonical import plain
from domain.errors import NotFound, UsageError
from domain.times import iso, parse_iso
from serving.journal_view import detailed, listed
from serving.params import TOKEN, Cursor, Id, Limit, Service, Who, listing, seq
from serving.replies import (
    EquityView,
    JournalEntry,
    JournalRow,
    JournalTold,
    Listing,
    OrderView,
    PositionView,
    TradeTold,
    TradeView,
)
from serving.requests import JournalRequest, TradeRequest
from serving.schema import external_of, fill_of, symbol_in, trade_of
from serving.trade_desk import EXTERNAL

router = APIRouter(tags=["account"])

Account = Annotated[
    str | None,
    Query(max_length=40, description="only of this account; `external`: told from elsewhere"),
]


@router.get("/v1/trades", response_model=Listing[TradeView], response_model_exclude_unset=True)
def list_trades(
    service: Service, account: Account = None, limit: Limit = 100, cursor: Cursor = None
) -> Any:
    """List closed trades, and those told from elsewhere, newest first in the ledger."""
    before, found = seq(cursor), []
    if account != EXTERNAL:
        own = service.reader.trades(limit=limit + 1, before_seq=before, account=account)
        found += [(number, trade_of(trade)) for number, trade in own.items]
    if account in (None, EXTERNAL):
        told = service.reader.external_trades(limit=limit + 1, before_seq=before)
        found += [(number, external_of(trade)) for number, trade in told.items]
    found.sort(key=lambda row: -row[0])
    more = found[limit - 1][0] if len(found) > limit else None
    return listing([row for _, row in found[:limit]], more)


@router.post(
    "/v1/trades", dependencies=TOKEN, response_model=TradeTold, response_model_exclude_unset=True
)
async def tell_trade(body: TradeRequest, service: Service, who: Who) -> Any:
    """Take down a round trip made elsewhere, once per id; it moves no account here.

    The same id with the same trade again changes nothing; with another trade it is refused (409).
    Needs the scope ``trade``.
    """
    opened, closed = parse_iso(body.opened_at), parse_iso(body.closed_at)
    if closed < opened:
        raise UsageError("closed_at", "must not lie before opened_at", body.closed_at)
    said = {
        **plain(body.model_dump()), "symbol": symbol_in(body.symbol), "by": who,
        "opened_at": opened, "closed_at": closed,
    }  # fmt: skip
    return await service.ask_desk("external_trade", said)


@router.get("/v1/trades/{trade_id}", response_model=TradeView, response_model_exclude_unset=True)
def one_trade(trade_id: Id, service: Service) -> Any:
    """Return one closed trade."""
    found = service.reader.trade(trade_id)
    if found is not None:
        return trade_of(found[1])
    told = service.reader.external_trade(trade_id)
    if told is None:
        raise NotFound("trade", "is not in the ledger", trade_id)
    return external_of(told[1])


@router.get("/v1/positions", response_model=Listing[PositionView])
def list_positions(service: Service) -> Any:
    """List open positions, marked to the last close."""
    told = service.portfolio()
    return listing([] if told is None else told["positions"])


@router.get("/v1/orders", response_model=Listing[OrderView])
def list_orders(service: Service, limit: Limit = 100, cursor: Cursor = None) -> Any:
    """List orders, newest first, each with its fills."""
    page = service.reader.orders(limit=limit, before_seq=seq(cursor))
    fills = service.reader.fills_of(order.id for _, order in page.items)
    items = [
        {**plain(order), "created_at": iso(order.created_at),
         "fills": [fill_of(fill) for fill in fills[order.id]]}
        for _, order in page.items
    ]  # fmt: skip
    return listing(items, page.next)


@router.get("/v1/equity", response_model=EquityView)
def list_equity(
    service: Service,
    points: Annotated[int, Query(ge=2, le=5000, description="most that are returned")] = 500,
) -> Any:
    """Return the account's value over time, thinned evenly, and the account now."""
    marks = service.reader.equity_marks(service.account, max_points=points)
    return {
        "account": service.portfolio(),
        "items": [{**plain(mark), "at": iso(mark.at)} for mark in marks],
        "next": None,
    }


@router.get("/v1/journal", response_model=Listing[JournalRow], response_model_exclude_unset=True)
def list_journal(
    service: Service,
    missing: Annotated[bool, Query(description="only those without a person's words")] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Any:
    """List closed trades with the newest that was written about each, newest first."""
    return listing(
        *listed(
            service.reader, service.account, missing=missing, limit=limit, before_seq=seq(cursor)
        )
    )


@router.get(
    "/v1/journal/{trade_id}", response_model=JournalEntry, response_model_exclude_unset=True
)
def one_entry(trade_id: Id, service: Service) -> Any:
    """Return a closed trade with everything written about it, and how far it went either way."""
    return detailed(service.reader, trade_id)


@router.post(
    "/v1/journal", dependencies=TOKEN, response_model=JournalTold,
    response_model_exclude_unset=True,
)  # fmt: skip
async def write_journal(body: JournalRequest, service: Service) -> Any:
    """Write about a closed trade, or close a position: its reflection comes first, in one append.

    The same words about the same trade again add nothing. Needs the scope ``trade``.
    """
    said = body.model_dump()
    if body.symbol is not None:
        said["symbol"] = symbol_in(body.symbol)
    return await service.ask_desk(body.action, said)
