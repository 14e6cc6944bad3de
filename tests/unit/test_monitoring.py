"""The running monitor on a real database: one proposal and one event an alarm, whatever is killed.

Days of a generated market go by; forecasts are made by hand, so that each kind of drift can be
planted by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from data.features.names import REFERENCE_54
from data.labels import make_labels
from data.memory import MarketMemory
from domain.decision import Action, Decision
from domain.market import BarFrame
from domain.quantiles import Quantiles
from domain.times import DAY_MS, parse_iso
from serving.api import create_api
from serving.bootstrap.service import council_service
from serving.monitoring import KIND, Monitor
from serving.plan import RunPlan
from serving.report_files import stamp
from serving.settings import load_settings
from sim.feature_drift import CALENDAR, Reference
from sim.worlds import DEMO_START_MS, RandomWalk
from storage.engine import open_database, sqlite_url
from storage.events import EventLog
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.proposals import Proposals
from storage.queries import Reader
from storage.snapshots import SqlSnapshots

DAY = 288
WORLD = "test"
WIDE = 1.2816


@pytest.fixture(scope="module")
def bars() -> BarFrame:
    return RandomWalk(3).bars(DEMO_START_MS, 23 * DAY)


@pytest.fixture(scope="module")
def reference(bars: BarFrame) -> Reference:
    memory = MarketMemory(bars.symbol, bars.timeframe, keep=None)
    memory.append(bars)
    return made_of(memory, 1.0)


def made_of(memory: MarketMemory, scale: float) -> Reference:
    """A reference of the memory's own rows, over ``scale``."""
    rows = memory.features()
    columns = [rows.names.index(name) for name in REFERENCE_54]
    return Reference.of(
        REFERENCE_54, rows.values[:, columns] / scale, memory.bars().ts,
        symbol=memory.symbol, timeframe=memory.timeframe, window=3 * DAY,
    )  # fmt: skip


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(made)
    yield made
    made.dispose()


def monitor_on(
    engine: Engine, folder: Path, reference: Reference | None = None,
    *, world: str = WORLD, history: bool = True,
) -> Monitor:  # fmt: skip
    return Monitor(
        world, 5, Proposals(engine), EventLog(engine, world), SqlSnapshots(engine, world),
        folder / "monitoring", reference, history=history,
    )  # fmt: skip


def decisions_on(bars: BarFrame, *, skill: float = 0.0, width: float = 1.0) -> list[Decision]:
    """One a bar: p10–p90 of ``width`` × the market's own, p right by ``skill`` (−1 … 1)."""
    labels = make_labels(bars, 5)
    squares = np.diff(np.log(bars.close), prepend=np.log(bars.close[0])) ** 2
    sigma = np.sqrt(5 * np.convolve(squares, np.full(DAY, 1 / DAY))[: len(bars)]) + 1e-4
    ratio = np.nanstd((labels.y / sigma)[labels.valid])
    sure = np.random.default_rng(0).choice([-0.005, 0.005], len(bars))
    p = 0.5 + sure + 0.1 * skill * np.where(labels.up, 1.0, -1.0)
    half = width * WIDE * ratio * sigma
    return [
        Decision(
            bars.symbol, bars.timeframe, int(ts) + bars.step_ms, int(ts) + bars.step_ms, 5,
            "council", Action.NO_TRADE, Action.NO_TRADE, ("below_cost",), "", float(p[k]), 0.0,
            Quantiles((0.1, 0.5, 0.9), (-float(half[k]), 0.0, float(half[k]))),
            None, None, None, None, None, None,
        )
        for k, ts in enumerate(bars.ts)
    ]  # fmt: skip


def live(
    monitor: Monitor, memory: MarketMemory, bars: BarFrame, said: Sequence[Decision], piece: int
) -> None:
    """Let the bars go by, ``piece`` at a time."""
    for first in range(0, len(bars), piece):
        memory.append(bars.slice(first, min(first + piece, len(bars))))
        for decision in said[first : first + piece]:
            monitor.hear(decision)
        monitor.look(memory)


def watched(
    engine: Engine, folder: Path, bars: BarFrame, said: Sequence[Decision],
    reference: Reference | None = None, piece: int = DAY,
) -> Monitor:  # fmt: skip
    monitor = monitor_on(engine, folder, reference)
    live(monitor, MarketMemory(bars.symbol, bars.timeframe), bars, said, piece)
    return monitor


def saved_days(engine: Engine) -> list[dict[str, Any]]:
    saved = SqlSnapshots(engine, WORLD).latest("monitor", "BTC/USDT")
    assert saved is not None
    return list(saved[1]["days"])


