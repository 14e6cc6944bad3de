"""Promotion, refusal and rollback while the whole system runs on Ray."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.acceptance.running import Running, conclave
from tests.model_files import FIRST, SECOND, damage, made, wider

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]


def risk(system: Running) -> dict[str, Any]:
    with system.client() as client:
        rows = client.get("/v1/agents").raise_for_status().json()["items"]
    return next(row for row in rows if row["name"] == "risk")


@contextmanager
def asking(system: Running) -> Iterator[list[tuple[str, int | str]]]:
    """Ask for signals and agents all the time; yields (path, status) of every request."""
    answers: list[tuple[str, int | str]] = []
    leave = threading.Event()

    def ask() -> None:
        with system.client() as client:
            while not leave.is_set():
                for method, path, body in (
                    ("POST", "/v1/signals", {"symbol": "BTC/USDT"}),
                    ("GET", "/v1/agents", None),
                ):
                    try:
                        answers.append((path, client.request(method, path, json=body).status_code))
                    except httpx.HTTPError as error:
                        answers.append((path, repr(error)))
                leave.wait(0.05)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield answers
    finally:
        leave.set()
        asker.join()


def test_models_when_promoted_refused_and_rolled_back_then_replicas_follow_without_a_restart(
    system: Running,
) -> None:
    root = system.var_dir / "models"

    def through_serve() -> bool:
        with system.client() as client:
            return bool(client.get("/v1/system/health").json()["desk"]["via"] == "serve")

    system.until(60, through_serve, "opinions through Serve")
    shipped = risk(system)
    assert (shipped["runs"], shipped["models"][0]["place"]) == ("serve", "shipped")
    replicas = {process.pid for process in system.replicas("risk")}

    with asking(system) as answers:
        card = made(root, "risk", FIRST, params=wider(1.2))
        told = conclave(system.var_dir, "models", "promote", "risk", "--json")
        assert told.returncode == 0, told.stderr
        promoted_at = time.monotonic()
        system.until(15, lambda: risk(system)["version"] == card.identity, "new version")
        print(f"moved {time.monotonic() - promoted_at:.1f} s after the promotion")

        def voted() -> bool:
            with system.client() as client:
                last = client.get("/v1/signals?limit=1").json()["items"][0]["id"]
                votes = client.get(f"/v1/signals/{last}/why").json()["votes"]
            return {v["agent"]: v["model_version"] for v in votes}.get("risk") == card.identity

        system.until(15, voted, "vote of the new version")
        assert {status for _, status in answers} == {200}

        bad = made(root, "risk", SECOND, params=wider(1.3))
        damage(root, "risk", bad.version)
        refused = conclave(system.var_dir, "models", "promote", "risk", "--json")
        assert refused.returncode == 1
        assert "sha256" in refused.stderr
        by_hand = {"version": bad.version, "history": [None, card.version]}
        (root / "risk" / "promoted.json").write_text(json.dumps(by_hand))
        system.until(15, lambda: risk(system)["models"][0]["problem"], "refusal")
        kept = risk(system)
        assert kept["version"] == card.identity
        assert kept["models"][0]["wanted"] == bad.version
        status = json.loads(conclave(system.var_dir, "status", "--json").stdout)
        assert status["health"]["status"] == "degraded"
        assert any(bad.version in text for text in status["health"]["problems"])

        for _ in range(2):
            assert conclave(system.var_dir, "models", "rollback", "risk").returncode == 0
        system.until(15, lambda: risk(system) == shipped, "what ships")
    assert {status for _, status in answers} == {200}
    assert len(answers) > 50
    assert {process.pid for process in system.replicas("risk")} == replicas
