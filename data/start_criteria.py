"""What must hold of a live feed before anything is entered on it, each with its value and limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data.reception import Heard
from data.timeframes import Timeframes

SPREADS = 100  # observations of the mean spread


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits.

    Attributes
    ----------
    bars : without a gap up to the newest, of every timeframe.
    listen_ms : market time that is listened for.
    share : of the messages more must come, and of the stamps more be right, [0, 1].
    stamp_ms : how far a stamp may lie from the exchange's time, market time.
    spread_bps : the mean of the last :data:`SPREADS` observations must lie below.
    grace_ms : how long the bar of a close may take to come, market time.
    young : whether a market may have fewer bars if they are all there are since it began, as one
        has that is made on this machine.
    """

    bars: int = 200
    listen_ms: int = 30_000
    share: float = 0.95
    stamp_ms: int = 2_000
    spread_bps: float = 20.0
    grace_ms: int = 10_000
    young: bool = False


@dataclass(frozen=True, slots=True)
class Criterion:
    """One of them.

    Attributes
    ----------
    met : None = not measured, as nobody watches books: it stops nothing.
    value, limit : in ``unit``; value is None where there is none yet.
    said : what it is about and how far it is, in words.
    """

    name: str
    met: bool | None
    value: float | None
    limit: float
    unit: str
    said: str


def unmet(criteria: Iterable[Criterion]) -> list[Criterion]:
    """Return those that are not met."""
    return [each for each in criteria if each.met is False]


def bars_criterion(kept: Sequence[Timeframes], now_ms: int, rules: Rules) -> Criterion:
    """Return whether every timeframe has enough bars without a gap, the newest among them.

    The value is that of the timeframe that has fewest; one whose newest bar is missing has none.
    """
    short: list[tuple[int, str]] = []
    fewest: int | None = None
    for each in kept:
        for name, one in each.kept.items():
            step = one.frame.step_ms
            due = (now_ms - rules.grace_ms) // step * step  # the last close that must have come
            whole = one.whole if one.close_ms >= due else 0
            fewest = whole if fewest is None else min(fewest, whole)
            needed = min(rules.bars, len(one.frame) or rules.bars) if rules.young else rules.bars
            if whole < needed:
                late = " (the newest is missing)" if one.whole and not whole else ""
                short.append((whole, f"{each.symbol} {name} {whole} of {needed} bars{late}"))
    words = f"{fewest} bars of every timeframe" if kept else "no bars"
    if short:
        words = min(short, key=lambda one: one[0])[1]
    met = bool(kept) and not short
    return Criterion("bars", met, fewest, rules.bars, "bars", words)


def connection_criteria(heard: Heard | None, rules: Rules) -> list[Criterion]:
    """Return whether messages come, and at the right time.

    Parameters
    ----------
    heard : None = nobody listens to numbered messages.
    """
    if heard is None:
        silent = "not measured: no books are watched"
        return [
            Criterion("messages", None, None, rules.share, "share", silent),
            Criterion("stamps", None, None, rules.share, "share", silent),
        ]
    listened = heard.heard_ms >= rules.listen_ms
    words = f"{100 * heard.share:.1f} % of the messages"
    if heard.share <= rules.share and heard.worst is not None:
        words += f", {' '.join(heard.worst)}"
    if not listened:
        words = f"listened for {heard.heard_ms / 1e3:.0f} of {rules.listen_ms / 1e3:.0f} s"
    near = f"{100 * heard.near:.1f} % of the stamps within {rules.stamp_ms / 1e3:g} s"
    return [
        Criterion("messages", listened and heard.share > rules.share,
                  heard.share if listened else None, rules.share, "share", words),
        Criterion("stamps", listened and heard.near > rules.share,
                  heard.near if listened else None, rules.share, "share",
                  f"{near}, the farthest at {heard.farthest_ms / 1e3:.2f} s"),
    ]  # fmt: skip


def spread_criterion(
    spreads: Mapping[str, Sequence[float]], rules: Rules, *, watched: bool
) -> Criterion:
    """Return whether the mean spread of every symbol is small enough.

    Parameters
    ----------
    spreads : the last :data:`SPREADS` of each symbol, basis points; fewer are no mean yet.
    """
    if not watched:
        words = "not measured: no books are watched"
        return Criterion("spread", None, None, rules.spread_bps, "bps", words)
    symbol, fewest = min(spreads.items(), key=lambda one: len(one[1]), default=("any symbol", ()))
    if len(fewest) < SPREADS:
        words = (
            f"{symbol} {len(fewest)} of {SPREADS} spreads" if fewest else f"no book of {symbol} yet"
        )
        return Criterion("spread", False, None, rules.spread_bps, "bps", words)
    means = {name: mean_spread(seen) for name, seen in spreads.items()}
    symbol, widest = max(means.items(), key=lambda one: one[1])
    words = f"{symbol} {widest:.2f} bps"
    return Criterion("spread", widest < rules.spread_bps, widest, rules.spread_bps, "bps", words)


def mean_spread(seen: Sequence[float]) -> float:
    """Return the mean of some spreads, one at least, basis points."""
    return sum(seen) / len(seen)
