"""The convention behind every number of the report, one line each, and what was not measured."""

from __future__ import annotations

from collections.abc import Iterator

from sim.reports.reading import COUNCIL, Board, dig, members, number, part, rows, title

TERMS: tuple[tuple[str, str], ...] = (
    ("bar", "decides at its close; known only then. An outcome is the log return from its close to "
            "the close of the horizon’s last bar; an unchanged price counts as not up."),
    ("scored rows", "bars with an unbroken horizon and at least 288 bars since the last gap; rows "
                    "a model was trained on are left out."),
    ("gain", "(0.25 − Brier) × 10⁴. A coin has 0, a perfect forecast 2 500; the best honest one on "
             "5-minute bars about 10."),
    ("± (s.e.)", "one standard error; intervals by circular block bootstrap, a block is one day "
                 "or two horizons, whichever is longer. Less than two of them is called noise."),
    ("DM t", "Diebold–Mariano: mean difference over its standard error, Newey–West, lag 60 bars or "
             "two horizons, whichever is more."),
    ("e-value", "evidence that holds whenever one looks; 20 or more happens to a coin in less than "
                "1 of 20 worlds. Overlapping outcomes are kept apart: the mean of one test per "
                "offset."),
    ("confidence sequence", "an interval that holds at all times at once with 95 %; wider than an "
                            "ordinary one."),
    ("Brier, log loss", "mean squared error, and mean −ln of the probability of what came; less "
                        "is better."),
    ("AUC", "chance that a bar that rose was given the higher probability; .5 is a coin."),
    ("calibration slope", "slope of the outcome on logit p; below 1 the forecasts are too sure."),
    ("ECE", "mean distance of forecast and frequency over ten forecast deciles; never 0 by luck "
            "alone, so its noise floor stands beside it."),
    ("consistency band", "where the points of a calibrated forecast lie in 95 % of the cases."),
    ("pinball", "mean quantile loss of p10, p50 and p90, in basis points (bp) of log return; "
                "1 bp = 0.01 %."),
    ("coverage", "share of outcomes between p10 and p90. Tolerance: 80 ± 1 overall, ± 2 by "
                 "volatility tercile, ± 2.5 by block of six hours, ± 3.5 by month."),
    ("interval score", "width of p10–p90 plus ten times the distance of what lies outside."),
    ("CRPS", "continuous ranked probability score: the pinball loss over all levels."),
    ("QLIKE", "mean of ln σ² + RV/σ²; RV is the sum of squared returns of the horizon’s bars."),
    ("PIT", "where the outcome lies in its own forecast distribution; flat if that is right."),
    ("risk", "a fall (or rise) of more than 0.5 % within the horizon, by lows (or highs); 1 σ: "
             "more than the trailing day’s volatility."),
    ("PBO", "probability that the best candidate in sample is below the middle out of sample, by "
            "combinatorially symmetric cross-validation."),
    ("CPCV", "combinatorial purged cross-validation: many paths through the same data."),
    ("trials", "everything ever tried, and every look at the test year; the best of many tries "
               "looks good by luck."),
    ("PSI", "population stability index of a feature against its training years. Each column has "
            "its own alarm: twice the most that its training years moved by, at least .25."),
    ("common rows", "differences between forecasters are taken on the bars on which all of them "
                    "spoke."),
)  # fmt: skip

_WHOLE: tuple[tuple[str, str], ...] = (
    ("comparisons", "Differences between forecasters: the board holds none."),
    ("overfitting", "Overfitting: the board holds no selection among candidates."),
    ("controls", "Controls: run evaluate with --controls."),
    ("drift", "Drift: there is no training sample to compare with."),
    ("weights", "Weights over time: there was no council, or they were not kept."),
    ("cpcv", "Gains over many paths: run without cross-validation."),
    ("refit", "Refitting: models are as shipped, not refitted along the way."),
)
_SCORES: tuple[tuple[str, str], ...] = (
    ("brier", "direction"), ("pinball_bps", "range"), ("risk_auc", "risk of a fall"),
    ("risk_up_auc", "risk of a rise"), ("risk_sigma_auc", "risk of a 1 σ fall"),
    ("crps_bps", "CRPS"), ("qlike", "QLIKE"), ("gain_se", "error of the gain"),
    ("e_value", "e-value"),
)  # fmt: skip


def not_measured(board: Board) -> list[str]:
    """Return what the board does not hold, and why, one sentence each."""
    return [*_members_without(board), *_parts_without(board)]


def _members_without(board: Board) -> Iterator[str]:
    for member in members(board):
        if member.kind == "baseline":
            continue
        if not number(member.scores, "n"):
            left_out = number(member.scores, "in_sample")
            why = "no bar on which it was awake"
            why = f"all {left_out:,.0f} rows were its training" if left_out else why
            yield f"{title(member.name)}: nothing, {why}."
            continue
        gone = [told for key, told in _SCORES if number(member.scores, key) is None]
        if gone:
            yield f"{title(member.name)}: no {', '.join(gone)}; not forecast, or too few bars."
    silent = [title(m.name) for m in members(board)
              if m.kind == "baseline" and not number(m.scores, "n")]  # fmt: skip
    if silent:
        yield f"Baselines without a fit for this market: {', '.join(silent)}."


def _parts_without(board: Board) -> Iterator[str]:
    for key, why in _WHOLE:
        if not (part(board, key) or rows(board, key)):
            yield why
    if not part(board, COUNCIL, "detail"):
        yield "Calibration, PIT, coverage by group and paths of the council: the board has none."
    if dig(board, "overfitting", "trials", "logged") == "not logged":
        yield "Trials: this look was not logged."
