"""The review of a week, the page made of it, and the plot of a trade, on figures made by hand."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine

from domain.errors import NotFound, UsageError
from domain.operations import Reflection
from domain.times import parse_iso
from domain.trading import ClosedTrade
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from serving.journal_view import closed_within, detailed, listed, picture_of
from serving.report_files import write_report
from sim.journal_review import Entry, review, span_of, week_of
from sim.reports.journal import markdown, render
from sim.reports.trade_plot import charts, standalone
from storage.engine import open_database, sqlite_url
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.queries import Reader
from tests.browser import CHROMIUM, measured
from tests.execution_scenes import (
    FIXED,
    NO_LIMITS,
    PERP,
    START,
    STEP,
    Script,
    flat,
    plain_broker,
    play,
    walk,
)

HOUR = 3_600_000
MONDAY = parse_iso("2025-01-27")
D = Decimal


def trade(n: int, side: str, pnl: str, reason: str) -> ClosedTrade:
    opened = MONDAY + n * HOUR
    return ClosedTrade(
        "BTC/USDT:USDT", side, D("0.01"), opened, opened + HOUR, D(50_000), D(50_100),  # type: ignore[arg-type]
        D("0.5"), D("0.1"), D("0.05"), D("0.01"), D(pnl), reason, "paper", "council", f"d{n}",
    )  # fmt: skip


def said(
    n: int, at: int, text: str = "What I make of it.", *tags: str, followed: bool | None = None,
    draft: bool = False,
) -> Reflection:  # fmt: skip
    author = "journal" if draft else "anna"
    return Reflection("paper", "BTC/USDT:USDT", f"d{n}", at, author, text, tags, draft, followed)


@pytest.fixture
def week() -> list[Entry]:
    one, two, three = (
        trade(1, "LONG", "4", "target"), trade(2, "SHORT", "-3", "stop"),
        trade(3, "LONG", "-2", "kill"),
    )  # fmt: skip
    return [
        Entry(one, (
            said(1, one.closed_at, "Draft.", followed=True, draft=True),
            said(1, one.closed_at + 2 * HOUR, "First words.", "late"),
            said(1, one.closed_at + 9 * HOUR, "Second words.", "news", "late", followed=False),
        )),
        Entry(two, (said(2, two.closed_at - HOUR, "Words before the close.", "news"),)),
        Entry(three, (said(3, three.closed_at, "Draft.", followed=False, draft=True),)),
    ]  # fmt: skip


def test_review_when_a_week_has_three_trades_then_sums_and_groups_are_these(
    week: list[Entry],
) -> None:
    body = review("2025-W05", week)
    assert (body["start"], body["end"]) == ("2025-01-27T00:00:00Z", "2025-02-03T00:00:00Z")
    assert (body["trades"], body["won"], body["pnl"], body["fee"]) == (3, 1, "-1", "1.5")
    assert body["win_rate"] == pytest.approx(1 / 3)
    groups = {
        key: {row["name"]: (row["trades"], row["pnl"]) for row in body[key]}
        for key in ("by_tag", "by_exit", "by_side")
    }
    assert groups["by_tag"] == {"late": (1, "4"), "news": (2, "1"), "(none)": (1, "-2")}
    assert groups["by_exit"] == {"target": (1, "4"), "kill": (1, "-2"), "stop": (1, "-3")}
    assert groups["by_side"] == {"LONG": (2, "2"), "SHORT": (1, "-3")}
    assert (body["best"], body["worst"]) == (week[0].trade.id, week[1].trade.id)


def test_adherence_when_people_and_drafts_spoke_then_people_go_first(week: list[Entry]) -> None:
    kept = review("2025-W05", week)["adherence"]
    assert kept["reflected"] == pytest.approx(2 / 3)
    assert kept["followed_plan"] == 0.0  # anna said no to the first; the draft no to the third
    assert kept["median_hours"] == 1.0  # two hours after, and before the close: 0
    assert week[0].followed_plan is False
    assert week[1].followed_plan is None


def test_entry_when_a_person_wrote_then_the_newest_words_are_shown(week: list[Entry]) -> None:
    assert [one.shown and one.shown.text for one in week] == [
        "Second words.", "Words before the close.", "Draft.",
    ]  # fmt: skip
    assert [row["missing"] for row in review("2025-W05", week)["entries"]] == [False, False, True]


def test_review_when_nothing_was_traded_then_shares_are_null() -> None:
    body = review("2025-W05", [])
    assert (body["trades"], body["pnl"], body["win_rate"], body["best"]) == (0, "0", None, None)
    assert body["adherence"] == {
        "trades": 0, "reflected": None, "followed_plan": None, "median_hours": None,
    }  # fmt: skip
    assert "No trade was closed" in render(body, {})


def test_week_when_written_and_read_then_it_is_the_iso_week() -> None:
    assert week_of(MONDAY) == week_of(MONDAY + 7 * 24 * HOUR - 1) == "2025-W05"
    assert week_of(parse_iso("2024-12-30")) == "2025-W01"  # belongs to the year of its Thursday
    assert span_of("2025-W05") == (MONDAY, MONDAY + 7 * 24 * HOUR)


@pytest.mark.parametrize("bad", ["2025-05", "2025-W54", "2025-W00", "W05", ""])
def test_week_when_it_is_none_then_it_is_refused(bad: str) -> None:
    with pytest.raises(UsageError, match="--week"):
        span_of(bad)


def test_markdown_when_texts_hold_markup_then_the_table_stays_whole(week: list[Entry]) -> None:
    odd = replace(week[1], reflections=(said(2, MONDAY, "One\n# two"),))
    text = markdown(review("2025-W05", [odd]))
    assert "anna: One # two" in text
    assert "\n# two" not in text
    assert "| stop | 1 | 0.0 % | −3.00 |" in text


# From a ledger


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(made)
    yield made
    made.dispose()


def traded(engine: Engine) -> Reader:
    """Three trades by the loop with the journal on, the middle one with a stop and a target."""
    loop = TradingLoop(
        Script({10: "LONG", 30: ("SHORT", 60_000.0, 40_000.0), 50: "LONG"}),
        plain_broker({PERP.symbol: PERP}), SqlLedger(engine, "test"), {PERP.symbol: PERP},
        LoopSettings({PERP.symbol: PERP.symbol}), limits=NO_LIMITS, sizing=FIXED, journal="draft",
    )  # fmt: skip
    frame = walk(100)
    play(loop, [frame.bar(i) for i in range(100)])
    return Reader(engine, "test")


@pytest.mark.long
def test_listed_when_some_have_words_then_missing_leaves_them_out_and_pages_go_on(
    engine: Engine,
) -> None:
    reader = traded(engine)
    items, cursor = listed(reader, "paper")
    assert (len(items), cursor) == (3, None)
    assert [row["missing"] for row in items] == [True] * 3
    words = Reflection(
        "paper", PERP.symbol, items[1]["decision_id"], START + 200 * STEP, "anna", "Words enough."
    )
    SqlLedger(engine, "test").append([words])
    assert [row["id"] for row in listed(reader, "paper", missing=True)[0]] == [
        items[0]["id"], items[2]["id"],
    ]  # fmt: skip
    first, cursor = listed(reader, "paper", missing=True, limit=1)
    rest, end = listed(reader, "paper", missing=True, limit=5, before_seq=cursor)
    assert [row["id"] for row in (*first, *rest)] == [items[0]["id"], items[2]["id"]]
    assert end is None


@pytest.mark.long
def test_closed_within_when_a_span_is_given_then_it_is_half_open_and_in_order(
    engine: Engine,
) -> None:
    reader = traded(engine)
    every = closed_within(reader, "paper", 0, 2**60)
    closes = [one.trade.closed_at for one in every]
    assert closes == sorted(closes)
    assert [
        one.trade.closed_at for one in closed_within(reader, "paper", closes[1], closes[2])
    ] == [closes[1]]


@pytest.mark.long
def test_picture_when_made_from_the_ledger_then_it_holds_levels_and_bars_around(
    engine: Engine,
) -> None:
    reader = traded(engine)
    one = closed_within(reader, "paper", 0, 2**60)[1].trade
    picture = picture_of(reader, one.id)
    assert (picture.stop, picture.target) == (60_000.0, 40_000.0)
    assert picture.bars.ts[0] == one.opened_at - 24 * STEP
    assert picture.bars.ts[-1] < one.closed_at + 24 * STEP
    assert picture.p_up == ()
    detail = detailed(reader, one.id)
    assert detail["decision"]["stop"] == 60_000.0
    assert [r["draft"] for r in detail["reflections"]] == [True]
    best = f"At its best {100 * detail['excursion']['favourable']:+.2f} %"
    assert best in detail["reflection"]["text"]
    with pytest.raises(NotFound, match="trade"):
        picture_of(reader, "nothing")


@pytest.mark.long
def test_plot_when_drawn_then_it_is_one_svg_that_needs_nothing_and_is_always_the_same(
    engine: Engine,
) -> None:
    reader = traded(engine)
    one = closed_within(reader, "paper", 0, 2**60)[1].trade
    picture = replace(picture_of(reader, one.id), p_up=((one.opened_at, 0.6), (one.closed_at, 0.4)))
    drawn = standalone(picture)
    assert drawn == standalone(picture)
    root = ET.fromstring(drawn)
    text = " ".join(root.itertext())
    for word in ("entry", "exit", "stop 60000", "target 40000", "P(up)", "closed by horizon"):
        assert word in text, word
    assert "href" not in drawn
    assert "url(" not in drawn
    assert len(root.findall(".//{*}polyline")) == 6  # closes, two levels, the trade; ½ and P(up)


def test_page_when_texts_hold_markup_then_it_comes_out_escaped(week: list[Entry]) -> None:
    evil = replace(week[0], reflections=(said(1, MONDAY, "<script>alert(1)</script>", "x"),))
    page = render(review("2025-W05", [evil]), {})
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_report_when_written_then_json_page_and_markdown_lie_side_by_side(
    tmp_path: Path, week: list[Entry]
) -> None:
    body = review("2025-W05", week)
    kept = write_report(tmp_path, body, MONDAY, render(body, {}), markdown(body))
    for suffix in (".json", ".html", ".md"):
        assert kept.with_suffix(suffix).read_bytes() == (tmp_path / f"latest{suffix}").read_bytes()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_page_when_opened_in_a_browser_then_it_fits_and_its_policy_is_kept(
    engine: Engine, tmp_path: Path, width: int
) -> None:
    reader = traded(engine)
    found = closed_within(reader, "paper", 0, 2**60)
    plots = {one.trade.id: charts(picture_of(reader, one.trade.id)) for one in found}
    seen = measured(render(review("2025-W01", found), plots), width, tmp_path)
    assert seen["wide"] <= width
    assert seen["charts"] == 6
    assert (seen["out"], seen["overlaps"], seen["console"], seen["unnamed"]) == ([], [], [], 0)


def test_flat_bars_when_drawn_then_the_plot_still_has_axes(engine: Engine) -> None:
    loop = TradingLoop(
        Script({0: "LONG"}), plain_broker({PERP.symbol: PERP}), SqlLedger(engine, "flat"),
        {PERP.symbol: PERP}, LoopSettings({PERP.symbol: PERP.symbol}), limits=NO_LIMITS,
        sizing=FIXED,
    )  # fmt: skip
    play(loop, [flat(i) for i in range(8)])
    reader = Reader(engine, "flat")
    (one,) = closed_within(reader, "paper", 0, 2**60)
    assert "NaN" not in standalone(picture_of(reader, one.trade.id))
