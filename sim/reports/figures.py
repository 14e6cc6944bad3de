"""The charts of the evaluation report, one function a card; each copes with what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from sim.reports.charts import Axis, Chart, Point, axis, time_axis
from sim.reports.parts import Card, Key
from sim.reports.reading import (
    Board,
    Member,
    day,
    dig,
    evidence_of,
    floats,
    number,
    numbers,
    part,
    percent,
    power_of_ten,
    rows,
    show,
    title,
)
from sim.reports.words import PROOF

_NO_PATH = "Not measured: the board holds no path over time."
_FLOOR = -3.0  # log10 of the e-value; below it evidence is simply absent


def style(member: Member) -> str:
    """Return the class of a member's colour, the same in every chart."""
    return f"c{member.style % 8}" if member.style >= 0 else "c9"


# Evidence over time


def gain_path(member: Member) -> Card:
    """Draw the gain so far with its confidence sequence."""
    head = f"Gain so far: {title(member.name)}"
    path = _timed(rows(member.scores, "detail", "path"), "gain")
    if len(path) < 2:
        return Card(head, missing=_NO_PATH)
    bounds = [(x, *ends) for x, row in path if (ends := numbers(row, "lo", "hi")) is not None]
    line = [(x, number(row, "gain") or 0.0) for x, row in path]
    late = len(line) // 6  # the first days swing too widely to set the scale
    seen = [y for _, y in line[late:]] + [y for _, lo, hi in bounds[late:] for y in (lo, hi)]
    chart = Chart(time_axis([x for x, _ in line]), axis([0.0, *seen], "gain, 1e-4"))
    if bounds:
        upper, lower = [(x, hi) for x, _, hi in bounds], [(x, lo) for x, lo, _ in bounds]
        chart.area(upper, lower, f"cover {style(member)}")
    chart.across(0.0, "zero")
    chart.line(line, style(member))
    last = path[-1][1]
    ends = numbers(last, "lo", "hi")
    told = f"At the end {show(line[-1][1], '+.1f')}"
    if ends:
        told += f", 95 % confidence sequence {show(ends[0], '+.1f')} to {show(ends[1], '+.1f')}"
    legend = [Key(f"line {style(member)}", "mean gain so far, 1e-4")]
    legend += [Key(f"cover {style(member)}", "95 % confidence sequence")] if bounds else []
    return Card(head, f"{told}. Above 0 is better than a coin.", chart.svg(f"{head}. {told}."),
                legend=tuple(legend))  # fmt: skip


def log_evidence(shown: Sequence[Member]) -> Card:
    """Draw the e-value of every member over time, with the line of proof."""
    head = "Evidence against “no better than a coin”"
    lines: list[tuple[Member, list[Point]]] = []
    for member in shown:
        path = _timed(rows(member.scores, "detail", "path"), "log_e")
        if len(path) > 1:
            # the board holds natural logarithms
            tens = [(x, (number(row, "log_e") or 0.0) / math.log(10.0)) for x, row in path]
            lines.append((member, [(x, max(y, _FLOOR)) for x, y in tens]))
    if not lines:
        return Card(head, missing=_NO_PATH)
    proof = math.log10(PROOF)
    values = [y for _, line in lines for _, y in line]
    chart = Chart(time_axis([x for _, line in lines for x, _ in line]),
                  _powers([*values, 0.0, proof + 0.3]))  # fmt: skip
    chart.across(proof, "limit")
    for member, line in reversed(lines):
        chart.line(line, style(member))
    ends = ", ".join(f"{title(member.name)} {evidence_of(line[-1][1])}" for member, line in lines)
    legend = tuple(Key(f"line {style(member)}", title(member.name)) for member, _ in lines)
    legend += (Key("line limit", f"proof: {PROOF:.0f}"),)
    return Card(head, f"e-value at the end: {ends}. Beyond {PROOF:.0f}, chance is excluded at 5 % "
                "whenever one looks.", chart.svg(f"{head}. {ends}."), legend=legend)  # fmt: skip


def _powers(values: Sequence[float]) -> Axis:
    plain = axis(values, "e-value", count=5)
    step = max(1, math.ceil((plain.hi - plain.lo) / 6))
    first = math.ceil(plain.lo / step) * step
    powers = range(first, math.floor(plain.hi) + 1, step)
    ticks = tuple((float(k), power_of_ten(k)) for k in powers)
    return Axis(plain.lo, plain.hi, ticks, "e-value, scale of tens")


