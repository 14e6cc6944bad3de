"""Pictures for a phone: price with what was decided, equity, calibration. Pure: data in, PNG out.

Drawn with Matplotlib's objects, never its global state, so that threads may draw at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from matplotlib import dates as mdates
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from domain.errors import UsageError

Data = Mapping[str, Any]
_SIZE = (7.2, 7.2)  # inches; at 150 dpi 1080 pixels, a phone's width
_DPI = 150
_STRETCH = 1.0 / 1000.0


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a picture; up and down also differ by shape."""

    back: str
    panel: str
    text: str
    dim: str
    grid: str
    up: str
    down: str
    line: str
    fill: str
    warn: str


THEMES: Mapping[str, Theme] = {
    "dark": Theme(
        "#0e1116", "#0e1116", "#e6e9ee", "#9aa6b5", "#262d37", "#3fb68b", "#f0776f", "#5b8def",
        "#26406e", "#f2c14e",
    ),
    "light": Theme(
        "#ffffff", "#ffffff", "#1b2430", "#5a6675", "#e3e7ec", "#0e8a5f", "#c9403a", "#2459c4",
        "#c9d9f7", "#9a6700",
    ),
}  # fmt: skip


def draw(chart: str, data: Data) -> bytes:
    """Return a chart as PNG, 1080 × 1080 pixels.

    Parameters
    ----------
    chart : ``price``, ``equity`` or ``calibration``.
    data : as the function of that name says, and ``theme``: dark (default) or light.

    Raises
    ------
    UsageError : for a chart or theme that is not there.
    KeyError, ValueError, TypeError : if the data is not what the chart needs.
    """
    if chart not in _CHARTS:
        raise UsageError("chart", f"must be one of {', '.join(_CHARTS)}", chart)
    name = str(data.get("theme", "dark"))
    if name not in THEMES:
        raise UsageError("theme", f"must be one of {', '.join(THEMES)}", name)
    sheet = _Sheet(THEMES[name])
    _CHARTS[chart](sheet, data)
    return sheet.png()


def price(sheet: _Sheet, data: Data) -> None:
    """Candles with decisions, fills and levels; P(up) below.

    ``symbol``, ``timeframe``, ``bars`` (open ms, open, high, low, close), ``step_ms``,
    ``decisions`` (as_of ms, side, P(up) or None), ``trades`` (opened ms, entry, closed ms or None,
    exit or None, side), ``stop`` and ``target`` (price or None).
    """
    bars = data["bars"]
    last = float(bars[-1][4])
    change = last / float(bars[0][1]) - 1.0
    sheet.title(
        f"{data['symbol']}  {last:,.2f}" if last >= 10 else f"{data['symbol']}  {last:,.6g}",
        f"{data['timeframe']} · {change:+.2%} over {len(bars)} bars{_note(data)}",
        sheet.theme.up if change >= 0 else sheet.theme.down,
    )
    above, below = sheet.rows(3.0, 1.0)
    _candles(sheet, above, bars, int(data["step_ms"]))
    _levels(sheet, above, data)
    _trades(sheet, above, data["trades"])
    _sides(sheet, above, data["decisions"], bars, int(data["step_ms"]))
    low, high = above.get_ylim()
    above.set_ylim(low, high + 0.07 * (high - low))  # room for the legend
    above.axhline(last, color=sheet.theme.dim, lw=0.9, ls=":")
    _odds(sheet, below, data["decisions"])
    end = _at(int(bars[-1][0]) + int(data["step_ms"]))
    above.set_xlim(_at(int(bars[0][0])), end + (end - _at(int(bars[0][0]))) * 0.02)
    _time_axis(below, above)
    above.yaxis.set_major_formatter(
        FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1000 else f"{v:g}")
    )


