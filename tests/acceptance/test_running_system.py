"""The whole system on Ray, as a user meets it: over HTTP and the command line."""

from __future__ import annotations

import json
import math
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.times import parse_iso
from tests.acceptance.running import Running, conclave
from tests.promql import expressions, metric_names

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

MEMBERS = {"baseline", "climatology", "risk", "technical"}


def served(system: Running) -> httpx.Client:
    """A client, once the desk gets its opinions through Serve."""

    def through_serve() -> bool:
        with system.client() as client:
            return bool(client.get("/v1/system/health").json()["desk"]["via"] == "serve")

    system.until(180, through_serve, "opinions through Serve")
    return system.client()


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_signal_when_asked_then_every_member_votes_and_contributions_sum_to_the_probability(
    system: Running,
) -> None:
    with served(system) as client:

        def whole() -> dict[str, Any] | None:
            """A signal to which nobody was late, as they may be on a busy machine."""
            reply = client.post("/v1/signals", json={"symbol": "BTCUSDT"}).raise_for_status()
            signal: dict[str, Any] = reply.json()
            return None if signal["absent"] else signal

        signal = system.until(60, whole, "signal without anybody absent")
        why = client.get(f"/v1/signals/{signal['id']}/why").raise_for_status().json()

    assert {vote["agent"] for vote in why["votes"]} == MEMBERS
    assert set(signal["weights"]) <= MEMBERS  # who is worse than climatology here loses its seat
    assert sum(signal["weights"].values()) == pytest.approx(1.0)
    assert signal["absent"] == {}
    assert not signal["degraded"]
    assert signal["origin"] == "on_demand"
    assert signal["source"] == "demo"
    assert signal["confidence"] == pytest.approx(abs(2 * signal["prob_up"] - 1), abs=1e-12)
    assert signal["p10"] <= signal["p50"] <= signal["p90"]
    total = sum(signal["contributions"].values())
    assert total == pytest.approx(logit(signal["prob_up"]), abs=1e-12)


def test_signal_when_asked_twice_about_one_bar_then_it_is_the_same_signal(system: Running) -> None:
    with served(system) as client:
        bar = client.get("/v1/signals?limit=1").json()["items"][0]["as_of"]
        ask = {"symbol": "BTC/USDT", "as_of": bar}
        first, second = (client.post("/v1/signals", json=ask).json() for _ in range(2))
        stored = client.get(f"/v1/signals/{first['id']}").json()

    assert first == second == stored
    assert first["as_of"] == bar


def test_desk_when_bars_close_then_each_gets_exactly_one_decision_in_order(
    system: Running,
) -> None:
    with served(system) as client:
        system.until(60, lambda: len(_instants(system)) >= 3, "decisions of three bars")
        items = client.get("/v1/signals?limit=1000").json()["items"]

    bars = [item["as_of"] for item in items if item["origin"] == "bar"]
    assert len(bars) >= 3
    assert bars == sorted(set(bars), reverse=True)


def test_why_when_asked_over_http_and_cli_then_both_say_the_same(system: Running) -> None:
    with served(system) as client:
        signal = client.get("/v1/signals?limit=10").json()["items"][-1]
        over_http = client.get(f"/v1/signals/{signal['id']}/why").json()

    told = conclave(system.var_dir, "why", signal["id"], "--json")

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["votes"] == over_http["votes"]
    assert {vote["agent"] for vote in over_http["votes"]} == MEMBERS
    assert over_http["costs"]["fee_bps"] == 10.0
    assert "prob_min" in json.dumps(over_http["margins"])


def test_pages_when_walked_by_cursor_then_nothing_is_missing_or_twice(system: Running) -> None:
    with system.client() as client:
        whole = client.get("/v1/signals?limit=60").json()["items"]
        url = "/v1/signals?limit=7"
        first = client.get(url).json()
        walked, cursor = first["items"], first["next"]
        while cursor is not None and len(walked) < 60:
            page = client.get(f"{url}&cursor={cursor}").json()
            walked, cursor = walked + page["items"], page["next"]

    ids = [item["id"] for item in walked]
    assert len(ids) == len(set(ids))
    wanted = [item["id"] for item in whole]
    start = ids.index(wanted[0])
    assert ids[start : start + 40] == wanted[:40]


def test_status_page_when_opened_then_it_says_that_the_market_is_simulated(
    system: Running,
) -> None:
    with system.client() as client:
        page = client.get("/")

    assert page.status_code == 200
    assert "Simulated market" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_metrics_when_scraped_then_weights_and_rows_are_there(system: Running) -> None:
    with system.client() as client:
        text = client.get("/metrics").text

    assert 'conclave_weight{agent="technical",symbol="BTC/USDT"}' in text
    assert 'conclave_ledger_rows_total{table="decisions"}' in text


def test_rules_and_boards_when_the_system_is_scraped_then_what_they_read_is_told(
    system: Running,
) -> None:
    """Counters without a count yet are told by name only: their type line counts."""
    wanted = set().union(*map(metric_names, expressions().values()))

    def told() -> set[str]:
        with served(system) as client:
            client.get("/no/such/route")  # an error for Ray to count
            texts = [client.get("/metrics").text]
        texts += [httpx.get(f"http://{address}/metrics").text for address in ray_addresses(system)]
        lines = [line for text in texts for line in text.splitlines()]
        return {name for line in lines for name in names_of(line)}

    end, missing = time.monotonic() + 60, wanted
    while missing and time.monotonic() < end:
        unseen = wanted - told()
        missing = {name for name in unseen if name.startswith(("conclave_", "ray_"))}
    assert not missing


