"""The document against the running system: whatever it allows, and what it does not, is sent."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.acceptance.running import NO_LIMITS, Running, conclave, start

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a library, at import
    import schemathesis
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

EXAMPLES = 5_000
CHECKS = [
    status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip
STREAM = "/v1/stream"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A system in one process that trades at every bar and has no rate limits."""
    var_dir = tmp_path_factory.mktemp("schema") / "var"
    raw = var_dir / "data" / "01_raw"
    raw.mkdir(parents=True)
    (raw / "BTCUSDT-binance-spot-5m-2024.parquet").write_bytes(b"nobody works on jobs here")
    flags = ["--speed", "300", "--profile", "exercise", "--set", "WARM_UP_DAYS=2", *NO_LIMITS]
    running = start(var_dir, ["--local", *flags])
    try:
        running.ready()
        with running.client() as client:
            running.until(60, lambda: client.get("/v1/trades").json()["items"], "closed trade")
        yield running
    finally:
        running.stop()


def known_ids(running: Running) -> dict[str, dict[str, Any]]:
    """For each path with a parameter, one that is there."""
    with running.authorised() as client:
        trade = client.get("/v1/trades").json()["items"][0]
        client.post("/v1/symbols", json={"symbol": "ETH/USDT"})
        args = {"data": "BTCUSDT-binance-spot-5m-2024.parquet"}
        job = client.post("/v1/system/jobs", json={"kind": "evaluate", "args": args}).json()
    return {
        "signal_id": {"signal_id": trade["decision_id"]}, "trade_id": {"trade_id": trade["id"]},
        "symbol": {"symbol": "BTC-USDT"}, "job_id": {"job_id": job["id"]},
    }  # fmt: skip


def exercise(running: Running, each: int) -> Counter[str]:
    """Send so many examples to every operation; return how many got which kind of answer."""
    answered: Counter[str] = Counter()
    document = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    ids = known_ids(running)
    headers = {"Authorization": f"Bearer {running.token}"}
    with requests.Session() as session:
        for found in document.get_all_operations():
            operation = found.ok()
            if operation.path == STREAM:
                continue
            name = operation.path.partition("{")[2].partition("}")[0]
            given_id = ids.get(name)
            strategies = [
                operation.as_strategy(),
                operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
                *([] if given_id is None else [operation.as_strategy(path_parameters=given_id)]),
            ]

            @seed(7)
            @settings(
                max_examples=each, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=st.one_of(strategies))
            def one(case: Any) -> None:
                reply = case.call(session=session, headers=headers, timeout=30)
                answered[f"{reply.status_code // 100}xx"] += 1
                answered[operation.label] += 1  # noqa: B023 - called at once
                judged(case, reply)

            one()
    return answered


def judged(case: Any, reply: Any) -> None:
    if reply.status_code >= 500:
        place = f"{case.operation.label}: {reply.status_code} {reply.text}"
        assert reply.status_code == 503, place
        assert int(reply.headers["retry-after"][0]) >= 1, place
    if reply.status_code >= 400:
        error = json.loads(reply.text)["error"]
        assert set(error) == {"code", "message", "hint", "request_id"}
        assert reply.headers["x-request-id"] == [error["request_id"]]
    case.validate_response(reply, checks=CHECKS)


def sound_afterwards(running: Running) -> None:
    with running.client() as client:
        health = client.get("/v1/system/health").json()
        assert health["desk"]["phase"] == "live"
        decided = health["desk"]["decided"]
        running.until(
            30, lambda: client.get("/v1/system/health").json()["desk"]["decided"] > decided,
            "another decision",
        )  # fmt: skip
    assert running.stop() == 130
    told = running.output.read_text() + "".join(
        path.read_text() for path in (running.var_dir / "logs").glob("*.jsonl")
    )
    assert "Traceback" not in told
    assert running.token not in told
    done = conclave(running.var_dir, "ledger", "verify")
    assert (done.returncode, done.stderr) == (0, "")


def test_document_when_some_examples_are_sent_then_every_answer_is_as_it_says(
    system: Running,
) -> None:
    answered = exercise(system, 4)
    assert answered["2xx"] > 40
    assert answered["4xx"] > 30


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_document_when_five_thousand_are_sent_then_every_answer_is_as_it_says_and_it_decides_on(
    system: Running,
) -> None:
    answered = exercise(system, 180)
    print(dict(answered))
    assert sum(answered[kind] for kind in ("2xx", "4xx", "5xx")) >= EXAMPLES
    sound_afterwards(system)
