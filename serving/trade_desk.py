"""Trades made elsewhere: taken down once per id, beside the account and never in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from domain.errors import DuplicateRecord
from domain.operations import ExternalTrade
from execution.loop import TradingLoop
from serving.schema import external_of
from storage.queries import Reader

EXTERNAL = "external"  # the account that such trades are told on


def imported(
    loop: TradingLoop, reader: Reader, body: Mapping[str, Any], now: int
) -> dict[str, Any]:
    """Append a trade from elsewhere; the same id again is the same trade.

    Parameters
    ----------
    body : as :class:`serving.requests.TradeRequest`, times in ms, numbers as text.
    now : ms, market time.

    Raises
    ------
    DuplicateRecord : if the id was used for another trade.
    """
    told = _trade(body, now)
    known = reader.external_trade(told.id)
    if known is None:
        loop.note(told)
        return {"trade": external_of(told), "new": True}
    kept = known[1]
    if replace(told, at=kept.at, by=kept.by) != kept:
        raise DuplicateRecord("trade", "has an id that is taken by another one", told.ref)
    return {"trade": external_of(kept), "new": False}


def _trade(body: Mapping[str, Any], now: int) -> ExternalTrade:
    qty, entry, exit_, fee, funding = (
        Decimal(str(body[name])) for name in ("qty", "entry", "exit", "fee", "funding")
    )
    gross = (exit_ - entry) * qty * (1 if body["side"] == "LONG" else -1)
    return ExternalTrade(
        EXTERNAL, str(body["id"]), now, str(body["symbol"]), body["side"], qty,
        int(body["opened_at"]), int(body["closed_at"]), entry, exit_, fee, funding,
        gross - fee - funding, str(body["by"]), str(body["source"]), str(body["note"]),
    )  # fmt: skip
