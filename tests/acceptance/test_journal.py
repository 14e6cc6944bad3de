"""The journal and the reactive loop as people use them: over HTTP and from the command line."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.operations import Reflection, RiskEvent
from domain.times import parse_iso
from domain.trading import ClosedTrade
from serving.cli import run
from sim.assertions import ASSERTION
from storage.engine import open_database, sqlite_url
from storage.ledger import SqlLedger
from storage.proposals import Proposals
from tests.acceptance.running import Running, conclave, start
from tests.command_line import perp

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ONE = {"CONCLAVE_MODELS__AGENTS": "climatology"}
WORDS = "Followed the averages, as always; nothing learned here."
BARS = "BTCUSDT-binance-perp-5m-20241231-20251231.parquet"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Generated bars, six a second, traded by EMA 10/20 with the journal in strict mode."""
    folder = tmp_path_factory.mktemp("journal")
    made = start(
        folder / "var",
        ["--local", "--source", "replay", "--data", str(perp(folder, 3_000)), "--speed", "1800",
         "--profile", "exercise", "--set", "journal.reflections=strict"],
        ONE,
    )  # fmt: skip
    try:
        yield made.ready()
    finally:
        made.stop(signal.SIGINT)


def journal(running: Running, query: str = "") -> list[dict[str, Any]]:
    with running.client() as client:
        body = client.get(f"/v1/journal{query}").raise_for_status().json()
    items: list[dict[str, Any]] = body["items"]
    return items


def missing(running: Running) -> dict[str, Any]:
    """A closed trade that nobody wrote about."""
    found = running.until(60, lambda: journal(running, "?missing=true"), "closed trade")
    row: dict[str, Any] = found[0]
    return row


def post(running: Running, body: dict[str, Any]) -> httpx.Response:
    with running.authorised() as client:
        return client.post("/v1/journal", json=body)


def test_journal_when_a_trade_closes_by_itself_then_a_draft_waits_for_words(
    running: Running,
) -> None:
    row = missing(running)
    assert row["reflection"]["draft"] is True
    assert row["reflection"]["text"].startswith(f"{row['side']} ")
    said = {"trade_id": row["id"], "text": WORDS, "tags": ["Late"], "followed_plan": True}

    with running.client() as client:
        assert client.post("/v1/journal", json=said).status_code == 401
    first, second = post(running, said), post(running, said)

    assert (first.status_code, first.json()["new"]) == (200, True)
    assert second.json() == {**first.json(), "new": False}
    with running.client() as client:
        one = client.get(f"/v1/journal/{row['id']}").json()
    assert one["missing"] is False
    assert [(r["draft"], r["author"]) for r in one["reflections"]] == [
        (True, "journal"), (False, "operator"),
    ]  # fmt: skip
    assert one["reflection"]["tags"] == ["late"]
    assert one["excursion"]["favourable"] >= 0 >= one["excursion"]["adverse"]
    told = journal(running, "?limit=1000")
    assert next(each for each in told if each["id"] == row["id"])["followed_plan"] is True


def test_entries_when_the_journal_is_strict_then_they_wait_until_people_have_written(
    running: Running,
) -> None:
    def refused() -> list[Any]:
        with running.client() as client:
            items = client.get("/v1/signals?limit=100").json()["items"]
        return [one for one in items if "reflection_missing" in one["reasons"]]

    signal_ = running.until(60, refused, "entry that waits")[0]
    assert signal_["decision"] == "NO_TRADE"
    assert "reflection_missing" in signal_["reason"]
    with running.client() as client:
        why = client.get(f"/v1/signals/{signal_['id']}/why").json()
    assert why["margins"]["reflection"] == -1.0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"trade_id": "x", "text": "too short"}, "at least 20 characters"),
        ({"action": "close", "symbol": "BTC/USDT:USDT", "text": ""}, "at least 20 characters"),
        ({"trade_id": "x", "text": WORDS, "tags": ["two words"]}, "tag"),
        ({"trade_id": "x", "text": WORDS, "author": "journal"}, "author"),
        ({"text": WORDS}, "reflect needs a trade_id"),
        ({"action": "close", "text": WORDS}, "close needs a symbol"),
        ({"action": "close", "symbol": "DOGE/USDT", "text": WORDS}, "open position"),
        ({"trade_id": "x", "text": "\x00" + WORDS}, "text"),
    ],
)
def test_journal_when_a_request_is_wrong_then_it_is_refused_with_the_rule(
    running: Running, body: dict[str, Any], says: str
) -> None:
    reply = post(running, body)
    assert reply.status_code == 422, reply.text
    assert says in reply.json()["error"]["message"]


def test_journal_when_the_trade_is_unknown_then_it_is_not_found(running: Running) -> None:
    assert post(running, {"trade_id": "x", "text": WORDS}).status_code == 404


