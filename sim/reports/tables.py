"""The tables of the evaluation report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sim.reports.charts import strip
from sim.reports.figures import style
from sim.reports.parts import Card, Cell, Column, Line, Mark, Strip, Table
from sim.reports.reading import (
    DASH,
    Board,
    Member,
    comparison,
    dig,
    evidence,
    members,
    number,
    numbers,
    part,
    percent,
    rows,
    show,
    title,
    versus_ewma,
    word,
)
from sim.reports.strips import cell_strip, judged

_Write = Callable[[float | None], str]
_Spec = tuple[str, str, str, _Write]  # title, key, explanation, how to write it


def _as(form: str) -> _Write:
    return lambda value: show(value, form)


_DIRECTION: tuple[_Spec, ...] = (
    ("bars", "n", "rows that are scored: awake, with a known outcome", _as(",.0f")),
    ("DM t", "dm_t", "Diebold–Mariano: gain over its standard error, Newey–West, lag 60 bars "
     "or two horizons", _as("+.1f")),
    ("e-value", "e_value", "evidence for a gain above 0 at any stopping time; 20 is proof",
     evidence),
    ("Brier", "brier", "mean squared error of the probability; ½ scores .25", _as(".5f")),
    ("log loss", "log_loss", "mean −ln of the probability of what happened; ½ scores .69315",
     _as(".5f")),
    ("AUC", "auc", "chance that a rise was given the higher probability; .5 is a coin",
     _as(".4f")),
    ("right", "accuracy", "share of bars on which the likelier side came", percent),
    ("slope", "calibration_slope", "slope of the outcome on logit p; 1 is ideal, below it too sure",
     _as(".2f")),
    ("weight", "weight_mean", "mean published weight in the council", percent),
)  # fmt: skip
_RANGE: tuple[_Spec, ...] = (
    ("pinball, bp", "pinball_bps", "mean quantile loss of p10, p50, p90, in bp of log return",
     _as(".3f")),
    ("in p10–p90", "coverage_80", "share of outcomes inside the interval; 80 % is the aim",
     percent),
    ("CRPS, bp", "crps_bps", "continuous ranked probability score of the whole forecast",
     _as(".2f")),
    ("interval, bp", "interval_score_bps", "width of p10–p90 plus ten times the misses",
     _as(".2f")),
    ("QLIKE", "qlike", "mean of ln σ² + RV/σ²; only differences matter, less is better",
     _as(".3f")),
)  # fmt: skip
_RISK: tuple[_Spec, ...] = (
    ("AUC fall", "risk_auc", "tells bars with a fall beyond 0.5 % from others", _as(".4f")),
    ("Brier fall", "risk_brier", "mean squared error of that probability", _as(".5f")),
    ("ECE fall", "risk_ece", "mean distance of stated and observed risk over ten bins",
     lambda value: percent(value, 2)),
    ("skill fall", "risk_skill_pct", "Brier score below the training base rate’s, %", _as("+.1f")),
    ("AUC rise", "risk_up_auc", "the same for a rise beyond 0.5 %", _as(".4f")),
    ("Brier rise", "risk_up_brier", "mean squared error of that probability", _as(".5f")),
    ("AUC 1 σ", "risk_sigma_auc", "the same for a fall beyond one σ of the last day", _as(".4f")),
    ("Brier 1 σ", "risk_sigma_brier", "mean squared error of that probability", _as(".5f")),
)  # fmt: skip


def direction(board: Board) -> Table:
    """Return everybody's scores of direction, each gain with its interval."""
    everybody, silent = _split(board, ("brier",))
    edge = _edge(everybody)
    head = (
        Column("gain", "(¼ − Brier) × 10⁴ ± one standard error; a coin scores 0"),
        Column("vs ½", "whether the gain is beyond two standard errors"),
        Column("95 % interval", "bootstrap by blocks of a day, or two horizons; the rule is 0"),
    )
    return Table(
        "Direction: does the price end higher?", "forecaster",
        (*head, *(Column(name, told) for name, _, told, _ in _DIRECTION)),
        tuple(_direction_line(member, edge) for member in everybody),
        (f"The intervals are drawn from −{edge:.3g} to +{edge:.3g}. " if edge else "") + silent,
    )  # fmt: skip