# Calibration


def reliability(member: Member, key: str = "reliability", what: str = "went up") -> Card:
    """Draw how often it happened against what was forecast, with consistency bands."""
    head = title(member.name)
    bins = _bins(rows(member.scores, "detail", key))
    if not bins:
        return Card(head, missing=_why(member, "brier", "probability", "bins"))
    values = [v for row in bins for v in row[:4] if v is not None]
    x, y = _square(values, "forecast, %"), _square(values, "observed, %")
    chart = Chart(x, y, 250.0)
    banded = [(f, lo, hi) for f, _, lo, hi, _ in bins if lo is not None and hi is not None]
    if len(banded) > 1:
        chart.area([(f, hi) for f, _, hi in banded], [(f, lo) for f, lo, _ in banded], "band")
    chart.line([(x.lo, x.lo), (x.hi, x.hi)], "zero")
    outside = 0
    for forecast, observed, lo, hi, n in bins:
        out = lo is not None and hi is not None and not lo <= observed <= hi
        outside += out
        told = f"forecast {percent(forecast)}, observed {percent(observed)}, {n:,.0f} bars"
        chart.dot(forecast, observed, "bad" if out else style(member), told, hollow=out)
    text = _calibration_words(member, key, outside, len(bins))
    described = f"Reliability of {head}: {what} against forecast. {text}"
    return Card(head, text, chart.svg(described))


def _calibration_words(member: Member, key: str, outside: int, count: int) -> str:
    risk = key != "reliability"
    ece = number(member.scores, "risk_ece" if risk else "ece")
    told = [f"{outside} of {count} points lie outside the band."]
    slope = number(member.scores, "calibration_slope")
    if slope is not None and not risk:
        verdict = "too sure" if slope < 0.75 else "too timid" if slope > 1.3 else "right"
        verdict = "it points the wrong way" if slope < 0.0 else verdict
        told.append(f"Slope {show(slope)} (1 is ideal: {verdict}).")
    if ece is not None:
        floor = number(member.scores, "ece_noise") if not risk else None
        beside = "" if floor is None else f", noise alone makes {100 * floor:.2f}"
        told.append(f"ECE {100 * ece:.2f} points{beside}.")
    return " ".join(told)


def _square(values: Sequence[float], label: str) -> Axis:
    return axis(values, label, unit=100.0, pad=0.08, count=5)


def _bins(found: Sequence[Any]) -> list[tuple[float, float, float | None, float | None, float]]:
    out = []
    for row in found:
        pair = numbers(row, "forecast", "observed")
        if pair is not None:
            band = (number(row, "band_lo"), number(row, "band_hi"))
            out.append((pair[0], pair[1], *band, number(row, "n") or 0.0))
    return sorted(out, key=lambda row: row[0])


# Range


def pit(member: Member) -> Card:
    """Draw the histogram of the probability integral transform with its band."""
    head = f"PIT: {title(member.name)}"
    found = part(member.scores, "detail", "pit")
    counts = floats(found, "counts")
    if sum(counts) <= 0.0:
        return Card(head, missing=_why(member, "pinball_bps", "distribution", "histogram"))
    expected = sum(counts) / len(counts)
    off = [count / expected - 1.0 for count in counts]
    band = numbers(found, "band_lo", "band_hi") or []
    limits = [edge / expected - 1.0 for edge in band]
    y = axis([*off, *limits, 0.0], "more or less often than forecast, %", unit=100.0)
    x = Axis(
        0.0, 1.0, tuple((k / 4, f"{k / 4:g}") for k in range(5)), "outcome’s place in its forecast"
    )
    chart = Chart(x, y, 220.0)
    if limits:
        chart.span(limits[0], limits[1], "band")
    outside = 0
    for k, value in enumerate(off):
        out = bool(limits) and not limits[0] <= value <= limits[1]
        outside += out
        left, right = k / len(off), (k + 1) / len(off)
        told = f"{left:.2f}–{right:.2f}: {counts[k]:,.0f} outcomes, expected {expected:,.0f}"
        chart.bar(left, right, value, f"fill {'bad' if out else style(member)}", told)
    chart.across(0.0, "zero")
    text = "All bars near 0 is right; high ends mean too narrow, a high middle means too wide."
    if limits:
        text += f" {outside} of {len(counts)} leave the band of a calibrated forecast."
        text += " Neighbours that alternate come from the straight lines between stated quantiles."
    return Card(head, text, chart.svg(f"{head}. {text}"))


