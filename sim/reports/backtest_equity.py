"""The tear sheet's charts of the equity: its course, falls, months, days and rolling Sharpe.

One function a card; each copes with what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from sim.reports.charts import Axis, Chart, Point, axis, log_axis, time_axis
from sim.reports.parts import Card, HeatCell, HeatRow, Key
from sim.reports.reading import (
    Board,
    floats,
    number,
    numbers,
    part,
    percent,
    rows,
    show,
    timed,
    usdt,
    word,
)

NOT_KEPT = "Not measured: the report holds no such curve."
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STEPS = 4  # of a heat map's colour, either side of 0


def equity(board: Board) -> Card:
    """Draw equity and buy and hold on a log scale."""
    head = "Equity, log scale"
    found = part(board, "curves", "equity")
    mine = [(x, y) for x, y in timed(found, "equity") if y > 0.0]
    hold = [(x, y) for x, y in timed(found, "hold") if y > 0.0]
    if len(mine) < 2:
        return Card(head, missing=NOT_KEPT)
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
        return Card(head, missing=NOT_KEPT)
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
        return Card(head, missing=NOT_KEPT)
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
