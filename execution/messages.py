"""What goes into the trading loop once, and what comes out of each bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from domain.decision import Action, Decision, Origin, Reason
from domain.errors import UsageError
from domain.market import Bar, MarketState
from domain.opinion import Opinion, Outcome
from domain.records import changed
from domain.times import iso
from domain.trading import ClosedTrade, Fill, Posting, Refusal


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """What the loop is told about its surroundings.

    Attributes
    ----------
    routes : forecast symbol → execution symbol.
    spread_bps : modelled spread by execution symbol, checked where there is no book.
    initial_cash : opening capital, in ``currency``.
    source, git_commit : written on every decision.
    """

    routes: Mapping[str, str]
    horizon_bars: int = 5
    account: str = "paper"
    currency: str = "USDT"
    initial_cash: Decimal = Decimal(10_000)
    spread_bps: Mapping[str, float] = field(default_factory=dict)
    source: str = "replay"
    git_commit: str = ""
    on_shutdown: Literal["keep", "flatten"] = "keep"


@dataclass(frozen=True, slots=True)
class Absorbed:
    """What one bar brought; ``repeated`` means that it was known and nothing happened."""

    bar: Bar
    fills: tuple[Fill, ...] = ()
    trades: tuple[ClosedTrade, ...] = ()
    postings: tuple[Posting, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    outcome: Outcome | None = None
    repeated: bool = False


def absorbed(bar: Bar, records: Sequence[Any]) -> Absorbed:
    """Sort the rows of one append into an :class:`Absorbed`."""
    rows: dict[type[Any], list[Any]] = {}
    for record in records:
        rows.setdefault(type(record), []).append(record)
    fills, trades, postings, refusals = (
        tuple(rows.get(kind, ())) for kind in (Fill, ClosedTrade, Posting, Refusal)
    )
    outcome = rows[Outcome][0] if Outcome in rows else None
    return Absorbed(bar, fills, trades, postings, refusals, outcome)


def only_finite(
    opinions: Sequence[Opinion], absent: Mapping[str, str]
) -> tuple[list[Opinion], dict[str, str]]:
    """Leave out opinions with a NaN or infinity in them; their agents are absent, ``invalid``."""
    if not opinions:
        return [], dict(absent)
    good = [opinion for opinion in opinions if opinion.finite]
    bad = {opinion.agent: "invalid" for opinion in opinions if not opinion.finite}
    return good, {**absent, **bad}


def stamped(draft: Decision, origin: Origin, settings: LoopSettings) -> Decision:
    """Write origin, source and commit on a draft; warm-up never acts."""
    draft = changed(draft, origin=origin, source=settings.source, git_commit=settings.git_commit)
    if origin != "warm_up":
        return draft
    reasons = (*draft.reasons, Reason.WARM_UP.value)
    return changed(draft, action=Action.NO_TRADE, reasons=reasons)


def refuse_other_bar(state: MarketState, absorbed: int, *, earlier: bool) -> None:
    """Raise UsageError unless ``state`` is of the last absorbed bar, or ``earlier`` ones may be."""
    if state.as_of != absorbed and not (earlier and state.as_of < absorbed):
        raise UsageError(
            "as_of", f"must be the last absorbed close, {iso(absorbed)}", iso(state.as_of)
        )


def execution_bar(routes: Mapping[str, str], bar: Bar, given: Bar | None) -> Bar | None:
    """Return the bar that orders fill in: ``given``, or ``bar`` itself where both are one market.

    Raises
    ------
    UsageError : for a symbol without a route, or bars of different spans.
    """
    route = routes.get(bar.symbol)
    if route is None:
        known = ", ".join(sorted(routes))
        raise UsageError("symbol", "must have a route", bar.symbol, f"There are {known}.")
    if route == bar.symbol:
        return bar
    if given is None:
        return None
    if (given.symbol, given.open_ms, given.timeframe) != (route, bar.open_ms, bar.timeframe):
        raise UsageError(
            "exec_bar", f"must be the bar of {route} at {iso(bar.open_ms)}", given.symbol
        )
    return given
