"""What a scenario showed, as a page: made from the report's JSON and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from domain.times import DAY_MS, parse_iso
from sim.reports.charts import Chart, axis, time_axis
from sim.reports.page import shown
from sim.reports.parts import Card, Cell, Column, Key, Line, Page, Section, Sentence, Table

_STYLES = ("c1", "c2", "c3", "c4")
_LEGEND = "met: it held; missed: it did not; known: counted."
_TERMS: tuple[tuple[str, str], ...] = (
    ("law", "what must hold on any day; worked out again from the ledger's rows alone."),
    ("expected", "what must be seen for the scenario to have shown anything."),
    ("exposure", "what is held, without sides, as a share of equity; moves with the market after "
                 "an entry that was within its limit."),
    ("fall", "of equity from its highest close."),
)  # fmt: skip


def render(report: Mapping[str, Any]) -> str:
    """Return the report as one self-contained HTML document; equal input gives equal bytes."""
    return shown(
        Page(
            title=f"{report['name']}: scenario",
            kicker="Conclave scenario",
            heading=str(report["about"]) or str(report["name"]),
            facts=tuple(_facts(report)),
            sentences=tuple(_sentences(report)),
            legend=_LEGEND,
            sections=(_laws(report), _figures(report), _what(report)),
            terms=_TERMS,
            gaps=tuple(_untested(report)),
            footer="A stress test shows what breaks, not how often it comes.",
        )
    )


def _facts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Scenario", str(report["name"])
    yield "Markets", ", ".join(report["symbols"])
    yield "Traded on", str(report["market"])
    yield "Strategy", str(report["strategy"])
    yield "Bars", f"{report['bars']:,}, {report['bars_from']}"


def _sentences(report: Mapping[str, Any]) -> Iterator[Sentence]:
    broken = [law["law"] for law in report["laws"] if law["broken"]]
    if broken:
        yield Sentence("missed", f"Broken: {', '.join(broken)}.")
    else:
        yield Sentence("met", "Every law held.")
    missed = [each["what"] for each in report["expected"] if not each["met"]]
    if missed:
        yield Sentence("missed", f"Not seen: {', '.join(missed)}.")
    equity = report["equity"]
    ended = "" if equity is None else f", and ended at {equity:,.2f}"
    yield Sentence(
        "known", f"{report['entries']:,} positions entered; equity fell by "
        f"{report['worst_fall']:.2%} at worst{ended}.",
    )  # fmt: skip
    for refused in report["acts_refused"]:
        yield Sentence("warning", f"Refused: {refused}")
    for at, mode in report["modes"]:
        yield Sentence("known", f"{str(at)[:16].replace('T', ' ')}: {mode}.")


def _untested(report: Mapping[str, Any]) -> Iterator[str]:
    for law in report["laws"]:
        if not law["checked"]:
            yield f"{law['law']}: nothing put it to the test."


def _laws(report: Mapping[str, Any]) -> Section:
    columns = (Column("checked", "how often it was put to the test"), Column("held", ""),
               Column("rule", ""))  # fmt: skip
    lines = tuple(
        Line(law["law"], (
            Cell(f"{law['checked']:,}"),
            _held(law),
            Cell("; ".join([law["rule"], *law["first"]])),
        ))
        for law in report["laws"]
    )  # fmt: skip
    seen = tuple(
        Line(str(each["what"]), (
            Cell(str(each["wanted"])), Cell(_told(each["seen"])),
            Cell("", "ok" if each["met"] else "bad"),
        ))
        for each in report["expected"]
    )  # fmt: skip
    expected = Table(
        "Expected", "what", (Column("wanted", ""), Column("seen", ""), Column("met", "")), seen
    )
    return Section("laws", "What held", "", (Table("Laws", "law", columns, lines), expected))


def _held(law: Mapping[str, Any]) -> Cell:
    if law["broken"]:
        return Cell(f"{law['broken']:,} times", "bad")
    return Cell("", "ok") if law["checked"] else Cell("not tested")


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _what(report: Mapping[str, Any]) -> Section:
    def counts(title: str, found: Mapping[str, int], head: str) -> Table:
        lines = tuple(Line(name, (Cell(f"{n:,}"),)) for name, n in found.items())
        return Table(title, head, (Column("times", ""),), lines)

    tables = tuple(
        counts(title, report[key], head)
        for title, key, head in (
            ("Wanted nothing", "aside", "reason"), ("Refused", "refused", "reason"),
            ("Closed", "exits", "reason"),
        ) if report[key]
    )  # fmt: skip
    missing = "" if tables else "Nothing was refused, and nothing closed."
    return Section("what", "What happened", "", tables, missing=missing)


def _figures(report: Mapping[str, Any]) -> Section:
    curve = report["curve"]
    at = [parse_iso(text) / DAY_MS for text in curve["price_at"]]
    marks = [parse_iso(text) / DAY_MS for text in curve["at"]]
    if len(marks) < 2:
        return Section("figures", "Figures", "", missing="Not drawn: less than two closes.")
    cards = (
        _card("Prices", "of the last close before trading = 1", at, curve["price"], report),
        _card("Equity", "quote units", marks, {"equity": curve["equity"]}, report),
        _card("Exposure", "share of equity", marks, {"exposure": curve["exposure"]}, report),
    )
    return Section("figures", "Figures", "Vertical lines: the mode changed.", cards=cards)


def _card(
    title: str, unit: str, at: list[float], drawn: Mapping[str, list[float]],
    report: Mapping[str, Any],
) -> Card:  # fmt: skip
    chart = Chart(
        time_axis(at), axis([v for values in drawn.values() for v in values], unit), 260.0
    )
    for changed, _ in report["modes"]:
        chart.up(parse_iso(changed) / DAY_MS, "c9")
    styles = dict(zip(drawn, _STYLES, strict=False))
    for name, values in drawn.items():
        chart.line(list(zip(at, values, strict=True)), styles.get(name, "c9"))
    legend = tuple(Key(f"line {style}", name) for name, style in styles.items())
    return Card(title, "", chart.svg(f"{title}, {unit}"), legend=legend)