def ray_addresses(system: Running) -> list[str]:
    """Where Ray's nodes tell their figures, as this cluster tells Prometheus."""
    words = " ".join(word for process in system.processes() for word in process.cmdline())
    found = re.search(r"(/\S+?/session_[\w-]+)", words)
    assert found is not None
    path = Path(found[1], "prom_metrics_service_discovery.json")
    groups = json.loads(path.read_text()) if path.exists() else []
    return [target for group in groups for target in group["targets"]]


def names_of(line: str) -> set[str]:
    """The metric of a line, and the series that a type line promises."""
    if line.startswith("# TYPE "):
        _, _, name, kind = line.split()[:4]
        endings = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",)}
        stem = name.removesuffix("_total")
        return {name, *(stem + ending for ending in endings.get(kind, ()))}
    return set() if line.startswith("#") else {line.split("{")[0].split(" ")[0]}


def test_status_when_running_then_cli_reads_it(system: Running) -> None:
    told = conclave(system.var_dir, "status", "--json")

    body = json.loads(told.stdout)
    assert body["health"]["simulated"] is True
    assert {row["agent"] for row in body["weights"]} == MEMBERS


def test_replica_when_killed_under_load_then_requests_are_answered_degraded_and_it_returns(
    system: Running,
) -> None:
    with served(system) as client:
        victims = system.replicas("baseline")
        assert victims, "baseline has no replica"
        for victim in victims:
            victim.kill()

        bar = client.get("/v1/signals?limit=1").json()["items"][0]["as_of"]
        answers = []
        end = time.monotonic() + 60
        while time.monotonic() < end:
            reply = client.post("/v1/signals", json={"symbol": "BTC/USDT", "as_of": bar})
            answers.append((reply.status_code, reply.json()))
            if len(answers) > 3 and not answers[-1][1]["degraded"]:
                break

    assert {status for status, _ in answers} == {200}
    without = [body for _, body in answers if "baseline" in body["absent"]]
    assert without, "nobody noticed"
    for body in without:
        assert body["degraded"]
        assert body["absent"]["baseline"] in ("unreachable", "deadline", "failed")
        assert sum(body["weights"].values()) == pytest.approx(1.0)
    assert answers[-1][1]["absent"] == {}, "baseline did not come back"


@pytest.mark.long
def test_kill_when_ordered_then_flat_and_refusing_until_armed_in_two_steps(
    system: Running,
) -> None:
    with served(system) as client, system.authorised() as officer:
        refused = client.post("/v1/risk/kill", json={"why": "no token"})
        assert refused.status_code == 401
        assert officer.post("/v1/risk/kill", json={"why": "drill"}).json()["mode"] == "KILLED"

        def flat() -> bool:
            return client.get("/v1/positions").json()["items"] == []

        system.until(60, flat, "flat account")
        assert client.get("/v1/risk/state").json()["mode"] == "KILLED"
        orders = len(_entries(client))
        bars = len(_instants(system))
        system.until(120, lambda: len(_instants(system)) >= bars + 6, "six more bars")
        assert len(_entries(client)) == orders, "an entry was sent while killed"

        step = officer.post("/v1/risk/arm", json={}).json()
        assert step["mode"] == "KILLED"
        wrong = officer.post("/v1/risk/arm", json={"confirm": "000000"})
        assert wrong.status_code == 422
        step = officer.post("/v1/risk/arm", json={}).json()
        armed = officer.post("/v1/risk/arm", json={"confirm": step["confirm"]}).json()
        assert armed["mode"] == "ACTIVE"


def test_ledger_when_verified_while_running_then_it_is_clean(system: Running) -> None:
    told = conclave(system.var_dir, "ledger", "verify", "--json")

    body = json.loads(told.stdout)
    assert told.returncode == 0
    assert body["ok"]
    assert body["rows"] > 1000


def _entries(client: httpx.Client) -> list[str]:
    orders = client.get("/v1/orders?limit=1000").json()["items"]
    return [order["id"] for order in orders if order["intent"] == "entry"]


def _instants(system: Running) -> list[int]:
    with system.client() as client:
        items = client.get("/v1/signals?limit=1000").json()["items"]
    live = [item["as_of"] for item in items if item["origin"] == "bar"]
    return sorted(parse_iso(instant) for instant in live)


@pytest.mark.long
def test_desk_when_killed_then_it_is_restarted_and_no_bar_is_lost_or_doubled(
    system: Running,
) -> None:
    served(system).close()
    desk = [p for p in system.processes() if "serving.desk_process" in p.cmdline()]
    assert len(desk) == 1
    before = _instants(system)
    desk[0].kill()

    def carried_on() -> bool:
        return len(_instants(system)) >= len(before) + 5

    system.until(60, carried_on, "decisions after the desk's restart")
    after = _instants(system)
    assert after[: len(before)] == before
    assert {b - a for a, b in pairwise(after)} == {300_000}


@pytest.mark.slow
def test_ray_when_its_host_is_killed_then_the_desk_decides_by_itself_and_serve_comes_back(
    system: Running,
) -> None:
    served(system).close()
    before = _instants(system)
    host = [p for p in system.processes() if "serving.ray_host" in p.cmdline()]
    host[0].kill()

    def another() -> bool:
        hosts = [p for p in system.processes() if "serving.ray_host" in p.cmdline()]
        return bool(hosts) and hosts[0].pid != host[0].pid

    system.until(60, another, "another Ray host")
    served(system).close()
    after = system.until(20, lambda: _instants(system), "decisions")
    assert len(after) > len(before)
    assert {b - a for a, b in pairwise(after)} == {300_000}