def _split(board: Board, keys: Sequence[str]) -> tuple[list[Member], str]:
    """Who has one of the scores, and a sentence about those who have none: no row of dashes."""
    everybody = members(board)
    scored = [m for m in everybody if any(number(m.scores, key) is not None for key in keys)]
    names = [title(m.name) for m in everybody if m not in scored and m.kind != "council"]
    kept = [m for m in everybody if m in scored or m.kind == "council"]
    return kept, f"Not forecast, or trained on these bars: {', '.join(names)}." if names else ""


def _edge(everybody: Sequence[Member]) -> float:
    keys = ("brier_skill_1e4", "gain_lo", "gain_hi")
    values = [abs(v) for m in everybody for key in keys if (v := number(m.scores, key)) is not None]
    return 1.05 * max(values, default=0.0)


def _direction_line(member: Member, edge: float) -> Line:
    row = member.scores
    gain, error = number(row, "brier_skill_1e4"), number(row, "gain_se")
    told = show(gain, "+.2f") + ("" if error is None else f" ± {show(error, '.2f')}")
    ends = numbers(row, "gain_lo", "gain_hi")
    cells = [Cell(told), Cell("", _against_half(row)),
             Cell("", svg=cell_strip(gain, ends, edge, style(member)))]  # fmt: skip
    cells += [Cell(write(number(row, key))) for _, key, _, write in _DIRECTION]
    return Line(title(member.name), tuple(cells), member.kind)


def _against_half(row: Any) -> Mark:
    gain, error, t = number(row, "brier_skill_1e4"), number(row, "gain_se"), number(row, "dm_t")
    if error:
        return judged(gain, error)
    return judged(t, 1.0)  # t is the gain in standard errors


def distribution(board: Board) -> Table:
    """Return everybody's scores of the range, against EWMA."""
    head = (
        Column("vs EWMA", "pinball loss against EWMA’s on the same bars; negative is better"),
        Column("beyond noise", "council: two standard errors; others: ± 0.24 % a year of bars"),
    )
    lines = []
    kept, silent = _split(board, ("pinball_bps",))
    for member in kept:
        pct, mark = _against_ewma(board, member)
        cells = [Cell(show(pct, "+.2f", " %")), Cell("", mark)]
        cells += [Cell(write(number(member.scores, key))) for _, key, _, write in _RANGE]
        lines.append(Line(title(member.name), tuple(cells), member.kind))
    columns = (*head, *(Column(name, told) for name, _, told, _ in _RANGE))
    return Table("Range: how far may it go?", "forecaster", columns, tuple(lines), silent)


def _against_ewma(board: Board, member: Member) -> tuple[float | None, Mark]:
    pct, beyond = versus_ewma(board, member)
    row = comparison(board, member.name, "ewma", "pinball")
    if number(row, "difference") is not None:
        return pct, judged(number(row, "difference"), number(row, "se"))
    if pct is None or beyond is None or member.name == "ewma":
        return pct, ""
    return pct, "noise" if not beyond else "better" if pct < 0.0 else "worse"


def risk(board: Board) -> Table:
    """Return everybody's scores of the three risks."""
    kept, silent = _split(board, ("risk_brier", "risk_up_brier", "risk_sigma_brier"))
    lines = tuple(
        Line(
            title(m.name),
            tuple(Cell(write(number(m.scores, key))) for _, key, _, write in _RISK),
            m.kind,
        )
        for m in kept
    )
    columns = tuple(Column(name, told) for name, _, told, _ in _RISK)
    return Table("Risk: how likely is a bad move?", "forecaster", columns, lines, silent)