def test_close_when_there_are_words_then_the_position_goes_and_they_stand_first(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--json", "--set", f"VAR_DIR={running.var_dir}"]
    close = ["journal", "close", "BTC/USDT:USDT", *place, "--text"]
    told = ""

    def closed() -> bool:
        nonlocal told
        for row in journal(running, "?missing=true"):  # so that entries do not wait
            post(running, {"trade_id": row["id"], "text": WORDS})
        assert run([*close, "gone"]) == 2
        assert "at least 20 characters" in capsys.readouterr().err
        done = run([*close, WORDS, "--tag", "news"]) == 0  # here: a process of its own is too slow
        told = capsys.readouterr().out
        return done

    running.until(120, closed, "manual close")
    reflection = json.loads(told)["reflection"]

    def manual() -> Any:
        return [row for row in journal(running, "?limit=1000") if row["reason"] == "manual"]

    (row,) = running.until(30, manual, "trade closed by hand")
    assert row["decision_id"] == reflection["decision_id"]
    assert row["reflection"]["tags"] == ["news"]
    assert row["missing"] is False
    assert parse_iso(reflection["at"]) <= parse_iso(row["closed_at"])


def test_add_when_the_desk_runs_then_the_command_asks_it(running: Running) -> None:
    row = missing(running)
    done = conclave(running.var_dir, "journal", "add", row["id"], "--text", WORDS, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["new"] is True


def test_assertions_when_the_desk_runs_then_it_measures_now(running: Running) -> None:
    missing(running)
    done = conclave(running.var_dir, "assertions", "--json")
    items = {row["name"]: row for row in json.loads(done.stdout)["items"]}
    assert items["reconciliation"]["passed"] is True
    assert done.returncode == int(any(row["passed"] is False for row in items.values()))
    with running.client() as client:
        assert {row["name"] for row in client.get("/v1/assertions").json()["items"]} == set(items)
        assert client.post("/v1/assertions").status_code == 401


# Seven days of the market


def cycle_bars() -> Path:
    samples = os.environ.get("CONCLAVE_SAMPLES")
    path = Path(samples or "") / BARS
    if not samples or not path.is_file():
        pytest.skip(f"needs {BARS} in the folder that CONCLAVE_SAMPLES names")
    return path


def write_about_all(running: Running) -> int:
    """Write about every closed trade until the run ends; return how many were written about."""
    count = 0
    while running.process.poll() is None:
        try:
            rows = journal(running, "?missing=true&limit=1000")
            for row in rows:
                reply = post(running, {"trade_id": row["id"], "text": WORDS, "tags": ["cycle"]})
                count += reply.status_code == 200
        except (httpx.HTTPError, OSError, ValueError, KeyError):
            pass  # not there yet, or gone
        time.sleep(0.3)
    return count


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_seven_market_days_when_people_keep_the_journal_then_all_of_it_is_accounted_for(
    tmp_path: Path,
) -> None:
    var_dir = tmp_path / "var"
    running = start(
        var_dir,
        ["--local", "--source", "replay", "--data", str(cycle_bars()), "--speed", "max",
         "--timerange", "20250310-20250317", "--profile", "exercise",
         "--set", "journal.reflections=draft",
         "--set", "assertions.slippage_gap_max_bps=0.01"],  # impact alone is more: it must fail
        ONE,
    )  # fmt: skip
    try:
        over_http = write_about_all(running)
    finally:
        assert running.stop() == 0, running.output.read_text()[-2000:]
    left = json.loads(conclave(var_dir, "journal", "list", "--missing", "--json").stdout)["items"]
    for row in left:
        done = conclave(var_dir, "journal", "add", row["id"], "--text", WORDS, "--followed-plan")
        assert done.returncode == 0, done.stderr

    measured = conclave(var_dir, "assertions", "--json")
    assert measured.returncode == 1, measured.stderr
    assert conclave(var_dir, "ledger", "verify").returncode == 0

    engine = open_database(sqlite_url(var_dir / "ledger.db"))
    ledger = SqlLedger(engine, running.plan["world"])
    trades = [trade for _, trade in ledger.records(ClosedTrade)]
    people = {r.decision_id for _, r in ledger.records(Reflection) if not r.draft}
    drafts = {r.decision_id for _, r in ledger.records(Reflection) if r.draft}
    assert len(trades) >= 50
    assert {trade.decision_id for trade in trades} == people == drafts
    assert over_http > 0

    items = {row["name"]: row for row in json.loads(measured.stdout)["items"]}
    assert items["reconciliation"]["passed"] is True
    assert items["adherence"]["passed"] is True
    events = [e for _, e in ledger.records(RiskEvent) if e.kind == ASSERTION]
    failures = [event for event in events if event.level == "warning"]
    assert [event.subject for event in failures].count("slippage_gap") == 1
    asked = {one.body["key"] for one in Proposals(engine).list() if one.kind == ASSERTION}
    assert {f"{ASSERTION} {event.key}" for event in failures} == asked
    assert {row["name"] for row in items.values() if row["passed"] is False} <= {
        event.subject for event in failures
    }
    engine.dispose()

    number = json.loads(conclave(var_dir, "proposals", "list", "--json").stdout)["items"][0]["id"]
    done = conclave(var_dir, "proposals", "accept", str(number), "--why", "impact is real")
    assert "execution.slippage_bps" in done.stdout
    assert conclave(var_dir, "proposals", "reject", str(number)).returncode == 2

    review = conclave(var_dir, "journal", "review", "--week", "2025-W11", "--json")
    body = json.loads(review.stdout)
    assert body["adherence"]["reflected"] == 1.0
    assert {row["name"]: row["trades"] for row in body["by_tag"]}["cycle"] == over_http
    page = (var_dir / "reports" / "journal" / "latest.html").read_text()
    assert page.count('<svg class="chart"') == 2 * body["trades"]
    picture = tmp_path / "trade.svg"
    assert conclave(var_dir, "journal", "plot", body["best"], "--out", str(picture)).returncode == 0
    assert picture.read_text().startswith("<svg xmlns=")
