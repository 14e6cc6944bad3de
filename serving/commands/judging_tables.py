"""What evaluate shows in a terminal: four narrow tables, and what they mean in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sim.reports.words import plain_words

Row = Mapping[str, Any]
_Column = tuple[str, str, str]  # title, key, format

_DIRECTION: tuple[_Column, ...] = (
    ("rows", "n", ",d"), ("gain", "brier_skill_1e4", "+.2f"), ("± s.e.", "gain_se", ".2f"),
    ("DM t", "dm_t", "+.1f"), ("AUC", "auc", ".4f"), ("right", "accuracy", ".2%"),
    ("slope", "calibration_slope", ".2f"), ("weight", "weight_mean", ".1%"),
)  # fmt: skip
_RANGE: tuple[_Column, ...] = (
    ("pinball", "pinball_bps", ".3f"), ("vs EWMA %", "pinball_vs_ewma_pct", "+.2f"),
    ("in p10–p90", "coverage_80", ".1%"), ("interval", "interval_score_bps", ".2f"),
    ("CRPS", "crps_bps", ".3f"), ("QLIKE", "qlike", ".3f"),
)  # fmt: skip
_RISK: tuple[_Column, ...] = (
    ("fall: Brier", "risk_brier", ".5f"), ("AUC", "risk_auc", ".4f"),
    ("skill %", "risk_skill_pct", "+.1f"), ("ECE", "risk_ece", ".2%"),
    ("rise: Brier", "risk_up_brier", ".5f"), ("AUC", "risk_up_auc", ".4f"),
)  # fmt: skip
_MARKS = {"known": "green", "likely": "", "noise": "dim", "warning": "yellow"}
_VERDICTS = {True: ("passed", "green"), False: ("FAILED", "red"), None: ("not made", "dim")}


def board_view(board: Mapping[str, Any]) -> RenderableType:
    """Return the scoreboard for a terminal of 80 columns."""
    rows = [
        *((name, row, "") for name, row in board["agents"].items()),
        ("consensus", board["consensus"], "bold"),
        *((name, row, "dim") for name, row in board["baselines"].items()),
    ]
    data = board["data"]
    head = (
        f"{data['symbol']} {data['timeframe']}, {data['start']} to {data['end']}: "
        f"{data['bars']:,} bars, {board['horizon_bars']} bars ahead"
    )
    return Group(
        escape(head), *_folds(board), "",
        _scores("direction", _DIRECTION, rows), "",
        _scores("range", _RANGE, rows), "",
        _scores("beyond 0.5 %", _RISK, rows), "",
        "[dim]gain = (¼ − Brier) × 10⁴ with the error of a bootstrap by blocks of a day;\n"
        "DM t = gain over its Newey–West error, lag 60 bars; blocks and lag are never\n"
        "shorter than two horizons. Slope of the outcome on the forecast: 1 is ideal,\n"
        "below it too sure. Pinball (mean of p10, p50, p90), interval score and CRPS in\n"
        "bp. Dim rows are baselines; best_agent is known only afterwards; – = not\n"
        "forecast, or only rows the model was trained on.[/]", "",
        *_words(board), *_controls(board),
    )  # fmt: skip


def _words(board: Mapping[str, Any]) -> Iterator[Text]:
    for note in board["notes"]:
        yield Text(f"! {note}", style="yellow")
    for sentence in plain_words(board):
        yield Text(f"• {sentence.text}", style=_MARKS[sentence.level])


def _controls(board: Mapping[str, Any]) -> Iterator[Text]:
    for name, control in (board.get("controls") or {}).items():
        verdict, style = _VERDICTS[control["ok"]]
        told = ", ".join(
            f"{key} {value:g}" if isinstance(value, int) else f"{key} {value:.3g}"
            for key, value in control["figures"].items()
            if value is not None
        )
        note = f" ({control['note']})" if control["note"] else ""
        yield Text(f"control {name}: {verdict}{note}; {control['expected']}: {told}", style=style)


def _folds(board: Mapping[str, Any]) -> list[str]:
    refit = board.get("refit")
    if not refit:
        return []
    return [f"models and baselines fitted anew for each of {len(refit['folds'])} quarters"]


def _scores(title: str, columns: Sequence[_Column], rows: Iterable[tuple[str, Row, str]]) -> Table:
    table = Table(title, box=None, pad_edge=False)
    for name, _, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row, style in rows:
        cells = [_cell(row[key], form) for _, key, form in columns]
        if any(cell != "–" for cell in cells[title == "direction" :]):
            table.add_row(Text(name), *cells, style=style)  # a name is no markup
    return table


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
