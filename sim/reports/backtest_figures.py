"""The charts of the tear sheet, one function a card; each copes with what is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sim.reports.charts import Axis, Chart, Point, amount, axis, log_axis, strip, time_axis
from sim.reports.figures import reliability
from sim.reports.parts import Card, HeatCell, HeatRow, Key, Strip
from sim.reports.reading import (
    DASH,
    Board,
    Member,
    day,
    dig,
    floats,
    number,
    numbers,
    part,
    percent,
    price,
    rows,
    show,
    timed,
    title,
    usdt,
    word,
)

_NOT_KEPT = "Not measured: the report holds no such curve."
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STEPS = 4  # of a heat map's colour, either side of 0
_COSTS = ("spread", "slippage", "fees", "funding", "liquidation")


def equity(board: Board) -> Card:
    """Draw equity and buy and hold on a log scale."""
    head = "Equity, log scale"
    found = part(board, "curves", "equity")
    mine = [(x, y) for x, y in timed(found, "equity") if y > 0.0]
    hold = [(x, y) for x, y in timed(found, "hold") if y > 0.0]
    if len(mine) < 2:
        return Card(head, missing=_NOT_KEPT)
    chart = Chart(time_axis([x for x, _ in mine]),
                  log_axis([y for _, y in (*mine, *hold)], "USDT, log scale"), 260.0)  # fmt: skip
    chart.line(_logged(hold), "c9")
    chart.line(_logged(mine), "c1")
    text = f"From {usdt(number(board, 'curves', 'initial'))} to {usdt(mine[-1][1])}, every bar "
    text += "marked to market. Equal steps up are equal growth."
    if hold:
        text += (
            f" The same money in the market would have become {usdt(hold[-1][1])}, without costs."
        )
    legend = (Key("line c1", "strategy, after costs"), Key("line c9", "buy and hold, no costs"))
    return Card(head, text, chart.svg(f"{head}. {text}"), legend=legend)


def _logged(points: Sequence[Point]) -> list[Point]:
    return [(x, math.log10(y)) for x, y in points]


def underwater(board: Board) -> Card:
    """Draw the fall from the highest equity so far."""
    head = "Underwater: below the highest equity"
    line = [(x, -y) for x, y in timed(part(board, "curves", "underwater"), "fall")]
    if len(line) < 2:
        return Card(head, missing=_NOT_KEPT)
    values = [y for _, y in line]
    if min(values) >= 0.0:
        return Card(head, "Equity was never below its highest mark.")
    y = axis([0.0, *values], "below the peak, %", unit=100.0)
    y = Axis(y.lo, 0.2 * y.hi, y.ticks, y.label)  # little room above 0: nothing is there
    chart = Chart(time_axis([x for x, _ in line]), y, 260.0)
    chart.area(line, [(x, 0.0) for x, _ in line], "cover bad")
    chart.line(line, "bad")
    chart.across(0.0, "zero")
    deepest = min(line, key=lambda point: point[1])[1]
    longest = number(board, "metrics", "max_drawdown_days")
    text = f"Deepest {percent(-deepest, 2)}, on every bar’s mark; the longest spell took "
    text += f"{show(longest, ',.0f')} UTC days from peak to recovery or to the end."
    return Card(head, text, chart.svg(f"{head}. {text}"))


def heat(board: Board) -> Card:
    """Show the return of every month, a row a year."""
    head = "Return by month, %"
    found = {word(row, "period"): value for row in rows(board, "curves", "months")
             if (value := number(row, "return_pct")) is not None}  # fmt: skip
    years = sorted({period[:4] for period in found})
    if not years:
        return Card(head, missing=_NOT_KEPT)
    most = max(abs(value) for value in found.values())
    made = tuple(_year(year, found, most) for year in years)
    best, worst = max(found.values()), min(found.values())
    won = sum(value > 0.0 for value in found.values())
    text = f"{won} of {len(found)} months above 0; best {show(best, '+.2f', ' %')}, worst "
    text += f"{show(worst, '+.2f', ' %')}. UTC months, marked to market; a first or last one may "
    text += "be part of a month. Years are compounded."
    return Card(head, text, heat=made)


def _year(year: str, found: Mapping[str, float], most: float) -> HeatRow:
    cells, grown = [], 1.0
    for k, name in enumerate(_MONTHS, 1):
        value = found.get(f"{year}-{k:02d}")
        grown *= 1.0 + (value or 0.0) / 100.0
        cells.append(HeatCell(name, show(value, "+.1f"), _warmth(value, most)))
    total = 100.0 * (grown - 1.0)
    return HeatRow(year, HeatCell(year, show(total, "+.1f", " %"), _sign(total)), tuple(cells))


def _sign(value: float) -> str:
    return "good" if value > 0.0 else "bad" if value < 0.0 else ""


def _warmth(value: float | None, most: float) -> str:
    if value is None or most <= 0.0:
        return "none"
    step = math.ceil(_STEPS * min(abs(value) / most, 1.0))
    return f"{_sign(value) or 'good'} h{step}"


def distribution(board: Board) -> Card:
    """Draw the histogram of daily returns beside a normal distribution."""
    head = "Daily returns"
    found = part(board, "curves", "daily")
    counts, edges = floats(found, "counts"), floats(found, "edges")
    shape = numbers(found, "mean", "std", "q05", "q95")
    if len(edges) != len(counts) + 1 or shape is None or not shape[1] > 0.0 or not counts:
        return Card(head, missing="Not measured: fewer than two days, or nothing ever moved.")
    mean, std, low, high = shape
    x = axis([edges[0], edges[-1]], "return of a UTC day, %", unit=100.0, pad=0.02)
    bell = _normal(mean, std, sum(counts) * (edges[-1] - edges[0]) / len(counts), edges)
    chart = Chart(x, axis([0.0, *counts, *(y for _, y in bell)], "days", pad=0.0), 240.0)
    for (left, right), count in zip(pairwise(edges), counts, strict=True):
        told = f"{percent(left, 2)} to {percent(right, 2)}: {count:,.0f} days"
        chart.bar(left, right, count, "fill c1", told)
    chart.line(bell, "c0")
    for at in (low, high):
        chart.up(at, "limit")
    text = f"{show(number(found, 'n'), ',.0f')} days: mean {percent(mean, 3)}, standard deviation "
    text += f"{percent(std, 2)}; one day in twenty is below {percent(low, 2)}, one in twenty above "
    text += f"{percent(high, 2)}. Skewness {show(number(found, 'skew'))}, kurtosis "
    text += f"{show(number(found, 'kurtosis'))} (a normal one has 0 and 3)."
    legend = (Key("fill c1", "days"), Key("line c0", "normal, same mean and deviation"),
              Key("line limit", "5 % and 95 %"))  # fmt: skip
    return Card(head, text, chart.svg(f"{head}. {text}"), legend=legend)


def _normal(mean: float, std: float, area: float, edges: Sequence[float]) -> list[Point]:
    xs = [edges[0] + (edges[-1] - edges[0]) * k / 80 for k in range(81)]
    height = area / (std * math.sqrt(2.0 * math.pi))
    return [(x, height * math.exp(-0.5 * ((x - mean) / std) ** 2)) for x in xs]


def rolling(board: Board) -> Card:
    """Draw the Sharpe ratio of the last 30 and 90 days."""
    head = "Rolling Sharpe"
    lines = [
        (days, style, line)
        for days, style in (("30", "c1"), ("90", "c2"))
        if len(line := timed(part(board, "curves", "rolling", days), "sharpe")) > 1
    ]
    if not lines:
        return Card(head, missing="Not measured: fewer than 30 days, or nothing ever moved.")
    everything = [point for *_, line in lines for point in line]
    chart = Chart(time_axis([x for x, _ in everything]),
                  axis([0.0, *(y for _, y in everything)], "Sharpe, a year"), 240.0)  # fmt: skip
    chart.across(0.0, "zero")
    for _, style, line in lines:
        chart.line(line, style)
    text = "Mean over standard deviation of the last UTC days, × √365, no interest. Thirty days "
    text += "move it by about ± 3.5 (one standard error) without any change of skill."
    legend = tuple(Key(f"line {style}", f"{days} days") for days, style, _ in lines)
    return Card(head, text, chart.svg(f"{head}. {text}"), legend=legend)


# Money


def waterfall(board: Board) -> Card:
    """Draw the way from gross to net profit."""
    head = "From gross to net"
    final, initial = number(board, "metrics", "equity_final"), number(board, "curves", "initial")
    costs = {name: number(board, "costs", name) or 0.0 for name in _COSTS}
    if final is None or initial is None:
        return Card(head, missing="Not measured.")
    net = final - initial
    level = gross = net + sum(costs.values())
    bars = [("gross", gross, 0.0, gross)]
    for name, paid in costs.items():
        bars.append((name, 0.0 - paid, level, level - paid))
        level -= paid
    bars.append(("net", net, 0.0, net))
    ends = [end for _, _, a, b in bars for end in (a, b)]
    lo, hi = min(0.0, *ends), max(0.0, *ends)
    hi = hi if hi > lo else lo + 1.0
    strips = tuple(_step_of(bar, lo, hi) for bar in bars)
    text = "USDT. Gross is what the same fills would have made at the prices before spread and "
    text += "slippage, without fees and funding; funding above 0 was received."
    return Card(head, text, strips=strips, ticks=(amount(round(lo)), amount(round(hi))))


def _step_of(bar: tuple[str, float, float, float], lo: float, hi: float) -> Strip:
    name, change, before, after = bar
    whole = name in ("gross", "net")
    style = "c0" if whole else "bad" if change < 0.0 else "good"
    ends = (min(before, after), max(before, after))
    drawn = strip(lo, hi, interval=ends, style=f"thick {style}")
    return Strip(name, show(change, "+,.2f" if change else ".2f"), drawn)


def chance(board: Board) -> Card:
    """Show the strategy among traders who trade as often at random, and beside holding."""
    head = "Against chance and against holding"
    found, held = (
        part(board, "benchmarks", "random_turnover"),
        part(board, "benchmarks", "buy_hold"),
    )
    lines = []
    seen = numbers(found, "trades_pct", "lo_pct", "hi_pct", "mean_pct")
    if seen is not None:
        mine, low, high, mean = seen
        room = 0.08 * (max(high, mine, 0.0) - min(low, mine, 0.0)) or 1.0
        edges = (min(low, mine, 0.0) - room, max(high, mine, 0.0) + room)
        at_random = (
            f"95 % of {show(number(found, 'draws'), ',.0f')} draws, mean {show(mean, '+.2f')} %"
        )
        lines = [
            Strip("at random", f"{show(low, '+.2f')} to {show(high, '+.2f')} %",
                  strip(*edges, interval=(low, high), style="thick c9"), more=at_random),
            Strip("strategy", show(mine, "+.2f", " %"), strip(*edges, dots=(mine,), style="c1"),
                  more=f"better than {percent(number(found, 'percentile'))} of them"),
        ]  # fmt: skip
    lines += [
        Strip("buy and hold", show(number(held, "return_pct"), "+.2f", " %"),
              more=f"largest drawdown {percent(number(held, 'max_drawdown'), 2)}, Sharpe "
              f"{show(number(held, 'sharpe'), '+.2f')}, {word(held, 'how')}"),
    ]  # fmt: skip
    text = f"At random: {word(found, 'how')}. In % of the opening capital."
    if seen is None:
        text = "No closed trade, so there is nothing to compare with chance."
    return Card(head, text, strips=tuple(lines))


# Trades


def on_price(board: Board) -> Card:
    """Draw the price with the best and the worst trades on it."""
    head = "Trades on the price"
    line = timed(part(board, "curves", "price"), "price")
    if len(line) < 2:
        return Card(head, missing=_NOT_KEPT)
    shown = [*rows(board, "curves", "best"), *rows(board, "curves", "worst")]
    chart = Chart(time_axis([x for x, _ in line]),
                  axis([y for _, y in line], "USDT, closes", pad=0.08), 260.0)  # fmt: skip
    chart.line(line, "c9 thin")
    for row in shown:
        _mark(chart, row)
    total = number(board, "trades") or 0.0
    text = f"All {total:,.0f} trades." if len(shown) >= total else (
        f"Only the {len(rows(board, 'curves', 'best'))} best and the "
        f"{len(rows(board, 'curves', 'worst'))} worst of {total:,.0f} trades in money are marked: "
        "all of them would hide the price."
    )  # fmt: skip
    if not shown:
        text = "No trade was closed."
    return Card(head, text, chart.svg(f"{head}. {text}"), legend=_TRADES)


_TRADES = (
    Key("mark good up", "▲ long ▼ short entry, won"), Key("mark bad up", "the same, lost"),
    Key("fill c0", "● exit"),
)  # fmt: skip


def zoomed(board: Board) -> Card:
    """Draw the last trades one by one, from entry to exit."""
    head = "The last trades, one by one"
    found = part(board, "curves", "zoom")
    line = timed(part(found, "price"), "price")
    trades = rows(found, "trades")
    if len(line) < 2 or not trades:
        return Card(head, missing="Nothing to show: no trade was closed.")
    prices = [v for row in trades if (v := numbers(row, "entry", "exit")) is not None]
    values = [y for _, y in line] + [v for pair in prices for v in pair]
    chart = Chart(time_axis([x for x, _ in line]), axis(values, "USDT, closes and fills", pad=0.08),
                  260.0)  # fmt: skip
    chart.line(line, "c9 thin")
    for row in trades:
        _join(chart, row)
    for row in trades:
        _mark(chart, row)
    won = sum((number(row, "pnl") or 0.0) > 0.0 for row in trades)
    text = f"{len(trades)} trades, {won} won after costs; a line leads from entry to exit."
    return Card(head, text, chart.svg(f"{head}. {text}"), legend=_TRADES)


def _join(chart: Chart, row: Any) -> None:
    opened, closed = day(dig(row, "opened_at")), day(dig(row, "closed_at"))
    prices = numbers(row, "entry", "exit")
    if opened is not None and closed is not None and prices is not None:
        style = "good" if (number(row, "pnl") or 0.0) > 0.0 else "bad"
        chart.line([(opened, prices[0]), (closed, prices[1])], f"{style} thin")


def _mark(chart: Chart, row: Any) -> None:
    opened, closed = day(dig(row, "opened_at")), day(dig(row, "closed_at"))
    prices = numbers(row, "entry", "exit")
    if opened is None or closed is None or prices is None:
        return
    pnl, up = number(row, "pnl"), word(row, "side") == "LONG"
    style = "good" if (pnl or 0.0) > 0.0 else "bad"
    told = f"{word(row, 'side')} {word(row, 'opened_at')[:16]} to {word(row, 'closed_at')[:16]}, "
    told += f"{price(prices[0])} → {price(prices[1])}, {usdt(pnl, '+,.2f')}, "
    told += f"closed by {title(word(row, 'reason'))}"
    chart.dot(closed, prices[1], "c0 small", told)
    chart.triangle(opened, prices[0], style, told, up=up)


# Decisions


def decisions(board: Board) -> Card:
    """Count the decisions and their reasons."""
    head = "What was decided, and why not"
    found = part(board, "decisions")
    sides = {side: number(found, side) or 0.0 for side in ("LONG", "SHORT", "NO_TRADE")}
    total = sum(sides.values())
    if not total:
        return Card(head, missing="Not measured: nothing was decided.")
    reasons = {name: count for name in part(found, "reasons")
               if (count := number(found, "reasons", name)) is not None}  # fmt: skip
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    strips = [_counted(side, count, total, "c0") for side, count in sides.items()]
    strips += [_counted(name, count, total, "c9") for name, count in ordered]
    text = f"Share of {total:,.0f} decisions, one at each bar’s close: first the three sides, then "
    text += "the reasons, of which a decision may have several."
    if not reasons:
        text = f"Share of {total:,.0f} decisions, one at each bar’s close; none gave a reason."
    return Card(head, text, strips=tuple(strips))


def _counted(name: str, count: float, total: float, style: str) -> Strip:
    drawn = strip(0.0, 1.0, interval=(0.0, count / total), at=None, style=f"thick {style}")
    return Strip(name, f"{count:,.0f}", drawn, more=percent(count / total))


def calibration(board: Board) -> Card:
    """Draw how often the price rose against the probability that the decisions stated."""
    head = "Calibration of the decisions’ P(up)"
    found = part(board, "curves", "calibration")
    if not rows(found, "reliability"):
        why = word(found, "why")
        why = "the report holds none" if why == DASH else why
        return Card(head, missing=f"Not measured: {why}.")
    name = word(board, "strategy")
    drawn = reliability(Member(name, "council", {**found, "detail": found}, {}, 1))
    gain, n = number(found, "gain"), number(found, "n")
    text = f"{drawn.text} Gain {show(gain, '+.2f')} (a coin has 0) on {show(n, ',.0f')} decisions, "
    text += "up or not after the horizon’s bars; the grey band is what luck makes of a right one."
    return Card(head, text, drawn.svg)
