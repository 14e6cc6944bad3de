"""The tear sheet's charts of the trading: what it cost, chance, trades on the price, decisions.

One function a card; each copes with what is missing.
"""

from __future__ import annotations

from typing import Any

from sim.reports.backtest_equity import NOT_KEPT
from sim.reports.charts import Chart, amount, axis, strip, time_axis
from sim.reports.figures import reliability
from sim.reports.parts import Card, Key, Strip
from sim.reports.reading import (
    DASH,
    Board,
    Member,
    day,
    dig,
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

_COSTS = ("spread", "slippage", "fees", "funding", "liquidation")

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
        return Card(head, missing=NOT_KEPT)
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
