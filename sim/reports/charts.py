"""Small line charts as inline SVG: colours are classes of the page, so that they follow its theme.

A chart is 400 units wide and scales with its card; the page sets the size of its letters. Nothing
in it has an id, so that any number of charts can stand in one page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from markupsafe import Markup

WIDTH, HEIGHT = 400.0, 240.0
_LEFT, _RIGHT, _TOP = 52.0, 14.0, 28.0
_BOTTOM, _UNNAMED_BOTTOM = 40.0, 24.0
_LETTER = 8.6  # width of a digit where letters are largest
STRIP_WIDTH, _STRIP_PAD = 300.0, 9.0
_ONE_BY_ONE = 2.0  # days, below which hours are ticked
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Point = tuple[float, float]
Tick = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its ends, its ticks (value, label) and what it shows, with the unit."""

    lo: float
    hi: float
    ticks: tuple[Tick, ...]
    label: str


def axis(values: Iterable[float], label: str, *, pad: float = 0.05,
         unit: float = 1.0, count: int = 5) -> Axis:  # fmt: skip
    """Return an axis that holds the values.

    Parameters
    ----------
    unit : ticks are labelled with value × unit.
    pad : share of the span that is left free at both ends.
    """
    kept = [value for value in values if math.isfinite(value)]
    lo, hi = (min(kept), max(kept)) if kept else (0.0, 1.0)
    if hi - lo <= 1e-9 * max(1.0, abs(hi)):
        lo, hi = lo - 0.5 / unit, hi + 0.5 / unit
    room = pad * (hi - lo)
    lo, hi = lo - room, hi + room
    return Axis(lo, hi, tuple(_ticks(lo * unit, hi * unit, unit, count)), label)


def log_axis(values: Iterable[float], label: str, count: int = 5) -> Axis:
    """Return an axis of decimal logarithms, ticks at round values; only values above 0 count."""
    kept = [math.log10(value) for value in values if value > 0.0 and math.isfinite(value)]
    lo, hi = (min(kept), max(kept)) if kept else (0.0, 1.0)
    if hi - lo < 1e-6:
        lo, hi = lo - 0.01, hi + 0.01
    room = 0.05 * (hi - lo)
    lo, hi = lo - room, hi + room
    if hi - lo > 1.0:
        powers = range(math.floor(lo), math.ceil(hi) + 1)
        round_ones = [float(m) * 10.0**k for k in powers for m in (1, 2, 5)]
    else:
        step = _step((10.0**hi - 10.0**lo) / count)
        first, last = math.ceil(10.0**lo / step), math.floor(10.0**hi / step)
        round_ones = [k * step for k in range(max(first, 1), last + 1)]
    ticks = [(math.log10(value), amount(value)) for value in round_ones]
    return Axis(lo, hi, tuple(tick for tick in ticks if lo <= tick[0] <= hi), label)


def amount(value: float) -> str:
    """Write a price or a sum in at most six characters where it is large: ``9,850``, ``120k``."""
    for least, unit, name in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e5, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:,.4g}{name}".replace("-", "−")
    return f"{value:,.6g}".replace("-", "−")


def time_axis(days: Sequence[float]) -> Axis:
    """Return an axis of days since 1970 with ticks on hours, days or months.

    Days and months name themselves; hours are named by the days that they lie in.
    """
    lo, hi = min(days), max(days)
    if hi - lo < 1e-6:
        lo, hi = lo - 0.5, hi + 0.5
    dates = (_date(lo).strftime("%Y-%m-%d"), _date(hi).strftime("%Y-%m-%d"))
    label = " to ".join(dict.fromkeys(dates)) if hi - lo < _ONE_BY_ONE else ""
    return Axis(lo, hi, tuple(_dates(lo, hi)), label)


