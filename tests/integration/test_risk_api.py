"""Risk over HTTP, with a desk at work: limits, the operator's reports, events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.api import create_api
from serving.bootstrap.desk import build_desk
from serving.bootstrap.service import council_service
from serving.bootstrap.storage import open_storage
from serving.plan import RunPlan
from serving.settings import Settings, load_settings
from storage.ledger import SqlLedger
from storage.verify import verify_chain

PLAN = RunPlan("demo", "demo-7", "demo", 60.0, warm_up_days=1, local=True)
Ask = Callable[..., Awaitable[httpx.Response]]


def settings_in(var_dir: Path) -> Settings:
    overrides = {"VAR_DIR": str(var_dir), "models.agents": "climatology,technical"}
    return load_settings(
        env={}, profile="demo", overrides={**overrides, "serving.monitor": "false"}
    )


def with_desk(var_dir: Path, steps: Callable[[Ask], Awaitable[None]]) -> Settings:
    """Run steps against the API while a desk works, then let the desk leave."""
    settings = settings_in(var_dir)

    async def both() -> None:
        desk = build_desk(PLAN, settings)
        app = create_api(council_service(PLAN, settings, {}))
        bearer = {"Authorization": f"Bearer {(var_dir / 'api_token').read_text().strip()}"}
        transport = httpx.ASGITransport(app=app)
        client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")

        async def ask(method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
            return await client.request(method, path, json=body, **{"headers": bearer, **more})

        work = asyncio.create_task(desk.run())
        try:
            while desk.progress.phase != "live" and not work.done():
                await asyncio.sleep(0.05)
            await steps(ask)
        finally:
            desk.leave.set()
            await work
            await client.aclose()

    asyncio.run(both())
    return settings


async def check_of(ask: Ask, name: str) -> dict[str, Any]:
    state = (await ask("GET", "/v1/risk/state")).json()
    return next(dict(check) for check in state["checks"] if check["name"] == name)


@pytest.mark.long
def test_operator_when_reported_over_http_then_entries_pause_until_a_good_report(
    tmp_path: Path,
) -> None:
    async def steps(ask: Ask) -> None:
        assert (await check_of(ask, "operator"))["value"] == "not_measured"
        bad = (await ask("POST", "/v1/risk/hrv", {"value": 14.5, "note": "short night"})).json()
        assert (bad["source"], bad["value"], bad["paused"]) == ("hrv", 14.5, True)
        check = await check_of(ask, "operator")
        assert (check["value"], check["limit"], check["margin"]) == (14.5, 20.0, -5.5)
        assert (check["code"], check["stops"], check["passed"]) == (
            "operator_pause", "entries", False,
        )  # fmt: skip
        word = {"source": "self_report", "value": 8}
        assert (await ask("POST", "/v1/risk/hrv", word)).json()["paused"] is True
        state = (await ask("GET", "/v1/risk/state")).json()
        readings = {reading["source"]: reading for reading in state["operator"]}
        assert readings["hrv"]["note"] == "short night"
        assert readings["hrv"]["at"] == bad["at"]
        assert readings["self_report"]["value"] == 8.0
        assert (await ask("POST", "/v1/risk/hrv", {"value": 48})).json()["paused"] is False
        assert (await check_of(ask, "operator"))["passed"] is True

    settings = with_desk(tmp_path, steps)
    assert verify_chain(open_storage(settings)).ok


@pytest.mark.long
def test_state_when_asked_then_every_limit_has_value_limit_and_distance(tmp_path: Path) -> None:
    async def steps(ask: Ask) -> None:
        state = (await ask("GET", "/v1/risk/state")).json()
        checks = {check["name"]: check for check in state["checks"]}
        assert set(checks) == {
            "mode", "daily_loss", "drawdown", "total_stop", "operator", "symbol_exposure",
            "total_exposure",
        }  # fmt: skip
        for name in ("daily_loss", "drawdown", "total_stop", "symbol_exposure", "total_exposure"):
            check = checks[name]
            assert check["margin"] == pytest.approx(check["limit"] - check["value"])
        assert (state["mode"], state["size_factor"], state["risk_cap"]) == ("ACTIVE", 1.0, None)
        stake = state["stakes"]["BTC/USDT"]
        assert (stake["fraction"], stake["trades"]) == (0.0025, 0)

    with_desk(tmp_path, steps)


@pytest.mark.long
def test_events_when_posted_then_they_are_kept_once_and_listed_newest_first(
    tmp_path: Path,
) -> None:
    async def steps(ask: Ask) -> None:
        event = {"id": "fomc-1", "level": "warning", "text": "rate decision", "data": {"bp": 25}}
        first = (await ask("POST", "/v1/risk/events", event)).json()
        again = (await ask("POST", "/v1/risk/events", event)).json()
        assert (first["new"], again["new"], again["at"]) == (True, False, first["at"])
        other = await ask("POST", "/v1/risk/events", {**event, "text": "another"})
        assert (other.status_code, other.json()["error"]["code"]) == (409, "duplicate_record")
        await ask("POST", "/v1/risk/hrv", {"value": 50})
        await ask("POST", "/v1/risk/kill", {"why": "drill"})

        listed = (await ask("GET", "/v1/risk/events")).json()
        assert [row["type"] for row in listed["items"][:3]] == [
            "mode_change", "operator_report", "risk_event",
        ]  # fmt: skip
        assert listed["items"][0]["mode"] == "KILLED"
        assert listed["items"][2]["body"] == {"text": "rate decision", "data": {"bp": 25}}
        one = (await ask("GET", "/v1/risk/events?limit=1")).json()
        rest = (await ask("GET", f"/v1/risk/events?cursor={one['next']}")).json()
        assert [*one["items"], *rest["items"]] == listed["items"]
        only = (await ask("GET", "/v1/risk/events?kind=risk_event")).json()
        assert [row["subject"] for row in only["items"]] == ["fomc-1"]
        assert only["next"] is None

    settings = with_desk(tmp_path, steps)
    kinds = {type(record).__name__ for _, record in _rows(settings)}
    assert {"RiskEvent", "OperatorReport", "ModeChange"} <= kinds


def _rows(settings: Settings) -> list[tuple[int, Any]]:
    return list(SqlLedger(open_storage(settings), PLAN.world).records_since(0))


@pytest.mark.long
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/risk/hrv", {}),
        ("/v1/risk/hrv", {"value": -1}),
        ("/v1/risk/hrv", {"value": "fine"}),
        ("/v1/risk/hrv", {"value": 11, "source": "self_report"}),
        ("/v1/risk/hrv", {"value": 50, "source": "horoscope"}),
        ("/v1/risk/hrv", {"value": 50, "note": "two\nlines"}),
        ("/v1/risk/events", {"text": "no id"}),
        ("/v1/risk/events", {"id": "a b", "text": "x"}),
        ("/v1/risk/events", {"id": "a", "text": "x", "level": "panic"}),
        ("/v1/risk/events", {"id": "a", "text": "x", "data": {"deep": {"er": 1}}}),
    ],
)
def test_write_when_the_body_makes_no_sense_then_it_is_refused_before_the_desk_sees_it(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    app = create_api(council_service(PLAN, settings_in(tmp_path), {}))
    bearer = {"Authorization": f"Bearer {(tmp_path / 'api_token').read_text().strip()}"}

    async def asked(headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post(path, json=body, headers=headers)

    assert asyncio.run(asked({})).status_code == 401
    refused = asyncio.run(asked(bearer))
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_request")
