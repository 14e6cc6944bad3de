"""Cards of short lines that stay legible on a phone: words are text, only the mark is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sim.reports.charts import strip
from sim.reports.figures import style
from sim.reports.parts import Card, Mark, Strip
from sim.reports.reading import (
    COUNCIL,
    Board,
    Member,
    beyond_noise,
    dig,
    evidence,
    floats,
    members,
    number,
    numbers,
    part,
    percent,
    rows,
    show,
    title,
    with_error,
    word,
)

_UNITS = {
    "brier": ("Direction", "gain, 1e-4"),
    "pinball": ("Range", "pinball loss, bp"),
    "risk_brier": ("Risk", "Brier score of the risk, 1e-4"),
}  # fmt: skip
_TOLERANCE = (("terciles", "Volatility", 0.02), ("blocks", "Hours", 0.025), ("months", "", 0.035))
_LABELS = {"0": "low", "1": "middle", "2": "high"}


def forest(board: Board, score: str) -> Card:
    """Draw every comparison of one score: the difference with its 95 % interval."""
    head, unit = _UNITS[score]
    found = [row for row in rows(board, "comparisons")
             if dig(row, "score") == score and number(row, "difference") is not None]  # fmt: skip
    head = f"{head}: {unit}"
    if not found:
        return Card(head, missing="Not measured: no comparison of this score.")
    edge = _common_edge(found)
    strips = tuple(_compared(row, edge) for row in found)
    ticks = (show(-edge, ".3g"), "0", show(edge, "+.3g"))
    return Card(head, "Right of 0 the first named is better; the bar is the 95 % interval.",
                strips=strips, ticks=ticks)  # fmt: skip


def _common_edge(found: Sequence[Any]) -> float:
    """Return the end of the scale; one that is far from all others does not set it."""
    reach = sorted(
        max(abs(v) for key in ("difference", "lo", "hi") if (v := number(row, key)) is not None)
        for row in found
    )
    while len(reach) > 2 and reach[-1] > 3.0 * reach[-2]:
        reach.pop()
    return 1.08 * reach[-1] or 1.0


def _compared(row: Any, edge: float) -> Strip:
    difference, error = number(row, "difference") or 0.0, number(row, "se")
    ends = numbers(row, "lo", "hi")
    told = with_error(difference, error)
    t, e_value = number(row, "dm_t"), number(row, "e_value")
    more = [] if t is None else [f"t {show(t, '.1f')}"]
    more += [] if e_value is None else [f"e {evidence(e_value)}"]
    more += ["off the scale"] if abs(difference) > edge else []
    interval = None if ends is None else (ends[0], ends[1])
    first = word(row, "a")
    drawn = strip(-edge, edge, dots=(difference,), interval=interval,
                  style="c0" if first == COUNCIL else "c9")  # fmt: skip
    return Strip(f"{title(first)} vs {title(word(row, 'b'))}", told, drawn,
                 judged(difference, error), ", ".join(more))  # fmt: skip


def judged(difference: float | None, error: float | None) -> Mark:
    """Return the mark of a difference: better, worse, noise (within two s.e.) or nothing."""
    beyond = beyond_noise(difference, error)
    if beyond is None or difference is None:
        return ""
    return "noise" if not beyond else "better" if difference > 0.0 else "worse"


def coverage(member: Member) -> Card:
    """Draw the coverage of p10–p90 overall and by group, each with its tolerance."""
    head = f"p10–p90 by group: {title(member.name)}"
    total = number(member.scores, "coverage_80")
    if total is None:
        return Card(head, missing="Not measured: it forecasts no quantiles here.")
    groups = [("all bars", total, number(member.scores, "n"), 0.01)]
    for key, kind, tolerance in _TOLERANCE:
        for row in rows(member.scores, "detail", "coverage", key):
            share = number(row, "coverage")
            if share is not None:
                label = _LABELS.get(word(row, "label"), word(row, "label"))
                name = f"{kind} {label}" if kind else label
                groups.append((name, share, number(row, "n"), tolerance))
    edge = max(0.05, *(1.1 * abs(share - 0.8) for _, share, _, _ in groups))
    strips = tuple(_covered(group, edge, style(member)) for group in groups)
    out = sum(line.mark == "bad" for line in strips)
    text = "Grey is the tolerance: 80 ± 1 overall, 2 by volatility, 2.5 by hours, 3.5 by month. "
    text += f"{out} of {len(strips)} lie outside." if out else "All lie inside."
    ticks = (percent(0.8 - edge), "80 %", percent(0.8 + edge))
    return Card(head, text, strips=strips, ticks=ticks)


def _covered(group: tuple[str, float, float | None, float], edge: float, colour: str) -> Strip:
    name, share, n, tolerance = group
    # shares come from counts: a rounding must not turn an edge into a miss
    mark: Mark = "ok" if abs(share - 0.8) <= tolerance + 1e-9 else "bad"
    drawn = strip(0.8 - edge, 0.8 + edge, dots=(share,), band=(0.8 - tolerance, 0.8 + tolerance),
                  at=0.8, style=colour)  # fmt: skip
    bars = "" if n is None else f" of {n:,.0f}"
    return Strip(name, percent(share) + bars, drawn, mark)


def cpcv(board: Board) -> Card:
    """Draw the gains of the paths of combinatorial purged cross-validation."""
    head = "Gain over many paths (CPCV)"
    found = {name: part(row) for name, row in part(board, "cpcv").items()}
    paths = {name: floats(row, "paths") for name, row in found.items()}
    values = [v for path in paths.values() for v in path]
    if not values:
        return Card(head, missing="Not measured: run without cross-validation.")
    edge = 1.1 * max(abs(v) for v in values) or 1.0
    colours = {member.name: style(member) for member in members(board)}
    strips = tuple(
        Strip(title(name), _spread(found[name]),
              strip(-edge, edge, dots=path, style=colours.get(name, "c9")), _split(path))
        for name, path in paths.items() if path
    )  # fmt: skip
    return Card(head, "Each point is one path through the data, 1e-4; the value is mean ± "
                "standard deviation. A real edge keeps its sign.",
                strips=strips, ticks=(show(-edge, ".3g"), "0", show(edge, "+.3g")))  # fmt: skip


def _spread(row: Any) -> str:
    mean, sd = number(row, "mean"), number(row, "sd")
    return f"{show(mean, '+.1f')} ± {show(sd, '.1f')}"


def _split(path: Sequence[float]) -> Mark:
    return "better" if min(path) > 0.0 else "worse" if max(path) < 0.0 else "noise"


def cell_strip(value: float | None, ends: Sequence[float] | None, edge: float, colour: str) -> Any:
    """Return the small interval of a table's cell, None where there is no value."""
    if value is None or edge <= 0.0:
        return None
    interval = None if ends is None else (ends[0], ends[1])
    return strip(-edge, edge, dots=(value,), interval=interval, style=colour)
