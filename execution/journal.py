"""The journal: what is written about a trade, and which entries wait for it.

A fold over the ledger, so that a restart knows what the running loop knew. After every close that
no person asked for, a draft is written from the rows: what was decided and why, prices, costs, how
far it went either way, whether the exit was one the plan had. In ``strict`` mode the next entry of
the same symbol and side then waits until a person has said something about that trade.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from domain.decision import Decision, ExitReason, Reason
from domain.errors import UsageError
from domain.market import Bar
from domain.operations import Reflection
from domain.times import MINUTE_MS, iso
from domain.trading import ZERO, ClosedTrade, Fill, Order
from execution.limits import Check
from execution.money import dec

JournalMode = Literal["strict", "draft", "off"]
AUTHOR = "journal"  # of drafts
PLANNED = frozenset(
    {ExitReason.STOP, ExitReason.TARGET, ExitReason.OPPOSITE, ExitReason.HORIZON}
)  # fmt: skip
"""Exits that every trade has in its plan."""

_TAG = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_MOST_TAGS = 10


def tags_of(given: Iterable[str], known: Iterable[str] = ()) -> tuple[str, ...]:
    """Return tags in lower case, each once, in the order given.

    Parameters
    ----------
    known : the tags there are; empty = any.

    Raises
    ------
    UsageError : for a tag that is none, or not among ``known``, or more than ten.
    """
    tags = tuple(dict.fromkeys(tag.strip().lower() for tag in given))
    choice = tuple(known)
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise UsageError("tag", "must be letters, digits, - and _, at most 32", tag)
        if choice and tag not in choice:
            raise UsageError("tag", "must be one of journal.tags", tag, f"{', '.join(choice)}.")
    if len(tags) > _MOST_TAGS:
        raise UsageError("tags", f"must be at most {_MOST_TAGS}", len(tags))
    return tags


def require_text(text: str, least: int) -> str:
    """Return a reflection's text without blanks around it.

    Raises
    ------
    UsageError : if it has fewer than ``least`` characters.
    """
    told = text.strip()
    if len(told) < least:
        raise UsageError(
            "reflection", f"must have at least {least} characters", told,
            "Say in a sentence why, and what you take from it.",
        )  # fmt: skip
    return told


@dataclass(frozen=True, slots=True)
class Excursion:
    """How far a trade went, as fractions of its entry: ``favourable`` ≥ 0, ``adverse`` ≤ 0."""

    favourable: float
    adverse: float


def excursion(side: str, entry: Decimal, highest: Decimal, lowest: Decimal) -> Excursion:
    """Return the best and the worst of a trade's prices; the entry itself is one of them."""
    high, low = max(highest, entry) / entry - 1, min(lowest, entry) / entry - 1
    best, worst = (high, low) if side == "LONG" else (-low, -high)
    return Excursion(float(best), float(worst))