class Chart:
    """A chart that is drawn part by part, in the order of the calls.

    ``style`` is always one or more classes of the page's stylesheet.
    """

    def __init__(self, x: Axis, y: Axis, height: float = HEIGHT) -> None:
        self.x, self.y, self.height = x, y, height
        # the letters of a phone are the widest: long labels push the axis to the right
        self.left = max(_LEFT, 10.0 + _LETTER * max((len(told) for _, told in y.ticks), default=0))
        self.inner_width = WIDTH - self.left - _RIGHT
        self.inner_height = height - _TOP - (_BOTTOM if x.label else _UNNAMED_BOTTOM)
        self._inside: list[Markup] = []

    def line(self, points: Sequence[Point], style: str) -> None:
        """Draw a line through the points."""
        self._add(Markup('<polyline class="line {}" points="{}"/>').format(style, self._at(points)))

    def area(self, upper: Sequence[Point], lower: Sequence[Point], style: str) -> None:
        """Fill what lies between two lines."""
        around = self._at([*upper, *reversed(lower)])
        self._add(Markup('<polygon class="{}" points="{}"/>').format(style, around))

    def span(self, lo: float, hi: float, style: str) -> None:
        """Fill the y from lo to hi over the whole width."""
        ends = (self.x.lo, self.x.hi)
        self.area([(x, hi) for x in ends], [(x, lo) for x in ends], style)

    def across(self, y: float, style: str) -> None:
        """Draw a horizontal line."""
        self.line([(self.x.lo, y), (self.x.hi, y)], style)

    def up(self, x: float, style: str) -> None:
        """Draw a vertical line."""
        self.line([(x, self.y.lo), (x, self.y.hi)], style)

    def bar(self, left: float, right: float, value: float, style: str, told: str) -> None:
        """Draw a bar from 0 to the value with a tooltip."""
        x, width = self._px(left), self._px(right) - self._px(left)
        y, base = self._py(max(value, 0.0)), self._py(min(value, 0.0))
        self._add(
            Markup(
                '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
            ).format(style, _n(x + 0.6), _n(y), _n(width - 1.2), _n(max(base - y, 0.6)), told)
        )

    def dot(self, x: float, y: float, style: str, told: str, hollow: bool = False) -> None:
        """Draw a point with a tooltip: a disc, or a hollow diamond."""
        px, py = self._px(x), self._py(y)
        if hollow:
            corners = ((px, py - 5.5), (px + 5.5, py), (px, py + 5.5), (px - 5.5, py))
            shape = Markup('<polygon class="hollow {}" points="{}"><title>{}</title></polygon>')
            self._add(shape.format(style, _pairs(corners), told))
            return
        shape = Markup('<circle class="dot {}" cx="{}" cy="{}" r="3.6"><title>{}</title></circle>')
        self._add(shape.format(style, _n(px), _n(py), told))

    def triangle(self, x: float, y: float, style: str, told: str, up: bool = True) -> None:
        """Draw a triangle that points up or down to the value, with a tooltip."""
        px, py = self._px(x), self._py(y)
        foot = 9.0 if up else -9.0
        corners = ((px, py), (px - 5.0, py + foot), (px + 5.0, py + foot))
        shape = Markup('<polygon class="mark {}" points="{}"><title>{}</title></polygon>')
        self._add(shape.format(style, _pairs(corners), told))

    def word(self, x: float, y: float, text: str, style: str = "", anchor: str = "middle") -> None:
        """Write a few letters inside the chart."""
        written = Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>')
        self._add(written.format(style, _n(self._px(x)), _n(self._py(y)), anchor, text))

    def svg(self, described: str) -> Markup:
        """Return the chart; ``described`` is read out to those who do not see it."""
        frame = Markup(
            '<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}">{}'
            '<svg x="{}" y="{}" width="{}" height="{}" overflow="hidden">{}</svg>{}</svg>'
        )
        return frame.format(
            described, _n(WIDTH), _n(self.height), self._grid(), _n(self.left), _n(_TOP),
            _n(self.inner_width), _n(self.inner_height), Markup("").join(self._inside),
            self._labels(),
        )  # fmt: skip

    def _add(self, piece: Markup) -> None:
        self._inside.append(piece)

    def _px(self, x: float) -> float:
        return (x - self.x.lo) / (self.x.hi - self.x.lo) * self.inner_width

    def _py(self, y: float) -> float:
        return (self.y.hi - y) / (self.y.hi - self.y.lo) * self.inner_height

    def _at(self, points: Sequence[Point]) -> str:
        return _pairs([(self._px(x), self._py(y)) for x, y in points])

    def _grid(self) -> Markup:
        lines = Markup("")
        for value, _ in self.y.ticks:
            y = _n(_TOP + self._py(value))
            lines += Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                _n(self.left), _n(self.left + self.inner_width), y, y
            )
        return lines

    def _labels(self) -> Markup:
        base = _TOP + self.inner_height
        out = Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            _n(self.left), _n(self.left + self.inner_width), _n(base), _n(base)
        )
        for value, told in self.y.ticks:
            out += _text(self.left - 5, _TOP + self._py(value) + 4, told, "end")
        for value, told in self.x.ticks:
            at = self.left + self._px(value)
            out += Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                _n(at), _n(at), _n(base), _n(base + 4)
            )
            edge = WIDTH - at < 3.7 * len(told)
            out += _text(WIDTH if edge else at, base + 16, told, "end" if edge else "middle")
        out += _text(2.0, 13.0, self.y.label, "start", "name")
        if self.x.label:
            out += _text(self.left + self.inner_width, self.height - 4, self.x.label, "end", "name")
        return out