def raised(engine: Engine) -> list[dict[str, Any]]:
    """Bodies of the proposals, oldest first, after checking that each has its event."""
    bodies = [one.body for one in reversed(Proposals(engine).list())]
    events = [event for _, event in EventLog(engine, WORLD).after(limit=1000)]
    assert [event.body for event in events] == bodies
    assert {(event.kind, event.level) for event in events} <= {(KIND, "warning")}
    return bodies


@pytest.mark.long
def test_monitor_when_nothing_drifts_then_it_reports_and_raises_nothing(
    engine: Engine, tmp_path: Path, bars: BarFrame, reference: Reference
) -> None:
    before = Reader(engine, WORLD).counts()
    watched(engine, tmp_path, bars, decisions_on(bars), reference)

    assert raised(engine) == []
    told = json.loads((tmp_path / "monitoring" / "latest.json").read_text())["symbols"]["BTC/USDT"]
    assert told["alarms"] == []
    assert 0.765 < told["coverage"]["value"] < 0.835
    assert len(told["features"]) == 20
    assert len(list((tmp_path / "monitoring" / WORLD / "history").iterdir())) == 22
    assert Reader(engine, WORLD).counts() == before  # nothing in the ledger


@pytest.mark.long
def test_monitor_when_features_are_scaled_then_one_proposal_names_the_columns(
    engine: Engine, tmp_path: Path, bars: BarFrame
) -> None:
    memory = MarketMemory(bars.symbol, bars.timeframe, keep=None)
    memory.append(bars)
    watched(engine, tmp_path, bars, decisions_on(bars), made_of(memory, 3.0))

    bodies = raised(engine)
    named = [figure["name"] for body in bodies for figure in body["figures"]]
    assert {body["alarm"] for body in bodies} == {"feature"}
    assert {"ret_0", "ret_5", "rsi_14", "macd"} <= {f["name"] for f in bodies[0]["figures"]}
    assert len(named) == len(set(named))  # a column is proposed once while it is open
    assert not set(named) & CALENDAR
    assert "retrain" in bodies[0]["action"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("planted", "alarm"), [({"skill": -1.0}, "brier"), ({"width": 0.5}, "coverage")]
)
def test_monitor_when_a_forecast_goes_wrong_then_exactly_that_alarms_once(
    engine: Engine, tmp_path: Path, bars: BarFrame, reference: Reference,
    planted: dict[str, float], alarm: str,
) -> None:  # fmt: skip
    watched(engine, tmp_path, bars, decisions_on(bars, **planted), reference)

    assert [body["alarm"] for body in raised(engine)] == [alarm]


@pytest.mark.long
def test_monitor_when_a_proposal_is_decided_then_only_a_new_alarm_opens_another(
    engine: Engine, tmp_path: Path, bars: BarFrame
) -> None:
    lasting = decisions_on(bars, width=0.5)
    monitor = monitor_on(engine, tmp_path)
    memory = MarketMemory(bars.symbol, bars.timeframe)
    live(monitor, memory, bars.slice(0, 21 * DAY), lasting, DAY)
    (proposal,) = Proposals(engine).list()
    Proposals(engine).decide(proposal.id, accept=False, by="test", at=1)

    live(monitor, memory, bars.slice(21 * DAY, 23 * DAY), lasting[21 * DAY :], DAY)

    assert len(raised(engine)) == 1  # the same alarm, which has never been off


@pytest.mark.long
def test_monitor_when_restarted_at_any_bar_then_it_raises_what_the_uninterrupted_one_does(
    engine: Engine, tmp_path: Path, bars: BarFrame
) -> None:
    part, said = bars.slice(0, 5 * DAY), decisions_on(bars, skill=-1.0)[: 5 * DAY]
    other = open_database(sqlite_url(tmp_path / "other.db"))
    upgrade(other)
    watched(other, tmp_path / "whole", part, said, piece=5 * DAY)
    expected, whole = raised(other), SqlSnapshots(other, WORLD).latest("monitor", "BTC/USDT")
    other.dispose()

    ledger, reader = SqlLedger(engine, WORLD), Reader(engine, WORLD)
    memory = MarketMemory(bars.symbol, bars.timeframe)
    for first in range(0, 5 * DAY, 211):
        monitor = monitor_on(engine, tmp_path)  # the old one was killed
        monitor.resume(reader, {"BTC/USDT": memory})
        ledger.append(said[first : first + 211])
        live(monitor, memory, part.slice(first, first + 211), said[first : first + 211], 7)

    assert [body["alarm"] for body in expected] == ["brier"]
    assert raised(engine) == expected
    assert SqlSnapshots(engine, WORLD).latest("monitor", "BTC/USDT") == whole


