"""All seven agents on Ray, as ``make run`` starts them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from serving.settings.models import AGENTS
from tests.acceptance.running import Running, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    var_dir = tmp_path_factory.mktemp("whole") / "var"
    everybody = {"CONCLAVE_MODELS__AGENTS": ",".join(AGENTS)}
    running = start(var_dir, ["--speed", "60", "--set", "WARM_UP_DAYS=8"], everybody)
    try:
        yield running.ready(400.0)
    finally:
        running.stop()


def test_up_when_started_then_all_seven_agents_answer(whole):
    def signal() -> dict | None:
        with whole.client() as client:
            body = client.post("/v1/signals", json={"symbol": "BTC/USDT"}).json()
        return body if not body["absent"] else None

    body = whole.until(120.0, signal, "signal with all agents")
    with whole.client() as client:
        why = client.get(f"/v1/signals/{body['id']}/why").json()
    assert {vote["agent"] for vote in why["votes"]} == set(AGENTS)
    assert body["degraded"] is False


def test_agents_route_when_all_run_then_chronos_names_its_model_and_exam(whole):
    def cards() -> dict | None:  # asked for every few seconds at most
        with whole.client() as client:
            items = client.get("/v1/agents").json()["items"]
        found = {card["name"]: card for card in items}
        return found if found["chronos"]["notes"] else None

    found = whole.until(60.0, cards, "Chronos's card")
    assert set(found) == set(AGENTS)
    notes = found["chronos"]["notes"]
    assert any("ChronosBoltPipeline" in note for note in notes)
    assert any("BTC/USDT 5m ready: coverage" in note for note in notes)
    assert {model["name"] for model in found["tft"]["models"]} == {
        "tft/trend", "tft/return", "tft/risk",
    }  # fmt: skip


def test_chronos_replica_when_killed_then_signals_go_on_and_it_comes_back(whole):
    (replica,) = whole.replicas("chronos")
    replica.kill()
    with whole.client() as client:
        body = client.post("/v1/signals", json={"symbol": "BTC/USDT"}).json()
    assert body["decision"] in {"LONG", "SHORT", "NO_TRADE"}
    time.sleep(1.0)

    def back() -> bool:
        with whole.client() as client:
            return not client.post("/v1/signals", json={"symbol": "BTC/USDT"}).json()["absent"]

    whole.until(180.0, back, "chronos back")