def strip(
    lo: float,
    hi: float,
    *,
    dots: Sequence[float] = (),
    interval: tuple[float, float] | None = None,
    band: tuple[float, float] | None = None,
    at: float | None = 0.0,
    style: str = "c0",
) -> Markup:
    """Draw one line from ``lo`` to ``hi``: band, rule, interval and dots, clipped to its ends.

    It stretches to any width, so it holds no letters; its numbers stand beside it as text.
    """

    def px(value: float) -> float:
        inside = min(max((value - lo) / (hi - lo), 0.0), 1.0)
        return _STRIP_PAD + inside * (STRIP_WIDTH - 2.0 * _STRIP_PAD)

    out = Markup("")
    if band is not None:
        left, right = px(band[0]), px(band[1])
        out += Markup('<rect class="band" x="{}" y="2" width="{}" height="16"/>').format(
            _n(left), _n(right - left)
        )
    if at is not None:
        out += Markup('<path class="rule" d="M{0} 0V20"/>').format(_n(px(at)))
    if interval is not None:
        out += Markup('<path class="whisker {}" d="M{} 10H{}"/>').format(
            style, _n(px(interval[0])), _n(px(interval[1]))
        )
    for value in dots:
        # a line of no length with round ends stays round however the strip is stretched
        out += Markup('<path class="pin {}" d="M{} 10h0"/>').format(style, _n(px(value)))
    return Markup(
        '<svg class="strip" aria-hidden="true" viewBox="0 0 300 20" preserveAspectRatio="none">'
        "{}</svg>"
    ).format(out)


def _text(x: float, y: float, text: str, anchor: str, style: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        style, _n(x), _n(y), anchor, text
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _pairs(points: Sequence[Point]) -> str:
    return " ".join(f"{_n(_bounded(x))},{_n(_bounded(y))}" for x, y in points)


def _bounded(value: float) -> float:
    return min(max(value, -9999.0), 9999.0)  # a far point must not overflow a renderer


def _ticks(lo: float, hi: float, unit: float, count: int) -> Iterable[Tick]:
    step = _step((hi - lo) / count)
    shown = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step * 10**shown, 6) % 1.0:
        shown += 1  # a step of 2.5
    for k in range(math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9) + 1):
        value = k * step
        text = f"{value + 0.0:,.{shown}f}".replace("-", "−")
        yield value / unit, "0" if not k else text


def _step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * m for m in (1.0, 2.0, 2.5, 5.0, 10.0) if power * m >= raw * (1 - 1e-9))


def _dates(lo: float, hi: float) -> list[Tick]:
    span = hi - lo
    if span > 75.0:
        return _months(
            lo, hi, next(m for m in (1, 2, 3, 6, 12, 24, 60, 240) if span / 30.4 / m <= 5)
        )
    if span < _ONE_BY_ONE:
        return _hours(lo, hi)
    step = next((s for s in (1, 2, 5, 7, 14) if span / s <= 5.5), 14)
    days = range(math.ceil(lo), math.floor(hi) + 1, step)
    return [(float(day), _date(day).strftime("%m-%d")) for day in days]


def _hours(lo: float, hi: float) -> list[Tick]:
    steps = (1, 2, 5, 15, 30, 60, 120, 180, 360, 720)  # minutes
    step = next((s for s in steps if 1440 * (hi - lo) / s <= 5), 720)
    ticks = []
    for k in range(math.ceil(lo * 1440 / step - 1e-6), math.floor(hi * 1440 / step + 1e-6) + 1):
        at = _EPOCH + timedelta(minutes=k * step)
        midnight = at.hour == at.minute == 0
        ticks.append((k * step / 1440, at.strftime("%m-%d" if midnight else "%H:%M")))
    return ticks


def _months(lo: float, hi: float, step: int) -> list[Tick]:
    ticks = []
    first = _date(lo)
    month = first.year * 12 + first.month - 1
    while (at := _month_start(month)) <= hi:
        if at >= lo and month % step == 0:
            ticks.append((at, f"{month // 12}-{month % 12 + 1:02d}"))
        month += 1
    return ticks


def _month_start(month: int) -> float:
    return (datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) - _EPOCH) / timedelta(days=1)


def _date(day: float) -> datetime:
    return _EPOCH + timedelta(days=day)