@pytest.mark.long
def test_monitor_when_killed_before_the_day_is_ticked_off_then_nothing_is_raised_twice(
    engine: Engine, tmp_path: Path, bars: BarFrame
) -> None:
    part, said = bars.slice(0, 4 * DAY), decisions_on(bars, skill=-1.0)[: 4 * DAY]
    watched(engine, tmp_path, part, said)
    first = raised(engine)
    other = open_database(sqlite_url(tmp_path / "other.db"))
    upgrade(other)
    Proposals(other).put(KIND, first[0], 1)  # stored, and killed before its event

    for database in (engine, other):  # whoever has no snapshot looks at all days again
        SqlSnapshots(database, WORLD).save(
            "monitor", "BTC/USDT", 0,
            {"through": None, "days": [], "level": 0.0, "active": []},
        )  # fmt: skip
        watched(database, tmp_path, part, said)

    assert len(first) == 1
    assert raised(engine) == first
    assert raised(other) == first
    other.dispose()


@pytest.mark.long
def test_monitor_when_its_database_fails_then_it_goes_on_and_catches_up_the_next_day(
    engine: Engine, tmp_path: Path, bars: BarFrame
) -> None:
    said = decisions_on(bars, skill=-1.0)
    broken = open_database(sqlite_url(tmp_path / "empty.db"))  # has no tables
    monitor = monitor_on(broken, tmp_path)
    memory = MarketMemory(bars.symbol, bars.timeframe)
    live(monitor, memory, bars.slice(0, 3 * DAY), said, DAY)
    upgrade(broken)
    live(monitor, memory, bars.slice(3 * DAY, 4 * DAY), said[3 * DAY : 4 * DAY], DAY)

    assert [body["alarm"] for body in raised(broken)] == ["brier"]
    watched(engine, tmp_path, bars.slice(0, 4 * DAY), said[: 4 * DAY])
    assert raised(broken) == raised(engine)
    broken.dispose()


@pytest.mark.long
def test_monitor_when_decisions_are_of_the_warm_up_then_they_are_scored_and_raise_nothing(
    engine: Engine, tmp_path: Path, bars: BarFrame, reference: Reference
) -> None:
    said = [replace(one, origin="warm_up") for one in decisions_on(bars, skill=-1.0, width=0.5)]
    watched(engine, tmp_path, bars, said, reference)

    assert raised(engine) == []
    told = json.loads((tmp_path / "monitoring" / "latest.json").read_text())["symbols"]["BTC/USDT"]
    assert told["coverage"]["alarm"]
    assert told["features_not_measured"] == "warm-up"


@pytest.mark.long
@pytest.mark.parametrize("live_days", [2, 4])
def test_monitor_when_an_alarm_begins_in_the_warm_up_then_the_first_live_day_raises_it(
    engine: Engine, tmp_path: Path, bars: BarFrame, live_days: int
) -> None:
    first = (23 - live_days) * DAY
    said = decisions_on(bars, width=0.5)
    said[:first] = [replace(one, origin="warm_up") for one in said[:first]]
    watched(engine, tmp_path, bars, said)

    (body,) = raised(engine)  # once, although it goes on
    assert body["alarm"] == "coverage"
    assert parse_iso(body["at"]) == max(int(bars.ts[first]), int(bars.ts[19 * DAY])) + DAY_MS


def test_monitor_when_a_decision_cannot_be_read_then_it_is_logged_and_the_others_are_heard(
    engine: Engine, tmp_path: Path, bars: BarFrame
) -> None:
    said = decisions_on(bars)[: 3 * DAY]
    said[DAY] = replace(said[DAY], quantiles=Quantiles((0.5,), (0.0,)))
    with capture_logs() as logs:
        watched(engine, tmp_path, bars.slice(0, 3 * DAY), said)

    assert [(one["event"], one["symbol"]) for one in logs] == [("monitor_failed", "BTC/USDT")]
    assert [day["n"] for day in saved_days(engine)] == [1, DAY - 1]  # outcomes need a day of bars


@pytest.mark.long
def test_monitor_when_its_database_goes_on_failing_then_it_keeps_one_window_of_decisions(
    tmp_path: Path,
) -> None:
    bars = RandomWalk(3).bars(DEMO_START_MS, 33 * DAY)
    broken = open_database(sqlite_url(tmp_path / "empty.db"))  # has no tables
    monitor = monitor_on(broken, tmp_path)
    memory = MarketMemory(bars.symbol, bars.timeframe, keep=None)
    live(monitor, memory, bars, decisions_on(bars), 11 * DAY)
    kept = [len(heard) for heard in monitor._heard.values()]
    upgrade(broken)
    live(monitor, memory, RandomWalk(3).bars(int(bars.ts[-1]) + bars.step_ms, 5), [], 5)

    assert kept == [31 * DAY]  # thirty days and the one that is not done
    assert len(saved_days(broken)) == 30
    broken.dispose()