def rolling_coverage(member: Member) -> Card:
    """Draw the coverage of p10–p90 over the last 30 days."""
    head = f"Coverage over 30 days: {title(member.name)}"
    path = _timed(rows(member.scores, "detail", "coverage", "rolling"), "coverage")
    if len(path) < 2:
        return Card(head, missing=_why(member, "pinball_bps", "quantiles", "30 days of them"))
    line = [(x, number(row, "coverage") or 0.0) for x, row in path]
    y = axis([0.75, 0.85, *(v for _, v in line)], "share, %", unit=100.0)
    chart = Chart(time_axis([x for x, _ in line]), y, 200.0)
    chart.span(0.765, 0.835, "band")
    chart.across(0.8, "zero")
    chart.line(line, style(member))
    worst = max(line, key=lambda point: abs(point[1] - 0.8))[1]
    text = f"Furthest from 80 %: {percent(worst)}; the band is 80 ± 3.5, as for a month."
    return Card(head, text, chart.svg(f"{head}. {text}"))


# Selective prediction and weights


def selective(shown: Sequence[Member], key: str) -> Card:
    """Draw a score over the most confident share of the bars."""
    head = {"gain": "Gain where it is most sure", "accuracy": "Right where it is most sure"}[key]
    lines = []
    for member in shown:
        points = [
            (math.log10(pair[0]), pair[1], number(row, "n"))
            for row in rows(member.scores, "detail", "risk_coverage")
            if (pair := numbers(row, "share", key)) is not None and pair[0] > 0.0
        ]
        if len(points) > 1:
            lines.append((member, sorted(points)))
    if not lines:
        return Card(head, missing=_why(shown[0], "brier", "probability", "shares"))
    x = _share_axis([x for _, line in lines for x, _, _ in line])
    accuracy = key == "accuracy"
    values = [y for _, line in lines for _, y, _ in line] + [0.5 if accuracy else 0.0]
    y = axis(values, f"{key}, %", unit=100.0) if accuracy else axis(values, key)
    chart = Chart(x, y, 220.0)
    chart.across(0.5 if accuracy else 0.0, "zero")
    for member, points in reversed(lines):
        chart.line([(x, y) for x, y, _ in points], style(member))
        for share, value, n in points:
            told = percent(value) if accuracy else show(value, "+.1f")
            bars = "" if n is None else f", {n:,.0f} bars"
            chart.dot(share, value, style(member), f"surest {percent(10**share)}: {told}{bars}")
    legend = tuple(Key(f"line {style(member)}", title(member.name)) for member, _ in lines)
    text = "Left: the few bars with the surest forecasts; right: all. The fewer, the more luck."
    return Card(head, text, chart.svg(f"{head}. {text}"), legend=legend)


