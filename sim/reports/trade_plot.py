"""One trade as a picture: the price around it with entry, exit, stop and target, and P(up) below.

The same two charts stand in the page of the weekly review and, with a stylesheet of their own, in
an SVG file that needs nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from domain.market import BarFrame
from domain.times import DAY_MS, iso
from domain.trading import ClosedTrade
from sim.reports.charts import WIDTH, Axis, Chart, axis, time_axis

_HERE = Path(__file__).parent / "templates"
_HEAD, _PRICE, _CHANCE = 30.0, 240.0, 130.0  # heights


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What is drawn.

    Attributes
    ----------
    bars : of the market traded, from some before the entry to some after the exit.
    stop, target : price levels, quote units.
    p_up : (as_of, P(up)) of the decisions on these bars.
    """

    trade: ClosedTrade
    bars: BarFrame
    stop: float | None = None
    target: float | None = None
    p_up: tuple[tuple[int, float], ...] = ()


def price(picture: Picture) -> Markup:
    """Draw the price path: bars' ranges, closes, levels, entry and exit."""
    trade, bars = picture.trade, picture.bars
    ends = [(int(ts) + bars.step_ms) / DAY_MS for ts in bars.ts]
    levels = [level for level in (picture.stop, picture.target) if level is not None]
    entry, left = float(trade.entry), float(trade.exit)
    values = [*map(float, bars.high), *map(float, bars.low), *levels, entry, left]
    chart = Chart(_time(picture), axis(values, "price", pad=0.08), _PRICE)
    chart.area(
        list(zip(ends, map(float, bars.high), strict=True)),
        list(zip(ends, map(float, bars.low), strict=True)), "band",
    )  # fmt: skip
    chart.line(list(zip(ends, map(float, bars.close), strict=True)), "c0")
    for level, style, name in ((picture.stop, "bad", "stop"), (picture.target, "c3", "target")):
        if level is not None:
            chart.across(level, style)
            chart.word(chart.x.lo, level, f" {name} {level:g}", "inside", "start")
    chart.line([(trade.opened_at / DAY_MS, entry), (trade.closed_at / DAY_MS, left)], "c1")
    chart.dot(trade.opened_at / DAY_MS, entry, "c1", f"entry {entry:g} {iso(trade.opened_at)}")
    told = f"exit {left:g} {iso(trade.closed_at)} by {trade.reason}"
    chart.dot(trade.closed_at / DAY_MS, left, "c1", told, hollow=True)
    return chart.svg(f"{_title(picture)} Price with entry and exit.")


def chance(picture: Picture) -> Markup:
    """Draw the council's P(up) over the same time; an empty chart where nobody stated one."""
    chart = Chart(_time(picture), axis([0.5, *(p for _, p in picture.p_up)], "P(up)"), _CHANCE)
    chart.across(0.5, "zero")
    if picture.p_up:
        chart.line([(at / DAY_MS, p) for at, p in picture.p_up], "c1")
    else:
        chart.word((chart.x.lo + chart.x.hi) / 2, 0.5, "no probability was stated", "inside")
    return chart.svg("P(up) of the decisions over the same time.")


def standalone(picture: Picture) -> str:
    """Return both charts as one SVG document; equal pictures give equal bytes."""
    css = Markup((_HERE / "trade.css").read_text(encoding="utf-8"))  # noqa: S704 - ours
    height = _HEAD + _PRICE + _CHANCE
    frame = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w:g} {h:g}" width="800">'
        '<style>{css}</style><rect class="page" width="{w:g}" height="{h:g}"/>'
        '<text class="title" x="8" y="20">{title}</text>'
        '<svg y="{head:g}" width="{w:g}" height="{price:g}">{one}</svg>'
        '<svg y="{below:g}" width="{w:g}" height="{chance:g}">{two}</svg></svg>\n'
    )
    return str(
        frame.format(
            w=WIDTH, h=height, css=css, title=_title(picture), head=_HEAD, price=_PRICE,
            below=_HEAD + _PRICE, chance=_CHANCE, one=price(picture), two=chance(picture),
        )
    )  # fmt: skip


def _title(picture: Picture) -> str:
    trade = picture.trade
    return (
        f"{trade.side} {trade.qty.normalize():f} {trade.symbol}, {iso(trade.opened_at)[:16]}Z, "
        f"by {trade.reason}: {trade.pnl:+.2f}"
    )


def _time(picture: Picture) -> Axis:
    bars = picture.bars
    return time_axis([int(bars.ts[0]) / DAY_MS, (int(bars.ts[-1]) + bars.step_ms) / DAY_MS])
