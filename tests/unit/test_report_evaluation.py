"""The evaluation report: what it says, what it survives, and how a real browser shows it."""

from __future__ import annotations

import copy
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from domain.canonical import plain
from serving.commands.judging_tables import board_view
from sim.reports.charts import axis, time_axis
from sim.reports.evaluation import render
from sim.reports.parts import Sentence
from sim.reports.reading import comparison, evidence, evidence_of, with_error
from sim.reports.words import level_of, plain_words
from tests.browser import CHROMIUM, measured
from tests.unit.report_boards import full_board, null_board, old_board

SECTIONS = ("verdict", "scores", "evidence", "calibration", "range", "choice", "controls",
            "overfitting", "drift", "glossary")  # fmt: skip


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    made = full_board()
    edges = np.arange(-10, 11) / 5.0
    counts = [0, 0, 3, 0, 40, 0, 0, 90, 0, 0, 150, 0, 0, 160, 0, 110, 0, 47, 0, 0]
    made["overfitting"]["logits"] = {"counts": counts, "edges": edges.tolist()}
    return made


@pytest.fixture(scope="module")
def page(board: dict[str, Any]) -> str:
    return render(board)


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def said(board: dict[str, Any], start: str) -> Sentence:
    return next(line for line in plain_words(board) if line.text.startswith(start))


