"""Check bars before anybody relies on them.

Refused, because no honest repair exists: ``empty``, ``wrong_symbol``, ``wrong_timeframe``,
``misaligned``, ``future``, ``conflicting_duplicates``, ``nan``, ``non_positive_price``,
``negative_volume``, ``inconsistent_ohlc``.
Repaired: ``out_of_order`` (sorted: the stamps say where a bar belongs).
Dropped: ``duplicates`` (identical ones), ``unclosed`` (a last bar that is still growing).
Flagged and kept, because they happened: ``gaps``, ``jumps``, ``zero_volume_runs``, ``flat_runs``
(an exchange halt), ``volume_shift``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from data.report import Finding, Gap, Gaps, Report, Severity
from domain.errors import DataRefused
from domain.market import BarFrame, Floats
from domain.times import iso

JUMP_RANGES = 20.0  # times the file's median true range
JUMP_MIN_BARS = 100  # below this the median says little
FLAT_RUN_BARS = 3  # equal, rangeless bars in a row
SHIFT_RATIO = 3.0  # between the months before and the months from it on
SHIFT_MONTHS = 3
SHIFT_MONTH_COVER = 0.2  # of a month's bars, for its median to count
_WHERE = 5
_MONTH_MS = 30 * 86_400_000
_LAST_MS = 253_402_300_799_999  # end of the year 9999
_PRICES = ("open", "high", "low", "close")

Mask = NDArray[np.bool_]


def validate(
    frame: BarFrame,
    *,
    now_ms: int | None,
    expected_symbol: str | None = None,
    expected_timeframe: str | None = None,
    sha256: str | None = None,
) -> Report:
    """Look for every known defect, without changing anything.

    Parameters
    ----------
    frame : bars in any order.
    now_ms : the present (UTC ms); None skips ``future`` and ``unclosed``.
    expected_symbol, expected_timeframe : what the bars must be, where the caller knows.
    sha256 : of the file the bars come from, carried in the report.

    Returns
    -------
    Report : ``ok`` is False when the bars must not be used; :func:`cleanse` does the repairs.
    """
    findings = _identity(frame, expected_symbol, expected_timeframe)
    if not len(frame):
        findings.append(Finding("empty", "refused", 1, (), "there are no bars"))
        return _report(frame, frame.slice(0, 0), findings, Gaps.of(()), sha256)
    findings += _stamps(frame, now_ms)
    findings += _values(frame)
    clean, order, doubles = _in_order(frame)
    findings += order + doubles
    if now_ms is not None and clean.ts[-1] <= now_ms < clean.ts[-1] + frame.step_ms:
        detail = "the last bar is not closed yet"
        findings.append(_found("unclosed", "dropped", clean.ts, [len(clean) - 1], detail))
        clean = clean.slice(0, len(clean) - 1)
    if not len(clean):
        findings.append(Finding("empty", "refused", 1, (), "there are no closed bars"))
    refused = {found.code for found in findings if found.severity == "refused"}
    gaps = Gaps.of(())
    if not refused & {"misaligned", "wrong_timeframe"}:
        gaps = _gaps(clean)
        findings += _gap_findings(gaps)
    if not refused:
        findings += _jumps(clean) + _runs(clean) + _volume_shift(clean)
    return _report(frame, clean, findings, gaps, sha256)


def cleanse(frame: BarFrame, report: Report) -> BarFrame:
    """Return the bars in order, without identical duplicates and without an unclosed last bar.

    Gaps stay gaps, and flagged bars stay as they are.

    Raises
    ------
    DataRefused : if the report refuses the bars, or is of other bars.
    """
    report.require_ok()
    clean, _, _ = _in_order(frame)
    if report.finding("unclosed"):
        clean = clean.slice(0, len(clean) - 1)
    if len(frame) != report.rows or len(clean) != report.kept:
        raise DataRefused("validation report", "must be of the bars to be cleansed")
    return clean


def _identity(frame: BarFrame, symbol: str | None, timeframe: str | None) -> list[Finding]:
    found = []
    if symbol is not None and symbol != frame.symbol:
        detail = f"the bars are {frame.symbol}, not {symbol}"
        found.append(Finding("wrong_symbol", "refused", 1, (), detail))
    if timeframe is not None and timeframe != frame.timeframe:
        detail = f"the bars are {frame.timeframe}, not {timeframe}"
        found.append(Finding("wrong_timeframe", "refused", 1, (), detail))
    elif len(steps := np.diff(np.unique(frame.ts))) > 1:
        middle = int(np.partition(steps, (len(steps) - 1) // 2)[(len(steps) - 1) // 2])
        if middle != frame.step_ms:
            detail = f"most bars are {middle / 60_000:g} minutes apart, which is not "
            detail += frame.timeframe
            found.append(Finding("wrong_timeframe", "refused", 1, (), detail))
    return found


def _stamps(frame: BarFrame, now_ms: int | None) -> list[Finding]:
    off = frame.ts % frame.step_ms != 0
    detail = f"{_n(off, 'stamp')} not on a multiple of {frame.timeframe}"
    found = _if_any("misaligned", "refused", frame, off, detail)
    if now_ms is not None:
        late = frame.ts > now_ms
        detail = f"{_n(late, 'bar')} opening after {_when(now_ms)}"
        found += _if_any("future", "refused", frame, late, detail)
    return found


def _values(frame: BarFrame) -> list[Finding]:
    prices = [getattr(frame, name) for name in _PRICES]
    columns = dict(zip((*_PRICES, "volume"), (*prices, frame.volume), strict=True))
    broken = np.zeros(len(frame), dtype=bool)
    for values in columns.values():
        broken |= ~np.isfinite(values)
    names = [name for name, values in columns.items() if not np.isfinite(values).all()]
    detail = f"{_n(broken, 'bar')} with NaN or an infinity in {', '.join(names)}"
    found = _if_any("nan", "refused", frame, broken, detail)
    low = np.logical_or.reduce([values <= 0 for values in prices])
    detail = f"{_n(low, 'bar')} with a price ≤ 0"
    found += _if_any("non_positive_price", "refused", frame, low, detail)
    negative = frame.volume < 0
    detail = f"{_n(negative, 'bar')} with a volume < 0"
    found += _if_any("negative_volume", "refused", frame, negative, detail)
    body_high = np.maximum(frame.open, frame.close)
    body_low = np.minimum(frame.open, frame.close)
    odd = (frame.high < body_high) | (frame.low > body_low) | (frame.low > frame.high)
    detail = f"{_n(odd, 'bar')} breaking low ≤ open, close ≤ high"
    return found + _if_any("inconsistent_ohlc", "refused", frame, odd, detail)


def _in_order(frame: BarFrame) -> tuple[BarFrame, list[Finding], list[Finding]]:
    steps = np.diff(frame.ts)
    if np.all(steps > 0):
        return frame, [], []
    back = np.concatenate(([False], steps < 0))
    detail = f"{_n(back, 'bar')} after a later one; sorted"
    disorder = _if_any("out_of_order", "repaired", frame, back, detail)
    frame = _take(frame, np.argsort(frame.ts, kind="stable"))
    again = np.concatenate(([False], np.diff(frame.ts) == 0))
    differs = np.zeros(len(frame), dtype=bool)
    for name in (*_PRICES, "volume"):
        values = getattr(frame, name)
        differs[1:] |= values[1:] != values[:-1]
    conflict, same = again & differs, again & ~differs
    detail = f"{_n(conflict, 'stamp')} repeated with other values"
    found = _if_any("conflicting_duplicates", "refused", frame, conflict, detail)
    detail = f"{_n(same, 'bar')} repeated identically; one of each kept"
    found += _if_any("duplicates", "dropped", frame, same, detail)
    return _take(frame, np.flatnonzero(~again)), disorder, found


def _gaps(frame: BarFrame) -> Gaps:
    missing = np.diff(frame.ts) // frame.step_ms - 1
    items = tuple(
        Gap(
            _when(int(frame.ts[i])), _when(int(frame.ts[i]) + frame.step_ms), int(missing[i])
        )
        for i in np.flatnonzero(missing > 0)
    )  # fmt: skip
    return Gaps.of(items)


def _gap_findings(gaps: Gaps) -> list[Finding]:
    if not gaps.count:
        return []
    longest = max(gaps.items, key=lambda gap: gap.bars)
    detail = (
        f"{_many(gaps.count, 'gap')}, {_many(gaps.bars_missing, 'bar')} missing, "
        f"the longest {longest.bars} from {longest.start}; never filled"
    )
    where = tuple(gap.after for gap in gaps.items[:_WHERE])
    return [Finding("gaps", "flagged", gaps.count, where, detail)]


def _jumps(frame: BarFrame) -> list[Finding]:
    if len(frame) < JUMP_MIN_BARS:
        return []
    joined = np.concatenate(([False], np.diff(frame.ts) == frame.step_ms))
    before = np.where(joined, np.roll(frame.close, 1), frame.open)
    true_range = np.log(np.maximum(frame.high, before) / np.minimum(frame.low, before))
    middle = float(np.median(true_range))
    big = np.flatnonzero(true_range > JUMP_RANGES * middle) if middle > 0 else np.array([], int)
    if not len(big):
        return []
    by_size = big[np.argsort(-true_range[big], kind="stable")]
    detail = (
        f"{_many(len(big), 'bar')} ranging over more than {JUMP_RANGES:g} × the median "
        f"{middle * 1e4:.3g} bps, the largest {np.expm1(true_range[by_size[0]]) * 100:.3g} %; kept"
    )
    return [_found("jumps", "flagged", frame.ts, by_size, detail)]


def _runs(frame: BarFrame) -> list[Finding]:
    found = []
    starts, lengths = _run_lengths(frame.volume == 0)
    if len(starts):
        detail = f"{_many(int(lengths.sum()), 'bar')} without volume in "
        detail += f"{_many(len(starts), 'run')}, the longest {lengths.max()}; kept"
        found.append(_found("zero_volume_runs", "flagged", frame.ts, starts, detail))
    rangeless = (frame.high == frame.low) & (frame.open == frame.close)
    joined = np.diff(frame.ts) == frame.step_ms
    same = rangeless[1:] & rangeless[:-1] & (frame.close[1:] == frame.close[:-1]) & joined
    starts, lengths = _run_lengths(same)
    long = lengths + 1 >= FLAT_RUN_BARS
    if np.any(long):
        detail = f"{_many(int(np.count_nonzero(long)), 'run')} of at least {FLAT_RUN_BARS} bars "
        detail += f"at one price (a halt?), the longest {lengths.max() + 1}; kept"
        found.append(_found("flat_runs", "flagged", frame.ts, starts[long], detail))
    return found


def _volume_shift(frame: BarFrame) -> list[Finding]:
    month = frame.ts.astype("datetime64[ms]").astype("datetime64[M]")
    starts = np.flatnonzero(np.concatenate(([True], month[1:] != month[:-1])))
    parts = np.split(frame.volume, starts[1:])
    enough = SHIFT_MONTH_COVER * _MONTH_MS / frame.step_ms
    kept = [(i, float(np.median(part))) for i, part in zip(starts, parts, strict=True)
            if len(part) >= enough]  # fmt: skip
    level = np.array([median for _, median in kept])
    hits: list[tuple[int, float]] = []
    for k in range(2, len(kept) - 1):
        before, after = level[max(0, k - SHIFT_MONTHS) : k], level[k : k + SHIFT_MONTHS]
        if min(before.min(), after.min()) <= 0:
            continue
        ratio = float(max(before.min() / after.max(), after.min() / before.max()))
        if ratio >= SHIFT_RATIO:
            hits.append((int(kept[k][0]), float(np.median(after) / np.median(before))))
    if not hits:
        return []
    detail = "the monthly median volume moves to another level (× "
    detail += f"{', '.join(f'{factor:.2g}' for _, factor in hits)}); normalise volume, kept"
    return [_found("volume_shift", "flagged", frame.ts, [at for at, _ in hits], detail)]


def _run_lengths(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    edges = np.diff(np.concatenate(([0], mask.astype(np.int8), [0])))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return starts, stops - starts


def _take(frame: BarFrame, rows: NDArray[np.int64]) -> BarFrame:
    columns: list[Floats] = [getattr(frame, name)[rows] for name in (*_PRICES, "volume")]
    return BarFrame(frame.symbol, frame.timeframe, frame.ts[rows], *columns)


def _report(
    frame: BarFrame, clean: BarFrame, findings: list[Finding], gaps: Gaps, sha256: str | None
) -> Report:
    ok = all(found.severity != "refused" for found in findings)
    first, last = (int(clean.ts[0]), int(clean.ts[-1])) if len(clean) else (None, None)
    return Report(
        symbol=frame.symbol,
        timeframe=frame.timeframe,
        rows=len(frame),
        kept=len(clean) if ok else 0,
        start=None if first is None else _when(first),
        end=None if last is None else _when(last),
        findings=tuple(findings),
        gaps=gaps,
        sha256=sha256,
    )


def _if_any(
    code: str, severity: Severity, frame: BarFrame, mask: Mask, detail: str
) -> list[Finding]:
    rows = np.flatnonzero(mask)
    return [_found(code, severity, frame.ts, rows, detail)] if len(rows) else []


def _found(
    code: str, severity: Severity, ts: NDArray[np.int64], rows: Iterable[int], detail: str
) -> Finding:
    rows = list(rows)
    where = tuple(_when(int(ts[i])) for i in rows[:_WHERE])
    return Finding(code, severity, len(rows), where, detail)


def _n(mask: Mask, noun: str) -> str:
    return _many(int(np.count_nonzero(mask)), noun)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _when(at_ms: int) -> str:
    return iso(at_ms) if 0 <= at_ms <= _LAST_MS else f"{at_ms} ms"
