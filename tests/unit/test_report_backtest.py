"""The tear sheet: what it says, what it survives, and how a real browser shows it."""

from __future__ import annotations

import copy
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domain.canonical import canonical_json, plain
from domain.decision import Action, Decision
from domain.market import MarketState
from domain.opinion import Opinion
from domain.trading import ClosedTrade
from sim.backtest import BacktestResult, exercise_rules, run_backtest
from sim.curves import MARKED, curves, rolling_sharpe, thin
from sim.decided import Tally
from sim.measures import MEASURES
from sim.reports.backtest import render
from sim.reports.backtest_words import plain_words
from sim.reports.charts import amount, log_axis
from sim.reports.parts import Sentence
from tests.browser import CHROMIUM, measured
from tests.execution_scenes import PERP, START, STEP, Script, bar, walk

SECTIONS = ("verdict", "equity", "figures", "costs", "trades", "decisions", "targets", "glossary")
CONVENTIONS = {"fees": "taker 5 bp a side", "forecast": "BTC/USDT:USDT 5m", "zebra": "last",
               "trials": "deflated for this one trial only"}  # fmt: skip


class Guess:
    """A strategy that draws its probability from a seed, so that it is calibrated by none."""

    name = "guess"

    def __init__(self, seed: int = 5) -> None:
        self._rng = np.random.default_rng(seed)

    def prepare_state(
        self, state: MarketState, opinions: Sequence[Opinion], absent: Mapping[str, str]
    ) -> MarketState:
        return state

    def generate_signal(self, prepared: MarketState, now: int) -> Decision:
        p = float(self._rng.beta(20, 20))
        side = Action.LONG if p > 0.6 else Action.SHORT if p < 0.4 else Action.NO_TRADE
        reasons = () if side is not Action.NO_TRADE else ("below_threshold",)
        return Decision(
            prepared.symbol, prepared.timeframe, prepared.as_of, now, 5, self.name, side, side,
            reasons, "Drawn.", p, 4e-3 * (p - 0.5), None, 0.1, 0.1, 0.1, None, None, None,
        )  # fmt: skip

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        pass

    def post_trade_update(self, trade: ClosedTrade) -> None:
        pass


def report_of(result: BacktestResult, **more: Any) -> dict[str, Any]:
    """What the command keeps, as it reads back from its file."""
    body = {**result.as_json(), "conventions": CONVENTIONS, "trial": "not logged", **more,
            "curves": curves(result.run, result.decided)}  # fmt: skip
    made: dict[str, Any] = json.loads(canonical_json(plain(body)))
    return made


@pytest.fixture(scope="module")
def result() -> BacktestResult:
    return run_backtest(walk(10_000), Guess(), PERP, rules=exercise_rules()).deflated(7)


@pytest.fixture(scope="module")
def report(result: BacktestResult) -> dict[str, Any]:
    return report_of(result, breakdown=result.breakdown("week"))


@pytest.fixture(scope="module")
def page(report: dict[str, Any]) -> str:
    return render(report)


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def said(report: dict[str, Any], start: str) -> Sentence:
    return next(line for line in plain_words(report) if line.text.startswith(start))


