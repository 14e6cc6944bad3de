"""Every route: there as designed, answering what the document says, and nothing it does not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter

from serving import client as api
from serving.requests import JournalRequest, SymbolChange, SymbolRequest, TradeRequest
from serving.routes import PARTS
from tests.api_world import EXERCISE, PLAN, World, api_of, at_work, run, settings_in

DESIGNED = {
    "/v1/signals": "GET POST", "/v1/signals/{id}": "GET", "/v1/signals/{id}/why": "GET",
    "/v1/agents": "GET", "/v1/agents/weights": "GET", "/v1/agents/scores": "GET",
    "/v1/calibration": "GET", "/v1/symbols": "GET POST", "/v1/symbols/{id}": "GET PATCH DELETE",
    "/v1/trades": "GET POST", "/v1/trades/{id}": "GET", "/v1/positions": "GET",
    "/v1/orders": "GET", "/v1/equity": "GET", "/v1/risk/state": "GET",
    "/v1/risk/events": "GET POST", "/v1/risk/hrv": "POST", "/v1/risk/kill": "POST",
    "/v1/risk/arm": "POST", "/v1/journal": "GET POST", "/v1/proposals": "GET",
    "/v1/system/health": "GET", "/v1/system/jobs": "GET POST", "/v1/stream": "GET",
    "/health/live": "GET", "/health/ready": "GET", "/metrics": "GET",
}  # fmt: skip
BEYOND = {  # what the design does not name
    "/v1/journal/{id}": "GET", "/v1/proposals/{id}": "POST", "/v1/assertions": "GET POST",
    "/v1/system/jobs/{id}": "GET PATCH",
}  # fmt: skip
TRADE = {
    "id": "sheet-1", "symbol": "ETH-USDT", "side": "SHORT", "qty": "2", "entry": "3000.5",
    "exit": "2990", "opened_at": "2025-01-30T10:00:00Z", "closed_at": "2025-01-30T11:00:00Z",
    "fee": "3", "source": "sheet",
}  # fmt: skip


def known_routes() -> Iterator[APIRoute]:
    for part in PARTS:
        yield from (route for route in part.routes if isinstance(route, APIRoute))


def operations(schema: dict[str, Any]) -> dict[str, str]:
    """The document's paths with the names of their parameters left out."""
    return {
        re.sub(r"\{\w+\}", "{id}", path): " ".join(sorted(m.upper() for m in methods))
        for path, methods in schema["paths"].items()
    }


def sorted_words(designed: dict[str, str]) -> dict[str, str]:
    return {path: " ".join(sorted(methods.split())) for path, methods in designed.items()}


