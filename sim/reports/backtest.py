"""The tear sheet: one HTML file made from the report of ``conclave backtest``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sim.measures import MEASURES
from sim.reports import backtest_equity as equity
from sim.reports import backtest_tables as tables
from sim.reports import backtest_trading as trading
from sim.reports.backtest_words import LEGEND, plain_words
from sim.reports.page import shown
from sim.reports.parts import Page, Section
from sim.reports.reading import Board, number, part, rows, show, usdt, word

TERMS: tuple[tuple[str, str], ...] = (
    ("equity", "cash and the open position at the last close, after every cost so far."),
    ("mark", "the account’s value at the close of a bar; a UTC day ends with its mark at 00:00."),
    ("fill", "a decision at the close of a bar is filled in the next one, at its open, made worse "
             "by half the spread, slippage and impact; never at the close it was made from."),
    ("spread, slippage", "inside the fill’s price, and told apart from it: what the same quantity "
                         "would have cost less at the price before both. Impact is slippage."),
    ("funding", "perpetuals only, at 00, 08 and 16 UTC; a positive rate is paid by longs."),
    ("liquidation", "the fee of a position that the venue closed for want of margin."),
    ("interval", "95 %, circular block bootstrap over days or trades, so that runs of good and bad "
                 "ones stay together."),
    ("random turnover", "the same trades in a random order at random instants on random sides: as "
                        "many, as long, as large and as dear. What is beaten is luck, not costs."),
    ("deflated Sharpe", "confidence that the true Sharpe ratio is above the best that so many "
                        "worthless trials would have shown (Bailey and López de Prado, 2014)."),
    ("drawdown", "from the highest equity so far to the lowest after it. A spell lasts from the "
                 "peak until equity is back at it, or to the end."),
    ("gain", "(¼ − Brier) × 10⁴ of the stated probabilities; a coin has 0."),
    ("met", "a target’s measured value alone. Where the interval holds the threshold it says that "
            "this may be luck."),
)  # fmt: skip


def render(report: Mapping[str, Any]) -> str:
    """Return the tear sheet as one self-contained HTML document; equal reports give equal bytes.

    Parameters
    ----------
    report : what ``conclave backtest`` keeps as JSON; whatever is missing or null in it is shown
        as not measured. Its texts are untrusted and come out escaped.
    """
    market = f"{word(report, 'data', 'symbol')} {word(report, 'data', 'timeframe')}"
    strategy = word(report, "strategy")
    return shown(
        Page(
            title=f"{strategy} on {market}: backtest",
            kicker="Conclave backtest",
            heading=f"{strategy} on {market}: what would it have earned?",
            facts=_facts(report),
            sentences=tuple(plain_words(report)),
            legend=LEGEND,
            sections=_sections(report),
            terms=TERMS,
            gaps=tuple(_gaps(report)),
            footer="A backtest promises nothing: it is one past, filled at modelled prices, and "
            "the best of many tries looks good by luck. This page is made from the report’s JSON "
            "alone and can be made again from it, byte for byte.",
        )
    )


def _facts(report: Board) -> tuple[tuple[str, str], ...]:
    data = part(report, "data")
    days = show(number(report, "metrics", "duration_days"), ",.4g")
    return (
        ("Start, UTC", word(data, "start")[:16].replace("T", " ")),
        ("End, UTC", word(data, "end")[:16].replace("T", " ")),
        ("Duration", f"{days} days, {show(number(data, 'bars'), ',.0f')} bars"),
        ("Profile", word(report, "profile")),
        ("Opening capital", usdt(number(report, "curves", "initial"))),
        ("Equity at the end", usdt(number(report, "metrics", "equity_final"))),
        ("Closed trades", show(number(report, "trades"), ",.0f")),
        ("Data SHA-256", word(data, "sha256")[:12]),
    )


def _sections(report: Board) -> tuple[Section, ...]:
    return (_equity(report), _figures(report), _costs(report), _trades(report), _decisions(report),
            _targets(report))  # fmt: skip


def _equity(report: Board) -> Section:
    cards = (equity.equity(report), equity.heat(report), equity.distribution(report),
             equity.underwater(report), equity.rolling(report))  # fmt: skip
    return Section("equity", "Equity", "Mark-to-market, after every cost, at each bar’s close.",
                   cards=cards)  # fmt: skip


def _figures(report: Board) -> Section:
    intro = (
        "Each with its convention, its 95 % interval (circular block bootstrap) where there is "
        "one, and the number of observations behind it. Nothing annualised is given for less than "
        "30 days."
    )
    return Section("figures", "Figures", intro,
                   cards=(*tables.measures(report), trading.chance(report)))  # fmt: skip


def _costs(report: Board) -> Section:
    cards = (trading.waterfall(report), tables.conventions(report))
    return Section(
        "costs", "Costs and rules", "What trading cost, and by which rules.", cards=cards
    )


def _trades(report: Board) -> Section:
    made = [
        tables.grouped(rows(report, "curves", "by_side"), "By side", "side"),
        tables.grouped(rows(report, "curves", "by_exit"), "By reason of the exit", "closed by"),
        *tables.extreme_trades(report), tables.periods(report),
    ]  # fmt: skip
    return Section(
        "trades", "Trades",
        "Closed round trips, after all costs; one still open is not among them.",
        tuple(table for table in made if table is not None),
        (trading.on_price(report), trading.zoomed(report)),
    )  # fmt: skip


def _decisions(report: Board) -> Section:
    cards = (trading.decisions(report), trading.calibration(report))
    return Section("decisions", "Decisions", "One at each bar’s close.", cards=cards)


def _targets(report: Board) -> Section:
    points = tables.targets(report)
    more = len(tables.elsewhere(report))
    intro = (
        "The numbers that the requirement documents ask for, each beside what was measured. "
        "Nothing is claimed below the number of observations that a target needs."
    )
    intro += f" {more} more that no backtest can measure stand at the end." if more else ""
    missing = "" if points else "Not measured: the report holds no targets."
    return Section("targets", "Targets", intro, points=points, missing=missing)


def _gaps(report: Board) -> list[str]:
    named = [
        f"{one.title}: {_why(report, one.over)}"
        for one in MEASURES.values()
        if number(report, "metrics", one.key) is None
    ]
    return [*named, *tables.elsewhere(report)]


def _why(report: Board, over: str) -> str:
    if not part(report, "metrics"):
        return "the report holds no metrics."
    if over == "trades" and not number(report, "trades"):
        return "no trade was closed."
    if over == "days" and (number(report, "n", "sharpe") or 0.0) < 30.0:
        return "the run is shorter than 30 days."
    return "it cannot be worked out here, for there was no loss, no win or no variation."