def changed(report: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(report)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


# The page


@pytest.mark.long
def test_tear_sheet_when_made_then_all_parts_stand_in_order(page: str) -> None:
    assert re.findall(r'<section id="(\w+)">', page) == list(SECTIONS)
    for card in (
        "Equity, log scale", "Underwater", "Return by month", "Daily returns", "Rolling Sharpe",
        "Trades on the price", "From gross to net", "What was decided", "Calibration of the",
    ):  # fmt: skip
        part = page.partition(f"<h3>{card}")[2].partition("</article>")[0]
        assert re.search(r"<svg|<ol", part), card
        assert "Not measured" not in part, card


@pytest.mark.long
def test_tear_sheet_when_made_then_it_needs_nothing_from_elsewhere_and_runs_nothing(
    page: str,
) -> None:
    lower = page.lower()
    assert not re.search(r"<script|<link|<img|https?://|url\(|@import|\son\w+=|\sstyle=", lower)
    assert "default-src 'none'" in page
    assert len(page.encode()) < 500_000


def test_tear_sheet_when_made_again_from_its_json_then_every_byte_is_equal(
    report: dict[str, Any], page: str
) -> None:
    before = json.dumps(report)
    assert render(json.loads(before)) == page
    assert json.dumps(report) == before


def test_tear_sheet_when_metrics_are_shown_then_each_has_its_convention_and_its_n(
    report: dict[str, Any], page: str
) -> None:
    text = text_of(page)
    for key, one in MEASURES.items():
        n = report["n"][key]
        assert f"{one.title} {one.write(report['metrics'][key])}".replace("  ", " ") in text
        assert one.how in text
        assert f"n {n:,} {one.counted(n)}" in text


def test_tear_sheet_when_texts_hold_markup_then_they_are_shown_as_text(
    report: dict[str, Any],
) -> None:
    evil = "</title><script>alert(1)</script>\"'&"
    made = copy.deepcopy(report)
    made["strategy"] = made["profile"] = made["trial"] = evil
    made["data"] |= {"symbol": evil, "timeframe": evil, "start": evil, "sha256": evil}
    made["conventions"] = {evil: evil, "trials": evil}
    made["decisions"]["reasons"][evil] = 3
    made["success"][0] |= {"target": evil, "why": evil, "source": evil}
    made["breakdown"][0]["period"] = made["curves"]["by_side"][0]["name"] = evil
    made["curves"]["best"][0] |= {"side": evil, "reason": evil}
    made["benchmarks"]["random_turnover"]["how"] = evil
    made["curves"]["months"][0]["period"] = evil
    shown = render(made)
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") > 15


@pytest.mark.parametrize("made", [{}, {"curves": None, "metrics": {}, "success": [], "n": None}])
def test_tear_sheet_when_parts_are_missing_then_it_says_not_measured(made: dict[str, Any]) -> None:
    text = text_of(render(made))
    assert text.count("Not measured") > 5
    assert "None" not in text
    assert "nan" not in text


def test_tear_sheet_when_any_parts_are_null_then_it_is_still_made(report: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)

    def holed(value: Any) -> Any:
        if rng.random() < 0.03:
            return [None, "", [], {}, 0, -1e300, True, "x"][rng.integers(8)]
        if isinstance(value, dict):
            return {key: holed(item) for key, item in value.items()}
        return [holed(item) for item in value] if isinstance(value, list) else value

    for _ in range(12):
        assert "</html>" in render({key: holed(value) for key, value in report.items()})


def test_tear_sheet_when_a_strategy_gives_no_probability_then_it_says_why_it_is_not_calibrated(
    report: dict[str, Any],
) -> None:
    silent = Tally(5, STEP).decided().calibration()
    text = text_of(render(changed(report, ("curves", "calibration"), plain(silent))))
    assert "Not measured: the strategy gives no probability." in text


def test_tear_sheet_when_there_are_many_trades_then_it_says_how_many_it_marks(
    report: dict[str, Any], page: str
) -> None:
    assert report["trades"] > 2 * MARKED
    assert f"the {MARKED} best and the {MARKED} worst of {report['trades']:,} trades" in text_of(
        page
    )
    few = changed(report, ("trades",), 2 * MARKED)
    assert f"All {2 * MARKED} trades." in text_of(render(few))


def test_tear_sheet_when_nothing_was_traded_then_it_says_so_and_claims_nothing() -> None:
    idle = run_backtest(walk(400), Script({}), PERP, rules=exercise_rules())
    report = report_of(idle)
    text = text_of(render(report))
    assert "Not one trade; the reasons stand below." in text
    assert "✓ met" not in text
    assert "No trade was closed." in text
    asleep = changed(report, ("conventions", "in sample"), "risk throughout")
    assert said(asleep, "Not one trade").level == "warning"


def test_tear_sheet_when_a_breakdown_was_asked_for_then_its_rows_are_there(
    report: dict[str, Any], page: str
) -> None:
    assert f"By week: {len(report['breakdown'])} rows" in page
    assert all(f">{row['period']}<" in page for row in report["breakdown"])
    assert "By month:" in render({**report, "breakdown": None})


def test_tear_sheet_when_targets_are_judged_then_met_missed_and_open_are_told_apart(
    report: dict[str, Any], page: str
) -> None:
    words = {True: "v-met", False: "v-missed"}
    judged = [row for row in report["success"] if row["n_required"] is not None]
    for level in ("v-met", "v-missed"):
        expected = sum(words.get(row["met"]) == level for row in judged)
        assert page.count(f'<li class="{level}">') == expected > 0
    for row in report["success"]:
        assert row["target"] in text_of(page)


# The figures


def test_waterfall_when_costs_are_taken_off_then_gross_becomes_net(
    result: BacktestResult, page: str
) -> None:
    part = page.partition("<h3>From gross to net")[2].partition("</article>")[0]
    found = re.findall(r'class="what">(\w+)</span>.*?class="value">([−+]?[\d,.]+)', part)
    amounts = {name: float(text.replace("−", "-").replace(",", "")) for name, text in found}
    net = amounts.pop("net")
    assert sum(amounts.values()) == pytest.approx(net, abs=0.05)
    assert net == pytest.approx(float(result.final_equity) - 10_000, abs=0.01)
    fills = result.run.fills
    gross = -sum(float(fill.reference * fill.qty) * fill.side.sign for fill in fills)
    held = sum(float(position.qty) for position in result.run.still_open)
    assert amounts["gross"] == pytest.approx(gross + held * result.run.price[-1], abs=0.05)


def test_calibration_when_outcomes_are_worked_out_by_hand_then_they_are_the_runs(
    result: BacktestResult,
) -> None:
    p, up, rows = result.decided.outcomes()
    close = walk(10_000).close
    assert len(p) == 9_995
    np.testing.assert_array_equal(up, close[5:] > close[:-5])
    np.testing.assert_array_equal(rows, np.arange(9_995))
    found = result.decided.calibration()
    assert found["brier"] == pytest.approx(np.mean((p - up) ** 2))
    assert abs(found["calibration_slope"]) < 0.3  # the guess knows nothing
    assert sum(each.n for each in found["reliability"]) == 9_995


def test_calibration_when_bars_are_missing_then_no_outcome_leads_across_the_gap() -> None:
    script, tally = Script({}), Tally(2, STEP)
    for k in (0, 1, 2, 5, 6, 7, 8):
        one = bar(k, (100.0 + k,) * 4)
        state = MarketState(one.symbol, "5m", one.close_ms, None, None, 1)  # type: ignore[arg-type]
        decision = replace(script.generate_signal(state, 0), prob_up=0.5 + k / 100)
        tally.add(decision, one, one)
    p, up, rows = tally.decided().outcomes()
    np.testing.assert_allclose(p, [0.50, 0.55, 0.56])
    assert up.all()
    np.testing.assert_array_equal(rows, [0, 5, 6])
    assert "3 decisions" in tally.decided().calibration()["why"]


def test_tally_when_sides_are_taken_then_the_weakest_is_kept_towards_its_side() -> None:
    script, tally = Script({0: "LONG", 1: "SHORT", 2: "SHORT"}), Tally(2, STEP)
    told = ((0.7, 0.01, 0.2), (0.35, -0.002, 0.1), (0.1, -0.03, 0.25), (0.99, 0.0, 0.9))
    for k, (p, expected, risk) in enumerate(told):
        one = bar(k, (100.0,) * 4)
        state = MarketState(one.symbol, "5m", one.close_ms, None, None, 1)  # type: ignore[arg-type]
        draft = script.generate_signal(state, 0)
        tally.add(replace(draft, prob_up=p, expected_return=expected, risk_score=risk), one, None)
    found = {name: (value.value, value.n) for name, value in tally.decided().extremes().items()}
    assert found == {
        "weakest_prob": (0.65, 3), "weakest_return": (0.002, 3), "largest_risk": (0.25, 3),
    }  # fmt: skip


def test_tally_when_the_traded_market_lacks_a_bar_then_the_last_known_price_stands() -> None:
    script, tally = Script({}), Tally(2, STEP)
    for k, traded in enumerate((None, bar(1, (50.0,) * 4), None, bar(3, (60.0,) * 4))):
        one = bar(k, (100.0,) * 4)
        state = MarketState(one.symbol, "5m", one.close_ms, None, None, 1)  # type: ignore[arg-type]
        tally.add(script.generate_signal(state, 0), one, traded)
    np.testing.assert_array_equal(tally.decided().price, [50.0, 50.0, 50.0, 60.0])


def test_curves_when_a_run_is_long_then_they_are_thinned_and_keep_the_extremes() -> None:
    values = np.cumsum(np.random.default_rng(1).normal(size=100_000))
    rows = thin(values)
    assert len(rows) <= 442
    assert {0, 99_999, int(values.argmin()), int(values.argmax())} <= set(rows.tolist())
    assert thin(np.arange(100.0)).tolist() == list(range(100))


def test_curves_when_kept_then_they_are_small_plain_json(report: dict[str, Any]) -> None:
    text = json.dumps(report["curves"], allow_nan=False)
    assert len(text) < 150_000
    first = report["curves"]["equity"]
    assert len(first["day"]) == len(first["equity"]) == len(first["hold"])
    assert first["day"][-1] == pytest.approx((START + 10_000 * STEP) / 86_400_000, abs=1e-4)
    assert first["equity"][-1] == pytest.approx(report["metrics"]["equity_final"], abs=0.01)


@pytest.mark.long
def test_rolling_sharpe_when_there_are_fewer_days_than_its_window_then_there_is_none(
    result: BacktestResult,
) -> None:
    month = rolling_sharpe(result.run, 30)
    assert month is not None
    assert len(month["sharpe"]) == 35 - 29
    assert rolling_sharpe(result.run, 90) is None
    short = run_backtest(walk(8_000), Guess(), PERP, rules=exercise_rules())
    assert rolling_sharpe(short.run, 5) is None  # 28 days: nothing annualised


def test_log_axis_when_values_double_then_steps_are_equal_and_labels_are_money() -> None:
    made = log_axis([100.0, 6_400.0], "USDT")
    assert [label for _, label in made.ticks] == ["100", "200", "500", "1,000", "2,000", "5,000"]
    narrow = log_axis([9_500.0, 10_600.0], "USDT")
    assert "10,000" in [label for _, label in narrow.ticks]
    assert all(narrow.lo <= value <= narrow.hi for value, _ in narrow.ticks)
    assert log_axis([-1.0, 0.0], "USDT").lo < log_axis([], "USDT").hi
    assert [amount(v) for v in (9_850.0, 120_000.0, 2.5e6, -3e9)] == [
        "9,850", "120k", "2.5M", "−3B",
    ]  # fmt: skip


# The words


def test_words_when_it_lost_then_the_loss_comes_first_with_its_numbers(
    report: dict[str, Any],
) -> None:
    first = plain_words(report)[0]
    lost = 10_000 - report["metrics"]["equity_final"]
    assert first.level == "warning"
    assert first.text.startswith(f"It lost {lost:,.2f} USDT")
    assert "of 10,000.00 USDT in 35 days, after all costs" in first.text


@pytest.mark.parametrize(
    ("percentile", "level", "words"),
    [(0.99, "known", "are beyond luck"), (0.96, "likely", "probably beyond luck"),
     (0.5, "noise", "not to be told from chance"), (0.01, "warning", "worse than chance")],
)  # fmt: skip
def test_words_when_chance_does_as_well_then_timing_is_noise(
    report: dict[str, Any], percentile: float, level: str, words: str
) -> None:
    made = changed(report, ("benchmarks", "random_turnover", "percentile"), percentile)
    line = said(made, "Of 500 traders")
    assert line.level == level
    assert words in line.text


def test_words_when_only_one_side_was_taken_then_its_rank_is_the_markets_drift(
    report: dict[str, Any],
) -> None:
    made = changed(report, ("benchmarks", "random_turnover", "percentile"), 0.99)
    made["curves"]["by_side"] = [{"name": "LONG", "trades": 95}, {"name": "SHORT", "trades": 5}]
    line = said(made, "Of 500 traders")
    assert line.level == "noise"
    assert "nearly all are LONG" in line.text


def test_words_when_a_gain_may_be_luck_then_it_is_called_noise(report: dict[str, Any]) -> None:
    made = changed(report, ("metrics", "equity_final"), 10_300.0)
    made["metrics"]["return_pct"], made["intervals"]["return_pct"] = 3.0, [-1.0, 7.0]
    line = said(made, "It made 300.00 USDT")
    assert line.level == "noise"
    assert "−1.00 to +7.00 %" in line.text
    made["intervals"]["return_pct"] = [1.0, 7.0]
    assert said(made, "It made").level == "known"


def test_words_when_a_sharpe_is_too_good_then_a_leak_is_suspected_first(
    report: dict[str, Any],
) -> None:
    first = plain_words(changed(report, ("metrics", "sharpe"), 9.0))[0]
    assert first.level == "warning"
    assert first.text.startswith("Too good to be true")


def test_words_when_targets_were_missed_then_they_are_named(report: dict[str, Any]) -> None:
    line = said(report, "Of the documents’ targets")
    assert "Missed: " in line.text
    assert "Sharpe ratio above 1.0 (252 days)" in line.text


# The browser


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")
@pytest.mark.parametrize(("width", "padding"), [(1280, "20px"), (390, "14px"), (360, "14px")])
def test_tear_sheet_when_a_browser_shows_it_then_it_fits_and_nothing_overlaps(
    page: str, tmp_path: Path, width: int, padding: str
) -> None:
    seen = measured(page, width, tmp_path)
    assert seen["padding"] == padding  # the policy lets the stylesheet in
    assert seen["wide"] == width
    assert seen["sections"] == list(SECTIONS)
    assert seen["charts"] == 7
    assert seen["smallest"] >= 11.0
    assert seen["out"] == seen["overlaps"] == seen["console"] == []
    assert seen["unnamed"] == 0
    assert seen["headings"][0] == 1
    assert all(b - a <= 1 for a, b in zip(seen["headings"], seen["headings"][1:], strict=False))