def equity(sheet: _Sheet, data: Data) -> None:
    """Account value against its high-water mark; the fall from it below.

    ``currency``, ``marks`` (at ms, equity, high water), ``initial``.
    """
    marks = data["marks"]
    at = [_at(int(mark[0])) for mark in marks]
    value = [float(mark[1]) for mark in marks]
    high = [float(mark[2]) for mark in marks]
    initial = float(data["initial"])
    gain = value[-1] / initial - 1.0
    theme = sheet.theme
    sheet.title(
        f"{value[-1]:,.2f} {data['currency']}",
        f"Account value, {gain:+.2%} since the start{_note(data)}",
        theme.up if gain >= 0 else theme.down,
    )
    above, below = sheet.rows(3.0, 1.2)
    above.plot(at, high, color=theme.dim, lw=1.2, ls=(0, (4, 3)), label="high-water mark")
    above.axhline(initial, color=theme.grid, lw=1.6)
    above.plot(at, value, color=theme.line, lw=2.2, label="account")
    above.fill_between(at, value, min(value), color=theme.fill, alpha=0.35, lw=0)
    sheet.legend(above)
    fall = [100.0 * (v / h - 1.0) if h else 0.0 for v, h in zip(value, high, strict=True)]
    below.fill_between(at, fall, 0.0, color=theme.down, alpha=0.35, lw=0)
    below.plot(at, fall, color=theme.down, lw=1.6)
    below.set_ylim(min(-0.1, min(fall) * 1.4), 0.0)
    below.set_ylabel("below its high, %")
    above.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    below.yaxis.set_major_locator(MaxNLocator(4))
    worst = min(range(len(fall)), key=fall.__getitem__)
    _time_axis(below, above)
    if fall[worst] > -0.005:
        return
    below.annotate(
        f"{fall[worst]:.2f} %", (at[worst], fall[worst]), xytext=(0, -13),
        textcoords="offset points", color=theme.down, fontsize=11, ha="center",
    )  # fmt: skip


def calibration(sheet: _Sheet, data: Data) -> None:
    """What happened against what was said, with the range that luck alone explains; counts below.

    ``symbol``, ``n``, ``brier``, ``skill_1e4``, ``bins`` (forecast, observed, band low, band high,
    n).
    """
    bins, theme = data["bins"], sheet.theme
    inside = sum(low <= seen <= high for _, seen, low, high, _ in bins)
    sheet.title(
        "Calibration",
        f"{data['symbol']} · {data['n']:,d} forecasts · Brier {data['brier']:.4f} "
        f"(skill {data['skill_1e4']:+.1f} × 10⁻⁴){_note(data)}",
        theme.text,
    )
    above, below = sheet.rows(3.0, 1.0)
    said = [float(b[0]) for b in bins]
    seen = [float(b[1]) for b in bins]
    low, high = [float(b[2]) for b in bins], [float(b[3]) for b in bins]
    across = _room([*said, 0.5], 0.08, 0.08)
    up = _room([*seen, *low, *high, across[0], across[1]], 0.04, 0.14)
    ends = (min(across[0], up[0]), max(across[1], up[1]))
    above.plot(ends, ends, color=theme.dim, lw=1.4, ls=(0, (4, 3)), label="perfect")
    above.vlines(said, low, high, color=theme.fill, lw=9, alpha=0.8, label="luck, 95 %")
    good = [
        theme.line if a <= s <= b else theme.warn for s, a, b in zip(seen, low, high, strict=True)
    ]
    above.scatter(said, seen, color=good, s=90, zorder=3, edgecolors=theme.back, linewidths=1.4)
    above.plot([], [], "o", color=theme.line, ms=9, label="observed")
    above.set_ylim(*up)
    above.set_ylabel("how often it went up")
    above.text(
        0.98, 0.04, f"{inside} of {len(bins)} points within luck", transform=above.transAxes,
        ha="right", color=theme.dim, fontsize=11,
    )  # fmt: skip
    sheet.legend(above)
    width = (across[1] - across[0]) / 70
    below.bar(said, [int(b[4]) for b in bins], width=width, color=theme.line, alpha=0.75)
    below.set_ylabel("forecasts")
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axes in (above, below):
        axes.set_xlim(*across)
    above.tick_params(labelbottom=False)
    below.set_xlabel("P(up) as it was said")


_CHARTS: Mapping[str, Callable[[_Sheet, Data], None]]