def calibration(shown: Sequence[Member]) -> Table:
    """Return slopes and calibration errors, each ECE beside what noise alone makes."""
    columns = (
        Column("slope", "slope of the outcome on logit p; 1 is ideal, below it too sure"),
        Column("ECE", "mean distance of forecast and frequency over ten deciles, points"),
        Column("noise floor", "what a calibrated forecast scores on average"),
        Column("95 % of noise", "a calibrated forecast stays below it 19 times in 20"),
        Column("ECE is", "whether the ECE is more than noise"),
        Column("resolution", "part of the Brier score that is skill, 1e-4; more is better"),
        Column("", "the resolution, drawn"),
        Column(
            "reliability", "part of the Brier score lost by bad calibration, 1e-4; less is better"
        ),
        Column("within", "what binning leaves over, 1e-4"),
    )
    lines = []
    parts = ("resolution", "reliability", "within")
    edge = max((v for m in shown if (v := _piece(m, "resolution")) is not None), default=0.0)
    for member in shown:
        row = member.scores
        ece, limit = number(row, "ece"), number(row, "ece_noise_95")
        mark: Mark = "" if ece is None or limit is None else "noise" if ece <= limit else "bad"
        cells = [Cell(show(number(row, "calibration_slope"), ".2f"))]
        cells += [
            Cell(percent(number(row, key), 2)) for key in ("ece", "ece_noise", "ece_noise_95")
        ]
        skill, *others = (_piece(member, key) for key in parts)
        drawn = (
            None
            if skill is None or edge <= 0.0
            else strip(0.0, edge, interval=(0.0, skill), at=None, style=f"thick {style(member)}")
        )
        cells += [Cell("", mark), Cell(show(skill, ".2f")), Cell("", svg=drawn)]
        cells += [Cell(show(value, ".2f")) for value in others]
        lines.append(Line(title(member.name), tuple(cells), member.kind))
    note = "Brier = uncertainty + reliability − resolution + within."
    base = number(shown[0].scores, "detail", "brier_parts", "uncertainty")
    if base is not None:
        note += f" Uncertainty, the market’s own, is {base:.5f}."
    return Table("Can a stated probability be taken at its word?", "forecaster", columns,
                 tuple(lines), note)  # fmt: skip


def _piece(member: Member, key: str) -> float | None:
    value = number(member.scores, "detail", "brier_parts", key)
    return None if value is None else 1e4 * value


def controls(board: Board) -> tuple[Card, ...]:
    """Return one card a control: what was expected and what came."""
    return tuple(_control(title(name), row) for name, row in part(board, "controls").items())


def _control(name: str, row: Any) -> Card:
    ok = dig(row, "ok")
    mark: Mark = "ok" if ok is True else "bad" if ok is False else "unknown"
    told = (
        ("Expected", word(row, "expected")),
        ("Found", _figures(row)),
        ("Note", word(row, "note")),
    )
    lines = (Strip(key, text) for key, text in told if text != DASH)
    return Card(name, strips=(Strip("Result", "", mark=mark), *lines))


def _figures(row: Any) -> str:
    found = part(row, "figures") or {k: v for k, v in part(row).items() if k not in _WORDS}
    told = [f"{title(str(key))} {_short(value)}" for key, value in found.items()]
    return "; ".join(told) or DASH


_WORDS = ("ok", "expected", "note", "figures")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{title(str(k))} {_short(v)}" for k, v in value.items()) + ")"
    if isinstance(value, list):
        return ", ".join(_short(item) for item in value[:6]) + (" …" if len(value) > 6 else "")
    if isinstance(value, str | bool):
        return str(value)
    plain = number({"v": value}, "v")
    return show(plain, ",.0f" if plain is not None and abs(plain) >= 1000 else ".4g")


def drift(board: Board) -> Table | None:
    """Return how far the inputs moved from training, worst first; None where not measured."""
    found = rows(board, "drift", "features")
    columns = (
        Column("PSI", "population stability index; how much is much differs by column"),
        Column("KS", "largest distance of the two distributions, 0 to 1"),
        Column("state", "off: above the column’s own threshold, at least .25"),
    )
    lines = tuple(
        Line(
            word(row, "name"),
            (Cell(show(number(row, "psi"), ".3f")), Cell(show(number(row, "ks"), ".3f")),
             Cell("", "bad" if dig(row, "alarm") else "ok")),
        )
        for row in found[:15]
    )  # fmt: skip
    more = f"The {len(lines)} that moved most, of {len(found)}." if len(found) > len(lines) else ""
    made = Table("Drift: do the inputs still look like the training years?", "feature", columns,
                 lines, more)  # fmt: skip
    return made if lines else None
