"""Models promoted, refused and missing, as the API of a council shows them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from agents.artifacts import promote
from agents.host import threaded
from agents.reloading import Reloading
from domain.ports import Needs
from serving.api import create_api
from serving.bootstrap.agents import live_agents
from serving.bootstrap.service import council_service
from serving.plan import RunPlan
from serving.promotion import Refresher
from serving.service import CouncilService
from serving.settings import Settings, load_settings
from tests.command_line import COUNCIL_OF_FOUR, Cli, spot
from tests.model_files import SECOND, damage, in_use, made, wider


def settings(folder: Path, **env: str) -> Settings:
    env = {"VAR_DIR": str(folder), "CONCLAVE_MODELS__AGENTS": COUNCIL_OF_FOUR, **env}
    return load_settings(env=env, profile="demo")


def service(here: Settings, agents: Mapping[str, Reloading]) -> CouncilService:
    plan = RunPlan("replay", "test", "demo", None, data=(), local=True)
    return council_service(plan, here, {name: threaded(agent) for name, agent in agents.items()})


async def _get(app: Any, path: str) -> dict[str, Any]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return dict((await client.get(path)).raise_for_status().json())


def get(council: CouncilService, path: str) -> dict[str, Any]:
    council._met_at = float("-inf")  # a test does not wait until they are asked again
    return asyncio.run(_get(create_api(council), path))


def by_name(council: CouncilService) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in get(council, "/v1/agents")["items"]}


def until(seen: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if found := seen():
            return found
        time.sleep(0.05)
    raise AssertionError("not seen within 20 s")


@pytest.mark.long
def test_agents_when_a_version_is_promoted_then_the_api_shows_it_within_seconds(
    tmp_path: Path,
) -> None:
    here = settings(tmp_path)
    agents = live_agents(here)
    council = service(here, agents)
    before = by_name(council)
    assert set(before) == {"climatology", "technical", "baseline", "risk"}
    assert before["climatology"]["models"] == []
    assert [model["name"] for model in before["baseline"]["models"]] == [
        "baseline/trend", "baseline/return", "baseline/risk",
    ]  # fmt: skip
    assert {model["place"] for model in before["baseline"]["models"]} == {"shipped"}
    assert get(council, "/v1/system/health")["status"] == "degraded"  # no desk, nothing else
    with Refresher(agents.values(), seconds=0.05):
        card = in_use(here.data.models_dir, "risk", params=wider(1.1))
        row = until(lambda: (r := by_name(council)["risk"])["version"] == card.identity and r)
    [model] = row["models"]
    assert model == {
        "name": "risk", "version": card.version, "place": "models_dir", "wanted": card.version,
        "problem": "",
    }  # fmt: skip
    assert row["trained_until"] == "2025-01-01T00:00:00Z"
    assert by_name(council)["baseline"] == before["baseline"]


def test_health_when_a_promoted_version_is_refused_then_it_says_which_and_what_is_used(
    tmp_path: Path,
) -> None:
    here = settings(tmp_path)
    agents = live_agents(here)
    council = service(here, agents)
    version = before = by_name(council)["risk"]["version"]
    root = here.data.models_dir
    bad = made(root, "risk", SECOND, params=wider(1.1))
    promote(root, "risk", bad.version)
    damage(root, "risk", bad.version)
    assert not agents["risk"].refresh()
    row = by_name(council)["risk"]
    assert row["version"] == version == before
    assert (row["models"][0]["wanted"], row["models"][0]["place"]) == (bad.version, "shipped")
    [told] = [p for p in get(council, "/v1/system/health")["problems"] if "risk" in p]
    assert bad.version in told
    assert "sha256" in told
    assert told.endswith("(shipped) is instead")


def test_council_when_two_agents_have_no_model_then_the_others_decide_and_the_absent_are_named(
    tmp_path: Path,
) -> None:
    here = settings(tmp_path, PRED_HORIZON_STEPS="10")
    council = service(here, live_agents(here))
    rows = by_name(council)
    assert {name for name, row in rows.items() if row["problem"]} == {"baseline", "risk"}
    assert "horizon of 5 bars" in rows["risk"]["problem"]
    assert "PRED_HORIZON_STEPS=5" in rows["risk"]["problem"]
    assert (rows["risk"]["version"], rows["risk"]["models"]) == ("none", [])
    problems = get(council, "/v1/system/health")["problems"]
    assert any(text.startswith("risk: ") for text in problems)
    assert council.needs.bars > 8_000  # those of climatology, which is there


@pytest.mark.long
def test_signal_when_two_agents_have_no_model_then_it_is_decided_degraded_without_them(
    cli: Cli, tmp_path: Path
) -> None:
    assert cli("data", "import", spot(tmp_path))[0] == 0
    words = ("run-inference", "--profile", "demo", "--json", "--set", "PRED_HORIZON_STEPS=10")
    code, out, err = cli(*words)
    assert code == 0, err
    signal = json.loads(out)
    assert signal["degraded"]
    assert signal["absent"] == {"baseline": "no_model", "risk": "no_model"}
    assert set(signal["weights"]) == {"climatology", "technical"}
    code, _, err = cli("evaluate", "--data", spot(tmp_path), "--set", "PRED_HORIZON_STEPS=10")
    assert (code, "horizon of 5 bars" in err) == (1, True)  # a score names who was scored


@pytest.mark.long
def test_evaluate_when_the_promoted_model_is_damaged_then_it_names_the_one_that_was_used(
    cli: Cli, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "var" / "models"
    good = in_use(root, "risk", params=wider(1.1), end_ms=1)
    damage(root, "risk", in_use(root, "risk", SECOND, params=wider(1.2), end_ms=1).version)
    words = ("evaluate", "--data", spot(tmp_path), "--agents", "climatology,risk", "--json")
    code, out, err = cli(*words)
    assert code == 0, err
    assert json.loads(out)["models"]["risk"] == good.identity
    assert "risk" in caplog.text
    assert "sha256" in caplog.text


def test_needs_when_nobody_was_met_then_the_least(tmp_path: Path) -> None:
    here = settings(tmp_path)
    assert service(here, {}).needs == Needs()