class _Sheet:
    """One picture with a heading."""

    def __init__(self, theme: Theme) -> None:
        self.theme = theme
        self.figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor=theme.back)
        self._canvas = FigureCanvasAgg(self.figure)

    def title(self, text: str, under: str, color: str) -> None:
        self.figure.text(0.045, 0.945, text, color=color, fontsize=23, fontweight="bold")
        self.figure.text(0.045, 0.908, under, color=self.theme.dim, fontsize=12.5)

    def rows(self, *heights: float) -> list[Axes]:
        grid = self.figure.add_gridspec(
            len(heights), 1, height_ratios=heights, hspace=0.07, left=0.125, right=0.955,
            top=0.875, bottom=0.085,
        )  # fmt: skip
        return [self._panel(self.figure.add_subplot(grid[i])) for i in range(len(heights))]

    def _panel(self, axes: Axes) -> Axes:
        theme = self.theme
        axes.set_facecolor(theme.panel)
        axes.grid(color=theme.grid, lw=0.9)
        axes.set_axisbelow(True)
        axes.tick_params(colors=theme.dim, labelsize=11.5, length=0)
        axes.yaxis.label.set(color=theme.dim, fontsize=11.5)
        axes.xaxis.label.set(color=theme.dim, fontsize=11.5)
        for name, spine in axes.spines.items():
            spine.set(color=theme.grid, visible=name in ("left", "bottom"))
        return axes

    def legend(self, axes: Axes, handles: Sequence[Any] | None = None) -> None:
        more: dict[str, Any] = {} if handles is None else {"handles": handles}
        axes.legend(
            loc="upper left", fontsize=11, frameon=False, labelcolor=self.theme.dim, ncols=4,
            handlelength=1.4, columnspacing=1.2, borderaxespad=0.3, handletextpad=0.5, **more,
        )  # fmt: skip

    def png(self) -> bytes:
        out = BytesIO()
        self._canvas.print_png(out, metadata={"Software": None})
        return out.getvalue()


def _room(values: Sequence[float], below: float, above: float) -> tuple[float, float]:
    """Limits around probabilities, with so much of their range left on each side."""
    least, most = min(values), max(values)
    reach = max(most - least, 0.02)
    return max(0.0, least - below * reach), min(1.05, most + above * reach)


def _note(data: Data) -> str:
    return " · SIMULATED" if data.get("simulated") else ""


def _at(ms: int) -> float:
    return float(mdates.date2num(datetime.fromtimestamp(ms / 1000.0, UTC)))


