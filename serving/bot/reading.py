"""The commands that only look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from domain.errors import UsageError
from notifications import replies
from notifications.explaining import why as why_text
from notifications.markup import Button, Note, Picture, Rows, bold
from serving.bot.asked import Asked
from serving.bot.facts import Facts
from serving.earnings import Period

_DAYS, _MOST = 7, 31
_TRADES = 10
_LINES = 10
_SIGNAL_SECONDS = 15.0

Answer = Callable[[Facts, Asked], Awaitable[Note]]


def again(asked: Asked) -> Rows:
    """Return the button that brings an answer up to date."""
    data = f"re:{asked.command} {asked.words}".strip()
    return ((Button("🔄 Refresh", data),),) if len(data.encode()) <= 64 else ()


def count_of(text: str, default: int, most: int) -> int:
    """Read a number of rows.

    Raises
    ------
    UsageError : if it is no number from 1 to ``most``.
    """
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= most):
        raise UsageError("number", f"must be from 1 to {most}", text)
    return int(text)


async def status(facts: Facts, asked: Asked) -> Note:
    """/status."""
    health, risk = facts.service.health(), facts.service.risk()
    return Note(replies.status(health, risk, facts.account), again(asked))


async def profit(facts: Facts, asked: Asked) -> Note:
    """/profit, with the equity picture."""
    del asked
    closed, data = facts.closed(), facts.equity_data()
    html = replies.profit(facts.account, data["initial"], closed, facts.currency)
    return Note(html, (), Picture("equity", data) if len(data["marks"]) > 1 else None)


async def balance(facts: Facts, asked: Asked) -> Note:
    """/balance."""
    return Note(replies.balance(facts.account), again(asked))


def earned(period: Period, title: str, default: int) -> Answer:
    """Make /daily, /weekly or /monthly."""

    async def answer(facts: Facts, asked: Asked) -> Note:
        rows = facts.earned(period, count_of(asked.first, default, _MOST))
        return Note(replies.earned(title, rows, facts.currency), again(asked))

    return answer


async def trades(facts: Facts, asked: Asked) -> Note:
    """/trades."""
    count = count_of(asked.first, _TRADES, 50)
    return Note(replies.trades(facts.trades(count)), again(asked))


async def performance(facts: Facts, asked: Asked) -> Note:
    """/performance."""
    html = replies.earned("By symbol", facts.performance(), facts.currency)
    return Note(html, again(asked))


async def show_config(facts: Facts, asked: Asked) -> Note:
    """/show_config."""
    return Note(replies.config(*facts.config(asked.first)))


async def logs(facts: Facts, asked: Asked) -> Note:
    """/logs."""
    process = asked.first or ("up" if facts.service.plan.local else "desk")
    count = count_of(asked.rest, _LINES, 50)
    return Note(replies.logs(facts.logs(process, count)), again(asked))


async def version(facts: Facts, asked: Asked) -> Note:
    """/version."""
    del asked
    return Note(replies.version(facts.version()))


async def signal(facts: Facts, asked: Asked) -> Note:
    """/signal: asks the council about the last closed bar."""
    body = {"symbol": facts.symbol(asked.first)}
    found = await facts.over_http("POST", "/v1/signals", body, _SIGNAL_SECONDS)
    return Note(replies.consensus([found]), _about(found))


def _about(signal: Mapping[str, Any]) -> Rows:
    return ((Button("Why", f"why:{signal['id']}"), Button("Chart", f"chart:{signal['symbol']}")),)


async def why(facts: Facts, asked: Asked) -> Note:
    """/why in full."""
    return Note(why_text(facts.why(asked.first)))


async def chart(facts: Facts, asked: Asked) -> Note:
    """/chart: price with what was decided."""
    symbol = facts.symbol(asked.first)
    data = await asyncio.to_thread(facts.price_data, symbol)
    return Note(f"{bold(symbol)} {data['timeframe']}", (), Picture("price", data))


async def agents(facts: Facts, asked: Asked) -> Note:
    """/agents."""
    listed = await facts.over_http("GET", "/v1/agents")
    return Note(replies.agents(listed["items"], facts.service.weights()), again(asked))


async def consensus(facts: Facts, asked: Asked) -> Note:
    """/consensus."""
    return Note(replies.consensus(facts.consensus()), again(asked))


async def calibration(facts: Facts, asked: Asked) -> Note:
    """/calibration, with its picture."""
    body = await asyncio.to_thread(facts.calibration, facts.symbol(asked.first))
    picture = Picture("calibration", {**body, **facts.look()}) if body["bins"] else None
    return Note(replies.calibration(body), (), picture)


async def risk(facts: Facts, asked: Asked) -> Note:
    """/risk."""
    return Note(replies.risk(facts.service.risk()), again(asked))


async def paper(facts: Facts, asked: Asked) -> Note:
    """/paper."""
    return Note(replies.paper(facts.paper(), facts.account), again(asked))