def changed(board: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The same board with other scores of the council."""
    made = copy.deepcopy(board)
    made["consensus"] |= changes
    return made


# The page


def test_report_when_made_then_all_parts_stand_in_order(page: str) -> None:
    assert re.findall(r'<section id="(\w+)">', page) == list(SECTIONS)
    assert page.startswith("<!DOCTYPE html>")


def test_report_when_made_then_it_needs_nothing_from_elsewhere_and_runs_nothing(page: str) -> None:
    lower = page.lower()

    assert not re.search(r"<script|<link|<img|https?://|url\(|@import|\son\w+=|\sstyle=", lower)
    assert "default-src 'none'" in page
    assert not re.search(r'\sid="(?!verdict|' + "|".join(SECTIONS) + ")", page)


def test_report_when_made_again_from_its_json_then_every_byte_is_equal(
    board: dict[str, Any], page: str
) -> None:
    again = json.loads(json.dumps(board))

    assert render(again) == page
    assert len(page.encode()) < 1_500_000


def test_report_when_rendered_then_the_board_is_left_as_it_was(board: dict[str, Any]) -> None:
    before = json.dumps(board)
    render(board)

    assert json.dumps(board) == before


def test_report_when_texts_hold_markup_then_they_are_shown_as_text(board: dict[str, Any]) -> None:
    evil = "</title><script>alert(1)</script>\"'&"
    made = copy.deepcopy(board)
    for key in ("agents", "baselines", "common", "models", "controls", "cpcv"):
        made[key][evil] = next(iter(made[key].values()))
    made["models"][evil] = made["commit"] = made["trial"] = evil
    made["data"] |= {"symbol": evil, "timeframe": evil, "start": evil}
    made["notes"] = [evil]
    made["controls"][evil] |= {"expected": evil, "note": evil, "figures": {evil: evil}}
    made["comparisons"][0] |= {"a": evil, "b": evil}
    made["weights"][0] |= {"at": evil, evil: 0.5}
    made["drift"]["features"][0]["name"] = made["overfitting"]["candidates"][0] = evil
    made["consensus"]["detail"]["coverage"]["months"][0]["label"] = evil
    shown = render(made)

    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") > 20


@pytest.mark.parametrize("make", [null_board, old_board, dict])
def test_report_when_parts_are_missing_then_it_says_not_measured(make: Any) -> None:
    text = text_of(render(make()))

    assert "Controls: run evaluate with --controls." in text
    assert "Differences between forecasters: the board holds none." in text
    assert text.count("Not measured") > 5
    assert "None" not in text
    assert "nan" not in text


def test_report_when_a_council_never_sat_then_the_agents_are_still_shown(
    board: dict[str, Any],
) -> None:
    made = {**board, "consensus": null_board()["consensus"], "weights": None}
    text = text_of(render(made))

    assert "the council forecast nothing here" in text
    assert "Gain so far: baseline" in text
    assert "no council, or its weights were not kept" in text


@pytest.mark.long
def test_report_when_any_parts_are_null_then_it_is_still_made(board: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)

    def holed(value: Any) -> Any:
        if rng.random() < 0.03:
            return [None, "", [], {}, 0, -1e300, True, "x"][rng.integers(8)]
        if isinstance(value, dict):
            return {key: holed(item) for key, item in value.items()}
        return [holed(item) for item in value] if isinstance(value, list) else value

    for _ in range(12):
        made = {key: holed(value) for key, value in board.items()}
        assert "</html>" in render(made)


def test_report_when_only_quantiles_are_forecast_then_direction_names_it_below_the_table(
    page: str,
) -> None:
    table = page.partition("Direction: does the price end higher?")[2].partition("Range: how")[0]
    below = re.search(r"Not forecast, or trained on these bars: ([^.<]*)", table)

    assert '<th scope="row">risk</th>' not in table
    assert below is not None
    assert "risk" in below[1]
    assert "risk: no direction" in text_of(page)


def test_report_when_a_control_failed_then_page_and_verdict_say_so(page: str) -> None:
    text = text_of(page)

    assert "Controls failed: leak." in text
    assert "✗ off Expected a shift of one bar" in text
    assert "? not decided" in text


def test_report_when_trials_are_counted_then_the_head_names_them(page: str) -> None:
    assert "Trials ever logged 61 (49 tuning, 12 looks at the test year)" in text_of(page)


def test_report_when_splits_were_ranked_then_their_histogram_is_drawn(
    board: dict[str, Any], page: str
) -> None:
    assert "<title>-0.6 to -0.4: 90 splits</title>" in page
    assert page.count(" splits</title>") == 20
    made = copy.deepcopy(board)
    made["overfitting"]["logits"]["edges"].pop()
    assert "the splits’ ranks were not kept" in text_of(render(made))


def test_report_when_terms_are_explained_then_each_column_has_its_own_drift_alarm(
    page: str,
) -> None:
    text = text_of(page)
    assert "above .25 moved" not in text
    assert "Each column has its own alarm" in text


def test_terminal_when_names_hold_markup_then_they_are_shown_as_text(
    board: dict[str, Any],
) -> None:
    made = copy.deepcopy(board)
    made["agents"]["[/b]x"] = made["agents"]["baseline"]
    made["data"]["symbol"] = "[/b]y"
    out = io.StringIO()
    Console(file=out, width=80).print(board_view(made))
    assert "[/b]x" in out.getvalue()
    assert "[/b]y" in out.getvalue()


# The words


def test_words_when_a_gain_is_proven_then_it_is_known_with_its_numbers(
    board: dict[str, Any],
) -> None:
    line = said(board, "Direction")

    assert line.level == "known"
    assert "gain +9.6 ± 1.7, t 5.5, right on 52.5 %, 105,115 bars" in line.text
    assert "from +2.3 to +16.9" in line.text


@pytest.mark.parametrize(
    ("t", "e_value", "lo", "level"),
    [
        (5.0, 400.0, 1.0, "known"), (5.0, None, None, "known"), (5.0, 4.0, 0.5, "known"),
        (5.0, 4.0, -1.0, "likely"), (2.5, 400.0, 1.0, "likely"), (1.9, 4.0, -1.0, "noise"),
        (-1.9, 0.1, -9.0, "noise"), (-2.1, 0.1, -9.0, "warning"), (None, None, None, "noise"),
    ],
)  # fmt: skip
def test_level_when_t_and_evidence_are_given_then_known_needs_both(
    t: float | None, e_value: float | None, lo: float | None, level: str
) -> None:
    assert level_of(t, e_value, lo) == level


@pytest.mark.parametrize(
    ("t", "words"),
    [(2.4, "probably"), (0.7, "not to be told from a coin"), (-2.6, "worse than a coin")],
)
def test_words_when_t_falls_then_the_claim_falls_with_it(
    board: dict[str, Any], t: float, words: str
) -> None:
    assert words in said(changed(board, dm_t=t), "Direction").text


def test_words_when_an_edge_is_not_shown_yet_then_they_say_how_many_bars_would(
    board: dict[str, Any],
) -> None:
    line = said(changed(board, dm_t=1.5, n=10_000), "Direction")

    assert "about 40,000 bars would show it" in line.text


def test_words_when_the_range_beats_ewma_then_the_margin_is_that_of_the_common_rows(
    board: dict[str, Any],
) -> None:
    row = comparison(board, "consensus", "ewma", "pinball")
    margin = 100 * row["difference"] / board["common"]["ewma"]["pinball_bps"]

    assert f"{margin:.2f} % below EWMA’s (t {row['dm_t']:.1f})" in said(board, "Range").text


def test_words_when_the_interval_is_too_narrow_then_they_warn(board: dict[str, Any]) -> None:
    line = said(changed(board, coverage_80=0.77), "Width of the range")

    assert line.level == "warning"
    assert "too narrow" in line.text
    assert "77.0 %" in line.text


def test_words_when_few_bars_are_scored_then_a_small_miss_of_coverage_is_no_warning(
    board: dict[str, Any],
) -> None:
    lines = plain_words(changed(board, coverage_80=0.77, n=2_000))

    assert not any(line.text.startswith("Width") for line in lines)


def test_words_when_pairs_differ_within_two_errors_then_they_are_called_noise(
    board: dict[str, Any],
) -> None:
    line = said(board, "Noise")

    assert "consensus and baseline (direction, range, risk)" in line.text
    assert "ewma" not in line.text


@pytest.mark.parametrize(
    "changes",
    [{"auc": 0.70}, {"accuracy": 0.64}, {"brier_skill_1e4": 300.0}, {"pinball_vs_ewma_pct": -5.0},
     {"risk_auc": 0.93}, {"risk_sigma_auc": 0.85}],
)  # fmt: skip
def test_words_when_a_score_is_too_good_then_a_leak_is_suspected_first(
    board: dict[str, Any], changes: dict[str, float]
) -> None:
    first = plain_words(changed(board, **changes))[0]

    assert first.level == "warning"
    assert "Too good to be true: consensus" in first.text
    assert "Too good" not in plain_words(board)[0].text


@pytest.mark.parametrize(("timeframe", "horizon"), [("1h", 5), ("5m", 60)])
def test_words_when_bars_are_not_those_of_the_limits_then_only_a_loud_auc_is_suspect(
    board: dict[str, Any], timeframe: str, horizon: int
) -> None:
    made = changed(board, auc=0.62, accuracy=0.58, brier_skill_1e4=90.0, pinball_vs_ewma_pct=-9.0)
    assert "Too good" in plain_words(made)[0].text
    made["data"]["timeframe"], made["horizon_bars"] = timeframe, horizon
    assert not any("Too good" in line.text for line in plain_words(made))
    loud = plain_words(changed(made, auc=0.66))[0].text
    assert "Too good to be true: consensus has AUC 0.660 (suspect beyond 0.650)" in loud


def test_words_when_anything_is_judged_then_no_trade_is_the_honest_answer(
    board: dict[str, Any],
) -> None:
    for made in (board, null_board(), {}):
        assert "NO_TRADE is nearly always the honest answer" in said(made, "Money").text


def test_words_when_rows_were_trained_on_then_they_warn(board: dict[str, Any]) -> None:
    made = copy.deepcopy(board)
    made["agents"]["tft"]["in_sample"] = 5_000

    found = said(made, "Up to 5,000 rows are left out")
    assert found.level == "warning"
    assert "tft" in found.text


# The parts


def test_comparison_when_asked_the_other_way_round_then_signs_turn(board: dict[str, Any]) -> None:
    there = comparison(board, "consensus", "har", "pinball")
    back = comparison(board, "har", "consensus", "pinball")

    assert back["difference"] == -there["difference"]
    assert (back["lo"], back["hi"]) == (-there["hi"], -there["lo"])
    assert comparison(board, "har", "ewma", "pinball") == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (1.0, "1"), (20.0, "20"), (999.0, "999"), (9.7e4, "10⁵"),
     (2.2e5, "2×10⁵"), (1e-5, "10⁻⁵"), (1e60, "over 10⁵⁰")],
)  # fmt: skip
def test_evidence_when_written_then_it_is_short(value: float | None, text: str) -> None:
    assert evidence(value) == text


def test_evidence_when_beyond_a_float_then_its_logarithm_is_written() -> None:
    assert evidence_of(4000.0) == "over 10⁵⁰"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(10.512, 1.74, "+10.5 ± 1.7"), (0.10912, 0.008, "+0.109 ± 0.008"), (-3.0, None, "−3"),
     (1234.5, 321.0, "+1234 ± 321"), (None, 1.0, "–")],
)  # fmt: skip
def test_difference_when_written_then_its_error_sets_the_digits(
    value: float | None, error: float | None, text: str
) -> None:
    assert with_error(value, error) == text


def test_axis_when_given_values_then_labels_are_the_ticks_own_values() -> None:
    made = axis([0.75, 0.85], "share", unit=100.0, pad=0.0, count=4)

    assert [label for _, label in made.ticks] == ["75.0", "77.5", "80.0", "82.5", "85.0"]
    assert all(float(label) == pytest.approx(100 * value) for value, label in made.ticks)


@pytest.mark.parametrize(
    ("days", "first"),
    [(0.5, "01-01"), (0.01, "01-01"), (7.0, "01-01"), (365.0, "2025-01"), (4000.0, "2025")],
)
def test_time_axis_when_spans_differ_then_there_are_two_to_six_ticks(
    days: float, first: str
) -> None:
    ticks = time_axis([20_089.0, 20_089.0 + days]).ticks

    assert 2 <= len(ticks) <= 6
    assert ticks[0][1].startswith(first)


def test_board_when_generated_then_it_is_plain_json(board: dict[str, Any]) -> None:
    assert plain(board) == board
    assert json.loads(json.dumps(board, allow_nan=False)) == board


# The browser


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")
@pytest.mark.parametrize(("width", "columns", "padding"), [(1280, 4, "20px"), (390, 1, "14px"),
                                                           (360, 1, "14px")])  # fmt: skip
def test_report_when_a_browser_shows_it_then_it_fits_and_its_letters_can_be_read(
    page: str, tmp_path: Path, width: int, columns: int, padding: str
) -> None:
    seen = measured(page, width, tmp_path)

    assert seen["padding"] == padding  # the policy lets the stylesheet in
    assert seen["wide"] == width
    assert seen["columns"] == columns  # two wide ones, or three small ones that share the first
    assert seen["charts"] > 15
    assert seen["smallest"] >= 11.0
    assert seen["out"] == seen["overlaps"] == seen["console"] == []
    assert seen["unnamed"] == 0
    assert seen["headings"][0] == 1
    assert all(b - a <= 1 for a, b in zip(seen["headings"], seen["headings"][1:], strict=False))
