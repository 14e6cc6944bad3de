"""The weekly review of the journal as a page and as Markdown, made from its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from sim.reports.page import shown
from sim.reports.parts import Card, Cell, Column, Line, Page, Section, Sentence, Table
from sim.reports.reading import DASH, Board, number, part, percent, rows, show, usdt, word

Plots = Mapping[str, tuple[Markup, ...]]
"""Trade's id → its charts."""

TERMS: tuple[tuple[str, str], ...] = (
    ("draft", "what the ledger tells of a trade, written when it closed; waits for a person."),
    ("reflected", "a person has written about the trade, before its close or after it."),
    ("followed the plan", "as its person said; where nobody did, whether it ended by stop, target, "
                          "horizon or an opposite decision."),
    ("P&L", "net of fee and funding; spread and slippage are inside the prices."),
)  # fmt: skip
_GROUPS = (("By tag", "by_tag", "tag"), ("By reason of the exit", "by_exit", "closed by"),
           ("By side", "by_side", "side"))  # fmt: skip


def render(review: Board, plots: Plots) -> str:
    """Return the review as one self-contained HTML document; equal input gives equal bytes.

    Parameters
    ----------
    review : of :func:`sim.journal_review.review`. Its texts are untrusted and come out escaped.
    """
    week = word(review, "week")
    return shown(
        Page(
            title=f"Journal of {week}",
            kicker="Conclave journal",
            heading=f"{week}: what was traded, and what was made of it?",
            facts=tuple((name, value) for name, value in _facts(review)),
            sentences=tuple(_sentences(review)),
            legend="met and not met: whether every trade has a person’s words; known: counted.",
            sections=(_groups(review), _trades(review, plots)),
            terms=TERMS,
            gaps=(),
            footer="This page is made from the review’s JSON and the ledger’s bars alone.",
        )
    )


def markdown(review: Board) -> str:
    """Return the review as Markdown."""
    lines = [f"# Journal of {word(review, 'week')}", ""]
    lines += [f"- {name}: {value}" for name, value in _facts(review)]
    for caption, key, head in _GROUPS:
        lines += ["", f"## {caption}", "", f"| {head} | trades | won | P&L, USDT |",
                  "|---|---|---|---|"]  # fmt: skip
        for row in rows(review, key):
            cells = (_cell(word(row, "name")), show(number(row, "trades"), ",.0f"),
                     percent(number(row, "win_rate")), word(row, "pnl"))  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Trades"]
    for row in rows(review, "entries"):
        text = word(row, "reflection", "text")
        lines += ["", f"### {_headline(row)}", "", f"{_by(row)}: {' '.join(text.split())}"]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _facts(review: Board) -> list[tuple[str, str]]:
    kept = part(review, "adherence")
    hours = number(kept, "median_hours")
    return [
        ("Week, UTC", f"{word(review, 'start')[:10]} to {word(review, 'end')[:10]}"),
        ("Closed trades", show(number(review, "trades"), ",.0f")),
        ("Won", percent(number(review, "win_rate"))),
        ("P&L", f"{word(review, 'pnl')} USDT"),
        ("Fees", f"{word(review, 'fee')} USDT"),
        ("Reflected by a person", percent(number(kept, "reflected"))),
        ("Followed the plan", percent(number(kept, "followed_plan"))),
        ("Median time to reflect", DASH if hours is None else f"{hours:.1f} h of market time"),
    ]


def _sentences(review: Board) -> list[Sentence]:
    total = number(review, "trades") or 0.0
    if not total:
        return [Sentence("known", "No trade was closed in this week.")]
    missing = sum(bool(row.get("missing")) for row in rows(review, "entries"))
    best, worst = _named(review, "best"), _named(review, "worst")
    kept = Sentence("met", f"Each of the {total:,.0f} trades has a person’s words.")
    if missing:
        kept = Sentence("missed", f"{missing} of {total:,.0f} trades have no person’s words yet.",
                        "conclave journal list --missing")  # fmt: skip
    return [kept, Sentence("known", f"Best: {best}."), Sentence("known", f"Worst: {worst}.")]


def _named(review: Board, key: str) -> str:
    wanted = word(review, key)
    return next((_headline(row) for row in rows(review, "entries") if row["id"] == wanted), DASH)


def _headline(row: Any) -> str:
    when = f"{word(row, 'opened_at')[:16]}Z".replace("T", " ")
    return (
        f"{word(row, 'side')} {word(row, 'qty')} {word(row, 'symbol')}, {when}, closed by "
        f"{word(row, 'reason')}: {word(row, 'pnl')} USDT"
    )


def _by(row: Any) -> str:
    if row.get("missing"):
        return "Draft"
    tags = ", ".join(str(tag) for tag in rows(row, "reflection", "tags"))
    return f"{word(row, 'reflection', 'author')}{f' [{tags}]' if tags else ''}"


def _groups(review: Board) -> Section:
    columns = (
        Column("trades", "closed round trips; one with several tags counts under each"),
        Column("won", "share above 0 after all costs"), Column("P&L", "USDT, after all costs"),
    )  # fmt: skip
    tables = tuple(
        Table(
            caption, head, columns,
            tuple(
                Line(word(row, "name"), (
                    Cell(show(number(row, "trades"), ",.0f")),
                    Cell(percent(number(row, "win_rate"))),
                    Cell(usdt(_money(row), "+,.2f")),
                ))
                for row in rows(review, key)
            ),
        )
        for caption, key, head in _GROUPS
        if rows(review, key)
    )  # fmt: skip
    missing = "" if tables else "No trade was closed."
    return Section("groups", "Where it came from", "Sums of the week’s closed trades.", tables,
                   missing=missing)  # fmt: skip


def _money(row: Any) -> float | None:
    text = word(row, "pnl")
    return None if text == DASH else float(text)


def _trades(review: Board, plots: Plots) -> Section:
    cards = []
    for row in rows(review, "entries"):
        charts = Markup("").join(plots.get(word(row, "id"), ()))
        text = word(row, "reflection", "text")
        cards.append(Card(_headline(row), f"{_by(row)}: {text}", charts or None))
    missing = "" if cards else "No trade was closed."
    intro = (
        "Each with the price from before its entry to after its exit, P(up) below it, and a "
        "person’s newest words; where there are none, the draft."
    )
    return Section("trades", "Trade by trade", intro, cards=tuple(cards), missing=missing)