@pytest.mark.long
def test_monitor_when_worlds_share_a_folder_then_each_has_its_own_reports_one_a_day(
    engine: Engine, tmp_path: Path, bars: BarFrame
) -> None:
    part, said = bars.slice(0, 3 * DAY), decisions_on(bars)[: 3 * DAY]
    desk = monitor_on(engine, tmp_path, world="demo-7")
    memories = [MarketMemory(symbol, "5m") for symbol in ("BTC/USDT", "ETH/USDT")]
    for day in (slice(k * DAY, (k + 1) * DAY) for k in range(3)):
        for memory in memories:
            theirs = [replace(one, symbol=memory.symbol) for one in said[day]]
            today = replace(part.slice(day.start, day.stop), symbol=memory.symbol)
            live(desk, memory, today, theirs, DAY)
    replayed = monitor_on(engine, tmp_path, world="replay-1", history=False)
    live(replayed, MarketMemory("BTC/USDT", "5m"), part, said, DAY)

    root = tmp_path / "monitoring"
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    days = [f"demo-7/history/{stamp(int(bars.ts[k * DAY]))}.json" for k in (1, 2)]
    assert files == [*days, "demo-7/latest.json", "latest.json", "replay-1/latest.json"]
    told = [json.loads((root / name).read_text()) for name in files]
    assert [sorted(one["symbols"]) for one in told[:3]] == [["BTC/USDT", "ETH/USDT"]] * 3
    assert [one["world"] for one in told[2:]] == ["demo-7", "replay-1", "replay-1"]


@pytest.mark.long
def test_monitor_when_a_day_has_too_few_forecasts_then_the_report_says_so(
    engine: Engine, tmp_path: Path, bars: BarFrame
) -> None:
    said = [replace(one, prob_up=None) for one in decisions_on(bars)[: 2 * DAY]]
    watched(engine, tmp_path, bars.slice(0, 2 * DAY), said)

    told = json.loads((tmp_path / "monitoring" / "latest.json").read_text())["symbols"]["BTC/USDT"]
    assert told["cusum"]["note"].startswith("Not measured: no day has 12 forecasts")


def test_monitor_when_the_reference_is_of_another_market_then_features_are_not_measured(
    engine: Engine, tmp_path: Path, bars: BarFrame, reference: Reference
) -> None:
    other = replace(reference, symbol="ETH/USDT")
    watched(engine, tmp_path, bars.slice(0, 3 * DAY), decisions_on(bars)[: 3 * DAY], other)

    told = json.loads((tmp_path / "monitoring" / "latest.json").read_text())["symbols"]["BTC/USDT"]
    assert told["features"] is None
    assert told["features_not_measured"] == "no reference for BTC/USDT 5m"


# What people see and decide


@pytest.mark.long
def test_proposals_when_asked_over_http_then_they_are_paged_and_decided_with_the_token(
    tmp_path: Path, engine: Engine
) -> None:
    overrides = {"VAR_DIR": str(tmp_path), "models.agents": "climatology,technical"}
    settings = load_settings(env={}, profile="demo", overrides=overrides)
    plan = RunPlan("replay", WORLD, "demo", None, data=(), local=True)
    body = {"world": WORLD, "at": "2025-01-02T00:00:00Z", "what": "it moved", "key": "k"}
    numbers = [Proposals(engine).put(KIND, body, 1_000 * k) for k in range(3)]
    app = create_api(council_service(plan, settings, {}))
    token = (tmp_path / "api_token").read_text().strip()

    async def ask(method: str, path: str, **more: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **more)

    def asked(method: str, path: str, **more: Any) -> httpx.Response:
        return asyncio.run(ask(method, path, **more))

    first = asked("GET", "/v1/proposals?limit=2").json()
    rest = asked("GET", f"/v1/proposals?limit=2&cursor={first['next']}").json()
    assert [row["id"] for row in [*first["items"], *rest["items"]]] == numbers[::-1]
    assert rest["next"] is None
    assert first["items"][0]["created_at"] == "1970-01-01T00:00:02Z"

    path, yes = f"/v1/proposals/{numbers[0]}", {"decision": "accept"}
    bearer = {"Authorization": f"Bearer {token}"}
    assert asked("POST", path, json=yes).status_code == 401
    assert asked("POST", path, json={"decision": "maybe"}, headers=bearer).status_code == 422
    done = asked("POST", path, json=yes, headers=bearer).json()
    assert (done["state"], done["decided_by"]) == ("accepted", "api")
    assert asked("POST", path, json=yes, headers=bearer).json()["error"]["code"] == "usage"
    assert asked("POST", "/v1/proposals/99", json=yes, headers=bearer).status_code == 404

    assert [r["id"] for r in asked("GET", "/v1/proposals?state=accepted").json()["items"]] == [1]
    assert len(asked("GET", "/v1/system/health").json()["drifts"]) == 2
    assert "Drift: it moved (2 open proposals)." in asked("GET", "/").text