def _candles(sheet: _Sheet, axes: Axes, bars: Sequence[Sequence[float]], step: int) -> None:
    thick = max(1.6, 330.0 / len(bars))
    for rising, color in ((True, sheet.theme.up), (False, sheet.theme.down)):
        mine = [bar for bar in bars if (bar[4] >= bar[1]) is rising]
        middle = [_at(int(bar[0]) + step // 2) for bar in mine]
        wicks = [[(x, bar[3]), (x, bar[2])] for x, bar in zip(middle, mine, strict=True)]
        least = (max(b[2] for b in bars) - min(b[3] for b in bars)) * _STRETCH
        bodies = [
            [(x, min(bar[1], bar[4])), (x, max(bar[1], bar[4], min(bar[1], bar[4]) + least))]
            for x, bar in zip(middle, mine, strict=True)
        ]
        axes.add_collection(LineCollection(wicks, colors=color, linewidths=1.0))
        axes.add_collection(LineCollection(bodies, colors=color, linewidths=thick, capstyle="butt"))
    low, high = min(bar[3] for bar in bars), max(bar[2] for bar in bars)
    pad = 0.09 * (high - low or high * 0.001)
    axes.set_ylim(low - pad, high + 1.7 * pad)


def _levels(sheet: _Sheet, axes: Axes, data: Data) -> None:
    low, high = axes.get_ylim()
    for name, color in (("stop", sheet.theme.down), ("target", sheet.theme.up)):
        level = data[name]
        if level is None or not low - (high - low) < level < high + (high - low):
            continue
        axes.axhline(level, color=color, lw=1.3, ls=(0, (5, 3)))
        axes.text(
            0.004, level, f" {name} {level:,.2f}", transform=axes.get_yaxis_transform(),
            color=color, fontsize=10.5, va="bottom",
        )  # fmt: skip
        axes.set_ylim(min(axes.get_ylim()[0], level), max(axes.get_ylim()[1], level))


def _trades(sheet: _Sheet, axes: Axes, trades: Sequence[Sequence[Any]]) -> None:
    for opened, entry, closed, left, side in trades:
        sign = 1.0 if side == "LONG" else -1.0
        if closed is None or left is None:
            axes.plot(_at(int(opened)), entry, "o", color=sheet.theme.warn, ms=8, zorder=4)
            continue
        won = sign * (float(left) - float(entry)) > 0
        color = sheet.theme.up if won else sheet.theme.down
        ends, levels = [_at(int(opened)), _at(int(closed))], [entry, left]
        axes.plot(ends, levels, color=sheet.theme.back, lw=4.6, zorder=4)
        axes.plot(ends, levels, color=sheet.theme.line, lw=2.4, zorder=4)
        axes.plot(ends[0], entry, "o", ms=8, mfc=sheet.theme.back, mec=sheet.theme.line, mew=2.2,
                  zorder=5)  # fmt: skip
        axes.plot(ends[1], left, "o", ms=9, mfc=color, mec=sheet.theme.back, mew=1.4, zorder=5)


def _sides(
    sheet: _Sheet, axes: Axes, decisions: Sequence[Sequence[Any]], bars: Sequence[Any], step: int
) -> None:
    ends = {int(bar[0]) + step: bar for bar in bars}
    low, high = axes.get_ylim()
    gap = 0.036 * (high - low)
    for side, mark, color in (("LONG", "^", sheet.theme.up), ("SHORT", "v", sheet.theme.down)):
        found = [
            ends[int(as_of)] for as_of, said, _ in decisions if said == side and int(as_of) in ends
        ]
        x = [_at(int(bar[0]) + step // 2) for bar in found]
        y = [bar[3] - gap if side == "LONG" else bar[2] + gap for bar in found]
        axes.scatter(x, y, marker=mark, color=color, s=56, zorder=5, edgecolors=sheet.theme.back)
    handles = [
        Line2D([], [], ls="", marker="^", color=sheet.theme.up, ms=8, label="LONG"),
        Line2D([], [], ls="", marker="v", color=sheet.theme.down, ms=8, label="SHORT"),
        Line2D([], [], color=sheet.theme.line, lw=2.4, marker="o", ms=6, label="trade"),
    ]
    sheet.legend(axes, handles)


def _odds(sheet: _Sheet, axes: Axes, decisions: Sequence[Sequence[Any]]) -> None:
    known = [(int(as_of), float(p)) for as_of, _, p in decisions if p is not None]
    theme = sheet.theme
    axes.axhline(0.5, color=theme.dim, lw=1.2)
    axes.set_ylabel("P(up)")
    if not known:
        return
    at, p = [_at(a) for a, _ in known], [v for _, v in known]
    axes.fill_between(at, p, 0.5, where=[v >= 0.5 for v in p], color=theme.up, alpha=0.4, lw=0,
                      interpolate=True)  # fmt: skip
    axes.fill_between(at, p, 0.5, where=[v < 0.5 for v in p], color=theme.down, alpha=0.4, lw=0,
                      interpolate=True)  # fmt: skip
    axes.plot(at, p, color=theme.text, lw=1.3)
    reach = max(0.02, *(abs(v - 0.5) for v in p)) * 1.15
    axes.set_ylim(0.5 - reach, 0.5 + reach)
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _time_axis(below: Axes, above: Axes) -> None:
    below.set_xlim(*above.get_xlim())
    for axes in (above, below):
        locator = mdates.AutoDateLocator(minticks=3, maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator, tz=UTC))
        axes.xaxis.get_offset_text().set(color=axes.yaxis.label.get_color(), fontsize=11)
    above.tick_params(labelbottom=False)
    below.set_xlabel("UTC", loc="left")
    above.xaxis.get_offset_text().set_visible(False)


_CHARTS = {"price": price, "equity": equity, "calibration": calibration}
