"""What a gate is worth, as a page: made from the evaluation's JSON and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from domain.times import DAY_MS, parse_iso
from rl.evaluate import GATE, HOLD, NONE, RANDOM, SKIPS
from sim.reports.charts import Chart, axis, time_axis
from sim.reports.page import shown
from sim.reports.parts import Card, Cell, Column, Key, Line, Page, Section, Sentence, Table

_SHOWN = (GATE, NONE, RANDOM, SKIPS, HOLD)
_VERBS = ("allow", "shrink", "veto", "override")
_LEGEND = (
    "likely: the 95 % interval excludes 0; noise: it does not, so that chance explains it as well; "
    "known: counted."
)
_TERMS: tuple[tuple[str, str], ...] = (
    ("gate", "mean over policies trained from several seeds; each fold’s on the bars before it."),
    ("no gate", "every side of the strategy, whole."),
    ("random gate", "vetoes as large a share of the sides as the gate of the same seed, by lot."),
    ("net", "change of the account after fees, spread, slippage, impact and funding, in basis "
            "points of the stake: 100 bp are 1 % of what one order is worth."),
    ("interval", "95 %, bootstrap over days."),
    ("turnover", "what was traded, entries and exits, in stakes."),
)  # fmt: skip
_COLUMNS = (
    Column("net, bp", "of the stake, after all costs"),
    Column("over no gate, bp", "with its 95 % interval, bootstrap over days"),
    Column("Sharpe", "of the days, ×√365; no risk-free rate"),
    Column("trades", "closed round trips"),
    Column("turnover", "stakes traded"),
    Column("costs, bp", "fees, spread, slippage and funding"),
    Column("vetoed", "share of the sides that the strategy wanted"),
)


def render(report: Mapping[str, Any]) -> str:
    """Return the evaluation as one self-contained HTML document; equal input gives equal bytes."""
    data = report["data"]
    who = f"{report['strategy']} on {data['symbol']} {data['timeframe']}"
    return shown(
        Page(
            title=f"{who}: gate",
            kicker="Conclave gate",
            heading=f"{who}: is its gate worth having?",
            facts=tuple(_facts(report)),
            sentences=tuple(_sentences(report["contestants"])),
            legend=_LEGEND,
            sections=(_results(report), _verbs(report)),
            terms=_TERMS,
            gaps=(),
            footer="To beat no gate is not to earn: where costs eat a strategy, nothing beats "
            "doing nothing. This page is made from the report’s JSON alone.",
        )
    )


def _facts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    data, folds = report["data"], report["folds"]
    yield "Start, UTC", str(data["start"])[:16].replace("T", " ")
    yield "End, UTC", str(data["end"])[:16].replace("T", " ")
    yield "Folds", f"{len(folds)}, each trained on the bars before it"
    yield "Seeds", ", ".join(str(seed) for seed in report["seeds"])
    yield "Profile", str(report["profile"])
    yield "Cost of a round trip", f"{1e4 * report['cost']:.1f} bp, without impact and funding"
    yield "Data SHA-256", str(data["sha256"])[:12]


def _sentences(rows: Mapping[str, Any]) -> Iterator[Sentence]:
    gate = rows[GATE]
    yield _against(gate, "over_no_gate_bps", "over_no_gate_interval", "no gate")
    level, told = _sign(gate["net_bps_interval"])
    yield Sentence(level, f"By itself it {told}: {gate['net_bps']:+,.0f} bp of the stake.")
    best = max((SKIPS, HOLD, RANDOM, NONE), key=lambda name: float(rows[name]["net_bps"]))
    if float(rows[best]["net_bps"]) > float(gate["net_bps"]):
        yield Sentence(
            "warning", f"{best.capitalize()} did better: {rows[best]['net_bps']:+,.0f} bp."
        )
    if gate.get("asked"):
        yield Sentence(
            "known", f"Of {gate['asked']:,.0f} sides it vetoed {gate['veto']:.0%} and shrank "
            f"{gate['shrink']:.0%}.",
        )  # fmt: skip


def _against(row: Mapping[str, Any], key: str, ends: str, what: str) -> Sentence:
    found = row[ends]
    span = "" if found is None else f" [{found[0]:+,.0f}, {found[1]:+,.0f}]"
    chance = found is None or found[0] <= 0.0 <= found[1]
    side = "more" if row[key] > 0.0 else "less"
    text = f"The gate made {abs(row[key]):,.0f} bp of the stake {side} than {what}{span}."
    return Sentence("noise" if chance else "likely", text)


def _sign(ends: Any) -> tuple[Any, str]:
    if ends is None or ends[0] <= 0.0 <= ends[1]:
        return "noise", "neither earned nor lost beyond chance"
    return "likely", "earned" if ends[0] > 0.0 else "lost"


def _results(report: Mapping[str, Any]) -> Section:
    rows = report["contestants"]
    names = [name for name in rows if name not in _SHOWN]
    lines = tuple(_line(name, rows[name]) for name in (*_SHOWN, *sorted(names)))
    table = Table("Everybody on the same closes", "who", _COLUMNS, lines)
    return Section(
        "results", "Results", "The same fill engine, costs and stake for all.", (table,),
        (_course(report["daily"]),),
    )  # fmt: skip


def _line(name: str, row: Mapping[str, Any]) -> Line:
    ends = row["over_no_gate_interval"]
    span = "" if ends is None else f" [{ends[0]:+,.0f}, {ends[1]:+,.0f}]"
    sharpe, veto = row["sharpe"], row.get("veto")
    cells = (
        f"{row['net_bps']:+,.0f}", f"{row['over_no_gate_bps']:+,.0f}{span}",
        "–" if sharpe is None else f"{sharpe:.2f}", f"{row['trades']:,.0f}",
        f"{row['turnover']:,.0f}", f"{row['costs_bps']:,.0f}",
        "–" if veto is None else f"{veto:.0%}",
    )  # fmt: skip
    return Line(name, tuple(Cell(text) for text in cells))


def _course(daily: Mapping[str, Any]) -> Card:
    days = [parse_iso(day) / DAY_MS for day in daily["day"]]
    head = "Net result so far"
    if len(days) < 2:
        return Card(head, missing="Not drawn: less than two days.")
    drawn = {name: list(accumulate(daily[name])) for name in (HOLD, NONE, GATE)}
    every = [value for values in drawn.values() for value in values]
    chart = Chart(time_axis(days), axis([0.0, *every], "bp of the stake"), 260.0)
    chart.across(0.0, "c9")
    styles = {HOLD: "c9", NONE: "c2", GATE: "c1"}
    for name, values in drawn.items():
        chart.line(list(zip(days, values, strict=True)), styles[name])
    legend = tuple(Key(f"line {styles[name]}", name) for name in (GATE, NONE, HOLD))
    text = "Sum of the days, after every cost."
    return Card(head, text, chart.svg(f"{head}. {text}"), legend=legend)


def _verbs(report: Mapping[str, Any]) -> Section:
    summed: dict[str, dict[str, int]] = {}
    for one in report["by_regime"].values():
        for regime, found in one.items():
            told = summed.setdefault(regime, dict.fromkeys(_VERBS, 0))
            for verb, n in found.items():
                told[verb] += n
    columns = (Column("sides", "all seeds"), *(Column(verb, "share") for verb in _VERBS))
    lines = tuple(
        Line(regime, (
            Cell(f"{sum(told.values()):,}"),
            *(Cell(f"{told[verb] / max(sum(told.values()), 1):.1%}") for verb in _VERBS),
        ))
        for regime, told in sorted(summed.items())
    )  # fmt: skip
    table = Table("By regime", "regime", columns, lines,
                  "Wild: volatility above its median; trending: the price moved further in four "
                  "hours than a walk would.")  # fmt: skip
    missing = "" if lines else "The strategy wanted no side."
    return Section("verbs", "What it said", "Of the sides that the strategy wanted.",
                   (table,) if lines else (), missing=missing)  # fmt: skip