def _share_axis(logs: Sequence[float]) -> Axis:
    lo, hi = min(logs), max(logs)
    marks = [m for m in (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if lo <= math.log10(m) + 1e-9]
    ticks = tuple((math.log10(m), f"{100 * m:g} %") for m in marks)
    room = 0.06 * max(hi - lo, 0.1)
    return Axis(lo - room, hi + room, ticks, "share of bars, the surest first")


def weights(board: Board, agents: Sequence[Member]) -> Card:
    """Draw the agents' weights over time, one on another."""
    head = "Who was listened to"
    found = [(x, row) for row in rows(board, "weights") if (x := day(dig(row, "at"))) is not None]
    heard = [m for m in agents if any(number(row, m.name) for _, row in found)]
    if len(found) < 2 or not heard:
        return Card(head, missing="Not measured: no council, or its weights were not kept.")
    chart = Chart(time_axis([x for x, _ in found]),
                  axis([0.0, 1.0], "weight, %", unit=100.0, pad=0.0))  # fmt: skip
    floor = [(x, 0.0) for x, _ in found]
    names = []
    for member in heard:
        roof = [(x, y + max(number(row, member.name) or 0.0, 0.0))
                for (x, y), (_, row) in zip(floor, found, strict=True)]  # fmt: skip
        chart.area(roof, floor, f"fill stacked {style(member)}")
        names.append((member, floor, roof))
        floor = roof
    for named in names:  # after all areas, so that none covers a name
        _name_area(chart, *named)
    means = ", ".join(f"{title(m.name)} {percent(number(m.scores, 'weight_mean'))}" for m in heard)
    legend = tuple(Key(f"fill {style(member)}", title(member.name)) for member in heard)
    text = f"From below in the order of the legend. Mean weight: {means}."
    return Card(head, text, chart.svg(f"{head}. {text}"), legend=legend)


def _name_area(chart: Chart, member: Member, floor: Sequence[Point], roof: Sequence[Point]) -> None:
    inner = range(len(roof) // 5, len(roof) - len(roof) // 5) or range(len(roof))
    k = max(inner, key=lambda i: roof[i][1] - floor[i][1])
    if roof[k][1] - floor[k][1] > 0.16:
        middle = (roof[k][1] + floor[k][1]) / 2 - 0.03
        chart.word(roof[k][0], middle, title(member.name), "inside")


# Drift and overfitting


def cusum(board: Board) -> Card:
    """Draw the cumulative sum that watches for a loss of skill."""
    head = "CUSUM: does skill fade?"
    found = part(board, "drift", "cusum")
    path = _timed(rows(found, "path"), "value")
    if len(path) < 2:
        return Card(head, missing="Not measured.")
    line = [(x, number(row, "value") or 0.0) for x, row in path]
    limit = number(found, "threshold")
    chart = Chart(time_axis([x for x, _ in line]),
                  axis([0.0, *(y for _, y in line), *([limit] if limit else [])], "sum"),
                  200.0)  # fmt: skip
    if limit is not None:
        chart.across(limit, "limit")
    chart.line(line, "c0")
    alarms = [x for row in rows(found, "alarms") if (x := day(dig(row, "at"))) is not None]
    for at in alarms:
        chart.up(at, "limit")
    text = f"{len(alarms)} alarm{'' if len(alarms) == 1 else 's'}"
    text += f" at a threshold of {show(limit, '.3g')}." if limit is not None else "."
    legend = (Key("line c0", "sum so far"), Key("line limit", "alarm"))
    return Card(head, text, chart.svg(f"{head} {text}"), legend=legend)


def logits(board: Board) -> Card:
    """Draw where the best candidate in sample ended up out of sample."""
    head = "Does the winner keep winning?"
    counts = floats(board, "overfitting", "logits", "counts")
    edges = floats(board, "overfitting", "logits", "edges")
    rising = all(left < right for left, right in pairwise(edges))
    if not counts or len(edges) != len(counts) + 1 or min(counts) < 0.0 or not rising:
        return Card(head, missing="Not measured: the splits’ ranks were not kept.")
    chart = Chart(axis([edges[0], edges[-1]], "logit of its rank out of sample", pad=0.0),
                  axis([0.0, max(counts)], "splits", pad=0.0), 200.0)  # fmt: skip
    for (left, right), count in zip(pairwise(edges), counts, strict=True):
        told = f"{left:.1f} to {right:.1f}: {count:,.0f} splits"
        chart.bar(left, right, count, f"fill {'bad' if right <= 0.0 else 'c0'}", told)
    chart.up(0.0, "zero")
    pbo = percent(number(board, "overfitting", "pbo"))
    text = (
        "Left of 0 the best in one half of the days is below the middle in the other: "
        f"{pbo} of the splits."
    )
    return Card(head, text, chart.svg(f"{head} {text}"))


def _why(member: Member, key: str, forecast: str, kept: str) -> str:
    if number(member.scores, key) is None:
        return f"Not measured: it forecasts no {forecast} here."
    return f"Not measured: the board holds no {kept}."


def _timed(found: Sequence[Any], key: str) -> list[tuple[float, Any]]:
    timed = [(x, row) for row in found if (x := day(dig(row, "at"))) is not None]
    return sorted(((x, row) for x, row in timed if number(row, key) is not None),
                  key=lambda pair: pair[0])  # fmt: skip
