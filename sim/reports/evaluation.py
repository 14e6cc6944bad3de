"""The evaluation report: one HTML file made from the board of ``conclave evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sim.reports import figures, strips, tables
from sim.reports.glossary import TERMS, not_measured
from sim.reports.page import shown
from sim.reports.parts import Card, Page, Section, Strip, Table
from sim.reports.reading import (
    DASH,
    Board,
    Member,
    best_agents,
    council,
    day,
    dig,
    members,
    number,
    numbers,
    part,
    percent,
    rows,
    show,
    title,
    word,
)
from sim.reports.words import plain_words

_LEGEND = (
    "● known: hardly by luck (t ≥ 3, and proof at any stopping time where measured) · ◐ likely: "
    "t ≥ 2 · ○ noise: not to be told from chance · ▲ warning. Gain is (¼ − Brier) × 10⁴: a coin "
    "has 0, the best honest forecast of 5-minute bars about 10."
)


def render(board: Mapping[str, Any]) -> str:
    """Return the report as one self-contained HTML document; equal boards give equal bytes.

    Parameters
    ----------
    board : the JSON of ``conclave evaluate``; whatever is missing or null in it is shown as not
        measured. Its texts are untrusted and come out escaped.
    """
    heading = f"{word(board, 'data', 'symbol')} {word(board, 'data', 'timeframe')}"
    return shown(
        Page(
            title=f"{heading}: evaluation",
            kicker="Conclave evaluation",
            heading=f"{heading}: how far can the forecasts be trusted?",
            facts=tuple(_facts(board)),
            models=tuple(
                (title(name), word(board, "models", name)) for name in part(board, "models")
            ),
            notes=tuple(note for note in rows(board, "notes") if isinstance(note, str)),
            sentences=tuple(plain_words(board)),
            legend=_LEGEND,
            sections=tuple(_sections(board)),
            terms=TERMS,
            gaps=tuple(not_measured(board)),
            footer="Past forecasts promise nothing. This page is made from the evaluation’s JSON "
            "alone and can be made again from it, byte for byte.",
        )
    )


def _facts(board: Board) -> list[tuple[str, str]]:
    data = part(board, "data")
    horizon, bars = number(board, "horizon_bars"), number(data, "bars")
    span = f"{word(data, 'start')[:10]} to {word(data, 'end')[:10]}"
    known = DASH if horizon is None else f"{horizon:.0f} bars ahead"
    return [
        ("Span (UTC)", span + _days(data)),
        ("Bars", show(bars, ",.0f")),
        ("Scored", show(number(council(board).scores, "n"), ",.0f")),
        ("Horizon", known),
        ("Models", _fitted(board)),
        ("Trials ever logged", _trials(board)),
        ("Commit", word(board, "commit")[:12]),
        ("Data SHA-256", word(data, "sha256")[:12]),
    ]


def _days(data: Mapping[str, Any]) -> str:
    start, end = day(data.get("start")), day(data.get("end"))
    return "" if start is None or end is None else f", {end - start:,.4g} days"


def _fitted(board: Board) -> str:
    folds = rows(board, "refit", "folds")
    return f"refitted, {len(folds)} folds" if folds else "as shipped"


def _trials(board: Board) -> str:
    trials = part(board, "overfitting", "trials")
    counted = number(trials, "counted")
    if trials.get("logged") == "not logged":
        return "not logged (TRIALS_LOG is unset)"
    if counted is None:
        told = word(board, "trial")
        return "not measured" if told == DASH else f"not counted ({told})"
    kinds = [
        f"{value:,.0f} {name}"
        for key, name in (("tune", "tuning"), ("looks", "looks at the test year"))
        if (value := number(trials, key)) is not None
    ]
    return f"{counted:,.0f}" + (f" ({', '.join(kinds)})" if kinds else "")


def _sections(board: Board) -> list[Section]:
    mine = council(board)
    agents = [member for member in members(board) if member.kind == "agent"]
    best = best_agents(board, "brier_skill_1e4", 2)
    return [
        _scoreboard(board),
        _evidence(mine, agents, best),
        _calibration(mine, agents),
        _range(board, mine),
        _choice(board, mine, agents, best),
        _controls(board),
        _overfitting(board),
        _drift(board),
    ]


def _scoreboard(board: Board) -> Section:
    made = (tables.direction(board), tables.distribution(board), tables.risk(board))
    intro = (
        "Agents, then the council, then plain baselines. Each row is scored where that forecaster "
        "was awake. ▲ better and ▼ worse lie beyond noise; ≈ is noise; – was not measured."
    )
    return Section("scores", "Scoreboard", intro, made)


def _evidence(mine: Member, agents: Sequence[Member], best: Sequence[Member]) -> Section:
    cards = [figures.gain_path(mine), figures.log_evidence([mine, *agents])]
    cards += [card for member in best if not (card := figures.gain_path(member)).missing]
    intro = (
        "Is it better than a coin, and since when? The shaded range holds at all times at once: "
        "one may look every day without fooling oneself."
    )
    return Section("evidence", "Gain over time", intro, cards=tuple(cards))


def _calibration(mine: Member, agents: Sequence[Member]) -> Section:
    shown = [mine, *(m for m in agents if number(m.scores, "brier") is not None)]
    drawn = [mine, *(m for m in agents if rows(m.scores, "detail", "reliability"))]
    cards = [figures.reliability(member) for member in drawn]
    cards = [_titled(card, f"Direction: {card.title}") for card in cards]
    for member in shown:
        if rows(member.scores, "detail", "risk_reliability"):
            card = figures.reliability(member, "risk_reliability", "fell beyond 0.5 %")
            cards.append(_titled(card, f"Risk of a fall: {card.title}"))
    intro = (
        "When it says 52 %, is it 52 %? Points on the diagonal are right; the grey band is what "
        "luck alone makes of a right forecast. Points outside it are hollow diamonds."
    )
    return Section("calibration", "Calibration", intro, (tables.calibration(shown),), tuple(cards),
                   small=True)  # fmt: skip


def _titled(card: Card, name: str) -> Card:
    return Card(name, card.text, card.svg, missing=card.missing)


def _range(board: Board, mine: Member) -> Section:
    cards = [strips.coverage(mine), figures.pit(mine), figures.rolling_coverage(mine)]
    best = best_agents(board, "pinball_bps", 1, sign=-1.0)
    cards += [figures.pit(best[0]), strips.coverage(best[0])] if best else []
    cards += [strips.forest(board, score) for score in ("pinball", "brier", "risk_brier")]
    intro = (
        "How far may the price go, and does the stated range hold in calm and wild hours alike? "
        "Then every difference between the council and the others with its uncertainty."
    )
    return Section("range", "Range and differences", intro, cards=tuple(cards))


def _choice(
    board: Board, mine: Member, agents: Sequence[Member], best: Sequence[Member]
) -> Section:
    shown = [mine, *best]
    cards = (
        figures.selective(shown, "gain"), figures.selective(shown, "accuracy"),
        figures.weights(board, agents),
    )  # fmt: skip
    intro = "Does it know when it knows? And which agents did the council listen to?"
    return Section("choice", "Where it is sure, and whom it heard", intro, cards=cards)


def _controls(board: Board) -> Section:
    cards = tables.controls(board)
    intro = (
        "Worlds in which the answer is known: without an edge none may be found, with a planted "
        "one it must be, and a leak must be loud."
    )
    missing = "" if cards else "Not measured: run evaluate with --controls."
    return Section("controls", "Controls", intro, (), cards, missing)


def _overfitting(board: Board) -> Section:
    cards = (_tried(board), figures.logits(board), strips.cpcv(board))
    intro = "The best of many tries looks good by luck; this is how much luck there was to be had."
    return Section("overfitting", "Overfitting", intro, cards=cards)


def _tried(board: Board) -> Card:
    found = part(board, "overfitting")
    if not found:
        return Card("Selection", missing="Not measured: the board holds no selection.")
    pbo, trials = number(found, "pbo"), part(found, "trials")
    names = (
        ", ".join(title(name) for name in rows(found, "candidates") if isinstance(name, str))
        or DASH
    )
    lines = [
        Strip("probability of overfitting (PBO)", "not measured" if pbo is None else percent(pbo),
              mark="" if pbo is None else "bad" if pbo > 0.5 else "ok"),
        Strip("candidates", names),
        Strip("blocks", show(number(found, "blocks"), ".0f")),
        Strip("trials ever logged", show(number(trials, "counted"), ",.0f")),
        Strip("of them tuning", show(number(trials, "tune"), ",.0f")),
        Strip("of them looks at the test year", show(number(trials, "looks"), ",.0f")),
        Strip("log", word(trials, "logged")),
    ]  # fmt: skip
    return Card("Selection", strips=tuple(lines))


def _drift(board: Board) -> Section:
    table: Table | None = tables.drift(board)
    intro = "Does the market still look like the years the models learned from?"
    missing = str(dig(board, "drift", "note") or "")
    if not part(board, "drift"):
        missing = "Not measured: no training sample to compare with."
    seen = part(board, "drift")
    cards = (figures.cusum(board), _coverage_alarms(board)) if seen else ()
    return Section("drift", "Drift", intro, () if table is None else (table,), cards, missing)


def _coverage_alarms(board: Board) -> Card:
    head = "Coverage alarms"
    if dig(board, "drift", "coverage") is None:
        return Card(head, missing="Not measured.")
    found = rows(board, "drift", "coverage", "alarms")
    lines = tuple(_alarm(row) for row in found[:12])
    return Card(
        head,
        f"{len(found)} time{'' if len(found) == 1 else 's'} the range held too little or too much.",
        strips=lines,
    )


def _alarm(row: Any) -> Strip:
    share = numbers(row, "coverage")
    return Strip(word(row, "at")[:16].replace("T", " "), percent(share[0]) if share else "alarm",
                 mark="bad")  # fmt: skip