def within(bars: Iterable[Bar], trade: ClosedTrade) -> Excursion:
    """Measure a closed trade on bars: those that ended after its entry and before its exit."""
    held = [
        bar for bar in bars if bar.close_ms > trade.opened_at and bar.close_ms < trade.closed_at
    ]
    prices = [trade.exit, *(dec(p) for bar in held for p in (bar.high, bar.low))]
    return excursion(trade.side, trade.entry, max(prices), min(prices))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was decided for a trade, and its levels."""

    decision: Decision | None
    stop: Decimal | None = None
    target: Decimal | None = None


@dataclass(slots=True)
class _Held:
    """An open trade: the extremes of the bars known to have ended before its exit."""

    plan: _Plan
    highest: Decimal
    lowest: Decimal
    recent: list[Bar] = field(default_factory=list)  # at most two: the exit may be in them
    bars: int = 0

    def see(self, bar: Bar) -> None:
        self.recent.append(bar)
        if len(self.recent) > 2:
            self.take(self.recent.pop(0))

    def take(self, bar: Bar) -> None:
        self.highest = max(self.highest, dec(bar.high))
        self.lowest = min(self.lowest, dec(bar.low))
        self.bars += 1


class Journal:
    """Who has said what about which trade, of one account.

    Parameters
    ----------
    mode : ``strict`` makes entries wait, ``draft`` only writes drafts; ``off`` is no journal.
    """

    def __init__(self, mode: JournalMode, account: str) -> None:
        self.mode, self._account = mode, account
        self._bars: dict[str, Bar] = {}
        self._decision: Decision | None = None
        self._plans: dict[str, tuple[str, _Plan]] = {}  # of entries on their way: order's id
        self._held: dict[str, _Held] = {}
        self._said: set[str] = set()  # decisions that a person wrote about
        self._waiting: dict[tuple[str, str], str] = {}  # symbol, side → last trade's decision

    def fold(self, record: Any) -> None:
        """Take in one ledger row; rows of no interest pass."""
        if isinstance(record, Bar):
            self._bar(record)
        elif isinstance(record, Decision):
            self._decision = record
        elif isinstance(record, Order):
            self._order(record)
        elif isinstance(record, Fill):
            self._fill(record)
        elif isinstance(record, ClosedTrade):
            self._close(record)
        elif isinstance(record, Reflection):
            self._reflection(record)

    def _bar(self, bar: Bar) -> None:
        self._bars[bar.symbol] = bar
        held = self._held.get(bar.symbol)
        if held is not None:
            held.see(bar)

    def _order(self, order: Order) -> None:
        if order.account != self._account:
            return
        if order.intent == "entry":
            decision = self._decision
            mine = decision is not None and decision.id == order.decision_id
            self._plans[order.symbol] = (order.decision_id, _Plan(decision if mine else None))
            return
        decision_id, plan = self._plans.get(order.symbol, ("", _Plan(None)))
        if decision_id != order.decision_id:
            return
        if order.trigger is not None:
            plan = _Plan(plan.decision, order.trigger, plan.target)
        elif order.price is not None:
            plan = _Plan(plan.decision, plan.stop, order.price)
        self._plans[order.symbol] = (decision_id, plan)

    def _fill(self, fill: Fill) -> None:
        if fill.account != self._account or fill.intent != "entry" or fill.symbol in self._held:
            return
        _, plan = self._plans.get(fill.symbol, ("", _Plan(None)))
        held = self._held[fill.symbol] = _Held(plan, fill.price, fill.price)
        bar = self._bars.get(fill.symbol)
        if bar is not None and bar.close_ms > fill.at:
            held.see(bar)

    def _close(self, trade: ClosedTrade) -> None:
        if trade.account != self._account:
            return
        self._held.pop(trade.symbol, None)
        kind = (trade.symbol, trade.side)
        if trade.reason == ExitReason.MANUAL or trade.decision_id in self._said:
            self._waiting.pop(kind, None)
        else:
            self._waiting[kind] = trade.decision_id

    def _reflection(self, said: Reflection) -> None:
        if said.draft or said.account != self._account:
            return
        self._said.add(said.decision_id)
        done = [kind for kind, trade in self._waiting.items() if trade == said.decision_id]
        for kind in done:
            del self._waiting[kind]

    def checks(self, symbol: str, side: str) -> tuple[Check, ...]:
        """Return the check on an entry of ``symbol`` and ``side``; none but in strict mode."""
        if self.mode != "strict":
            return ()
        missing = float((symbol, side) in self._waiting)
        return (Check("reflection", Reason.REFLECTION_MISSING, missing, 0.0, -missing),)

    def draft(self, trade: ClosedTrade) -> Reflection | None:
        """Return what the ledger tells of a trade that closes now, before it is folded.

        None after a manual close: its reflection came first.
        """
        if trade.reason == ExitReason.MANUAL:
            return None
        held = self._held.get(trade.symbol) or _Held(_Plan(None), trade.entry, trade.entry)
        for bar in held.recent:
            if bar.close_ms < trade.closed_at:
                held.take(bar)
        held.recent.clear()
        return Reflection(
            trade.account, trade.symbol, trade.decision_id, trade.closed_at, AUTHOR,
            _story(trade, held), draft=True, followed_plan=trade.reason in PLANNED,
        )  # fmt: skip


def _story(trade: ClosedTrade, held: _Held) -> str:
    moved = excursion(
        trade.side, trade.entry, max(held.highest, trade.exit), min(held.lowest, trade.exit)
    )
    planned = trade.reason in PLANNED
    return " ".join(
        (
            f"{trade.side} {_n(trade.qty)} {trade.symbol}: in at {_n(trade.entry)} "
            f"({iso(trade.opened_at)}), out at {_n(trade.exit)} ({iso(trade.closed_at)}) by "
            f"{trade.reason} after {_minutes(trade)}.",
            _decided(held.plan),
            _money(trade),
            f"At its best {_pct(moved.favourable)}, at its worst {_pct(moved.adverse)}, on "
            f"{held.bars} bars that ended before the exit.",
            "The exit was one of the plan." if planned else "The exit was not one of the plan.",
        )
    )


def _decided(plan: _Plan) -> str:
    if plan.decision is None:
        return "Its decision is not known."
    p_up = plan.decision.prob_up
    told = [
        "" if p_up is None else f"P(up) {p_up:.4f}",
        "no stop" if plan.stop is None else f"stop {_n(plan.stop)}",
        "no target" if plan.target is None else f"target {_n(plan.target)}",
    ]
    words = ", ".join(text for text in told if text)
    return f"Decided at {iso(plan.decision.as_of)}: {plan.decision.reason} ({words})."


def _money(trade: ClosedTrade) -> str:
    paid = {"fee": trade.fee, "spread": trade.spread, "slippage": trade.slippage,
            "funding": trade.funding}  # fmt: skip
    lines = ", ".join(f"{name} {_n(amount)}" for name, amount in paid.items())
    share = trade.pnl / (trade.entry * trade.qty) if trade.qty else ZERO
    return f"Paid {lines}. Net {_n(trade.pnl)}, {_pct(float(share))} of what was put in."


def _minutes(trade: ClosedTrade) -> str:
    return f"{(trade.closed_at - trade.opened_at) / MINUTE_MS:.0f} min"


def _n(amount: Decimal) -> str:
    text = format(amount.quantize(Decimal("0.00000001")).normalize(), "f")
    return "0" if text == "-0" else text


def _pct(fraction: float) -> str:
    return f"{100 * fraction:+.2f} %"