def extra_fields(value: Any, where: str = "") -> Iterator[str]:
    """Fields of a parsed reply that its model does not name."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{where}.{name}"
        for name in type(value).model_fields:
            yield from extra_fields(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from extra_fields(item, where)


def route_of(method: str, path: str) -> APIRoute:
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    for route in known_routes():
        match, _ = route.matches(scope)
        if match.name == "FULL":
            return route
    raise AssertionError(f"no route for {method} {path}")


def told_exactly(reply: httpx.Response, method: str, path: str) -> Any:
    """The parsed body of a good reply, after checking that nothing undocumented is in it."""
    route = route_of(method, path.partition("?")[0])
    assert reply.status_code == (route.status_code or 200), f"{method} {path}: {reply.text}"
    body = reply.json()
    parsed = TypeAdapter(route.response_model).validate_python(body)
    assert list(extra_fields(parsed)) == [], f"{method} {path}"
    return body


@pytest.mark.long
def test_routes_when_compared_with_the_design_then_none_is_missing_and_none_is_unknown(
    tmp_path: Path,
) -> None:
    schema = api_of(PLAN, settings_in(tmp_path)).openapi()
    assert operations(schema) == sorted_words(DESIGNED | BEYOND)
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            place = f"{method} {path}"
            assert operation["description"], place
            assert operation["x-scope"] in {"read", "signal", "trade", "risk", "admin"}, place
            assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), place


def test_document_when_read_then_every_number_says_what_it_is(tmp_path: Path) -> None:
    schema = api_of(PLAN, settings_in(tmp_path)).openapi()
    silent = [
        f"{name}.{field}"
        for name, model in schema["components"]["schemas"].items()
        for field, told in model.get("properties", {}).items()
        if "number" in str(told.get("type", told.get("anyOf"))) and not told.get("description")
    ]
    assert silent == []


def test_client_when_compared_with_the_routes_then_it_can_call_each() -> None:
    trade = TradeRequest.model_validate(TRADE)
    calls: list[api.Call[Any]] = [
        api.signal("BTC/USDT"), api.signals(), api.signal_by("x"), api.why("x"), api.agents(),
        api.weights(), api.scores(), api.calibration(), api.trades(), api.trade("x"),
        api.tell_trade(trade), api.positions(), api.orders(), api.equity(), api.journal(),
        api.journal_entry("x"), api.write_journal(JournalRequest(trade_id="x", text="y")),
        api.risk(), api.risk_events(), api.report_event("x", "y"), api.kill(), api.arm(),
        api.report_operator(50), api.health(), api.assertions(), api.measure_assertions(),
        api.proposals(), api.decide_proposal(1, "accept"), api.symbols(), api.symbol("BTC/USDT"),
        api.add_symbol(SymbolRequest(symbol="ETH/USDT")),
        api.change_symbol("ETH/USDT", SymbolChange(active=False)), api.remove_symbol("ETH/USDT"),
        api.jobs(), api.job(1), api.queue_job("train"), api.cancel_job(1),
    ]  # fmt: skip
    for call in calls:
        assert call.answer == route_of(call.method, call.path).response_model, call.path
    documented = {
        (method, route.path)
        for route in known_routes()
        if route.include_in_schema and route.path.startswith("/v1/") and route.path != "/v1/stream"
        for method in route.methods
    }
    assert {(call.method, route_of(call.method, call.path).path) for call in calls} == documented


@pytest.mark.long
def test_routes_when_each_is_asked_of_a_desk_at_work_then_it_answers_as_documented(
    tmp_path: Path,
) -> None:
    asked: set[tuple[str, str]] = set()

    async def scene() -> None:
        settings = settings_in(tmp_path, "exercise")
        (settings.data.raw_dir).mkdir(parents=True)
        (settings.data.raw_dir / "BTCUSDT-demo-perp-5m.parquet").write_bytes(b"none yet")
        async with at_work(EXERCISE, settings) as world:
            await everything(world, asked)

    run(scene)
    documented = {
        (method, route.path)
        for route in known_routes()
        if route.include_in_schema
        for method in route.methods
    }
    assert documented - asked == {("GET", "/v1/stream"), ("POST", "/v1/proposals/{proposal_id}")}


async def everything(world: World, asked: set[tuple[str, str]]) -> None:
    async def ask(method: str, path: str, body: Any = None) -> Any:
        asked.add((method, route_of(method, path.partition("?")[0]).path))
        return told_exactly(await world.ask(method, path, body), method, path)

    async def until(path: str) -> Any:
        for _ in range(600):
            found = await ask("GET", path)
            if found["items"]:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"{path} stays empty")

    trade = (await until("/v1/trades?limit=2"))["items"][0]
    made = await ask("POST", "/v1/signals", {"symbol": "BTC-USDT"})
    assert (await ask("POST", "/v1/signals", {"symbol": "BTCUSDT", "as_of": made["as_of"]})) == made
    assert (await ask("GET", f"/v1/signals/{made['id']}")) == made
    why = await ask("GET", f"/v1/signals/{trade['decision_id']}/why")
    assert why["signal"]["id"] == trade["decision_id"]
    assert len((await ask("GET", "/v1/signals?limit=3"))["items"]) == 3
    for path in (
        "/v1/agents", "/v1/agents/weights?history=3", "/v1/agents/scores", "/v1/calibration",
        "/v1/positions", "/v1/orders", "/v1/equity", "/v1/risk/state", "/v1/journal",
        "/v1/assertions", "/v1/proposals", "/v1/symbols", "/v1/system/health", "/health/live",
        "/health/ready",
    ):  # fmt: skip
        await ask("GET", path)
    assert (await world.ask("GET", "/metrics")).text.startswith("# HELP")
    asked.add(("GET", "/metrics"))
    assert (await ask("GET", f"/v1/trades/{trade['id']}")) == trade
    assert (await ask("GET", f"/v1/journal/{trade['id']}"))["id"] == trade["id"]
    said = {"trade_id": trade["id"], "text": "It went as the rules of the exercise wanted it."}
    assert (await ask("POST", "/v1/journal", said))["new"] is True

    told = await ask("POST", "/v1/trades", TRADE)
    assert (told["new"], told["trade"]["pnl"]) == (True, "18.0")
    assert (await ask("POST", "/v1/trades", TRADE)) == {**told, "new": False}
    assert (await ask("GET", f"/v1/trades/{told['trade']['id']}")) == told["trade"]
    assert (await ask("GET", "/v1/trades?account=external"))["items"] == [told["trade"]]

    await ask("POST", "/v1/risk/hrv", {"value": 50})
    await ask("POST", "/v1/risk/events", {"id": "news-1", "text": "rate decision"})
    assert (await ask("POST", "/v1/risk/kill", {"why": "drill"}))["mode"] == "KILLED"
    code = (await ask("POST", "/v1/risk/arm"))["confirm"]
    assert (await ask("POST", "/v1/risk/arm", {"confirm": code}))["mode"] == "ACTIVE"
    rows = (await ask("GET", "/v1/risk/events"))["items"]
    assert {row["type"] for row in rows} >= {"mode_change", "risk_event", "operator_report"}
    await ask("POST", "/v1/assertions")

    added = await ask("POST", "/v1/symbols", {"symbol": "ETHUSDT", "meta": {"why": "second"}})
    assert added == {
        "symbol": "ETH/USDT", "market": "spot", "timeframe": "5m", "active": True,
        "meta": {"why": "second"}, "followed": False,
    }  # fmt: skip
    assert (await ask("GET", "/v1/symbols/ETH-USDT")) == added
    changed = await ask("PATCH", "/v1/symbols/ETH-USDT", {"active": False})
    assert changed == {**added, "active": False}
    assert (await ask("DELETE", "/v1/symbols/ETH-USDT")) == changed

    args = {"data": "BTCUSDT-demo-perp-5m.parquet", "profile": "exercise", "timerange": "-20250201"}
    job = await ask("POST", "/v1/system/jobs", {"kind": "backtest", "args": args})
    assert job["command"] == [
        "backtest", "--data", args["data"], "--profile=exercise", "--timerange=-20250201", "--json",
    ]  # fmt: skip
    assert (job["state"], job["by"]) == ("queued", "api")
    assert (await ask("GET", "/v1/system/jobs"))["items"] == [job]
    assert (await ask("GET", f"/v1/system/jobs/{job['id']}")) == job
    done = await ask("PATCH", f"/v1/system/jobs/{job['id']}", {"state": "cancelled"})
    assert done["state"] == "cancelled"
