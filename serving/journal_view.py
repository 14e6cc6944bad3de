"""The journal as people read it: trades with what was written about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from domain.canonical import plain
from domain.decision import Decision
from domain.errors import NotFound
from domain.market import BarFrame
from domain.times import timeframe_ms
from domain.trading import ClosedTrade, Order
from execution.journal import within
from serving.journal_desk import reflection_of
from sim.journal_review import Entry, told
from sim.reports.trade_plot import Picture
from storage.queries import Reader

AROUND = 24  # bars shown before the entry and after the exit
_PAGE = 200


def entries(
    reader: Reader, account: str, *, before_seq: int | None = None, page: int = _PAGE
) -> Iterator[tuple[int, Entry]]:
    """Iterate over (seq, closed trade with its reflections), newest first."""
    while True:
        found = reader.trades(limit=page, before_seq=before_seq, account=account)
        texts = reader.reflections(trade.decision_id for _, trade in found.items)
        for seq, trade in found.items:
            yield seq, Entry(trade, tuple(texts[trade.decision_id]))
        before_seq = found.next
        if before_seq is None:
            return


def listed(
    reader: Reader, account: str, *, missing: bool = False, limit: int = 100,
    before_seq: int | None = None,
) -> tuple[list[dict[str, Any]], int | None]:  # fmt: skip
    """Return up to ``limit`` trades with their reflections, newest first, and where it goes on.

    Parameters
    ----------
    missing : only those that no person wrote about.
    """
    items: list[dict[str, Any]] = []
    last = before_seq
    for seq, one in entries(reader, account, before_seq=before_seq):
        if missing and one.words is not None:
            continue
        if len(items) == limit:
            return items, last
        items.append(told(one))
        last = seq
    return items, None


def closed_within(reader: Reader, account: str, start: int, end: int) -> list[Entry]:
    """Return the trades that closed in [start, end) (ms), in closing order."""
    found = []
    for _, one in entries(reader, account):
        if one.trade.closed_at < start:
            break
        if one.trade.closed_at < end:
            found.append(one)
    return found[::-1]


def entry_of(reader: Reader, trade_id: str) -> Entry:
    """Return a trade with its reflections.

    Raises
    ------
    NotFound : if there is no such trade.
    """
    found = reader.trade(trade_id)
    if found is None:
        hint = "conclave journal list shows the last."
        raise NotFound("trade", "is not in the ledger", trade_id, hint)
    trade = found[1]
    return Entry(trade, tuple(reader.reflections([trade.decision_id])[trade.decision_id]))


def detailed(reader: Reader, trade_id: str) -> dict[str, Any]:
    """Return a trade with everything written about it, its decision and how far it went."""
    one = entry_of(reader, trade_id)
    decision = _decision(reader, one.trade)
    body = told(one)
    body["reflections"] = [reflection_of(each) for each in one.reflections]
    body["decision"] = None if decision is None else {
        "id": decision.id, "reason": decision.reason, "prob_up": decision.prob_up,
        "stop": decision.stop, "target": decision.target,
    }  # fmt: skip
    body["excursion"] = None
    if decision is not None:
        bars = _bars(reader, one.trade, decision.timeframe, 1)
        moved = within((bars.bar(i) for i in range(len(bars))), one.trade)
        body["excursion"] = plain(moved)
    return body


def picture_of(reader: Reader, trade_id: str) -> Picture:
    """Return what a trade's plot shows.

    Raises
    ------
    NotFound : if there is no such trade, or its decision is not on the ledger.
    """
    trade = entry_of(reader, trade_id).trade
    decision = _decision(reader, trade)
    if decision is None:
        raise NotFound("decision", "of this trade is not in the ledger", trade.decision_id)
    bars = _bars(reader, trade, decision.timeframe, AROUND)
    levels = {
        order.intent: order
        for _, order in reader.orders(decision_id=trade.decision_id, symbol=trade.symbol).items
    }
    first, last = int(bars.ts[0]), int(bars.ts[-1]) + bars.step_ms
    return Picture(
        trade, bars, _level(levels.get("stop")), _level(levels.get("target")),
        tuple(reader.probabilities(decision.symbol, first, last)),
    )  # fmt: skip


def _level(order: Order | None) -> float | None:
    price = None if order is None else order.trigger or order.price
    return None if price is None else float(price)


def _decision(reader: Reader, trade: ClosedTrade) -> Decision | None:
    found = reader.decision(trade.decision_id)
    return None if found is None else found[1]


def _bars(reader: Reader, trade: ClosedTrade, timeframe: str, around: int) -> BarFrame:
    step = timeframe_ms(timeframe)
    since, until = trade.opened_at - around * step, trade.closed_at + around * step
    count = -(-(until - since) // step) + 1
    frame = reader.bars(trade.symbol, timeframe, after_open_ms=since - step, limit=count)
    return frame.between(None, until)
