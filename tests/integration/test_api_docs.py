"""What docs/api.md says: its examples run, and no route, scope, code or limit is told wrong."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from serving.http_server import MOST_CONNECTIONS, MOST_HEAD_BYTES
from serving.refusals import STATUS
from serving.routes import PARTS
from serving.scopes import scope_of
from serving.settings.serving import ServingSettings
from serving.streaming import MOST_STREAMS, STALLED_SECONDS
from tests.api_world import EXERCISE, at_work, run, served, settings_in

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (.+?) \| .+? \| `(\w+)` \|$", re.MULTILINE)


@pytest.mark.long
def test_examples_when_run_against_a_desk_at_work_then_they_print_what_they_should(
    tmp_path: Path,
) -> None:
    examples = re.findall(r"```python\n(.+?)```", TEXT, re.DOTALL)
    assert len(examples) == 3
    told: list[str] = []

    def play(address: str) -> None:
        for example in examples:
            code = example.replace("http://127.0.0.1:8000", address)
            code = code.replace("var/api_token", str(tmp_path / "api_token"))
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(code, "docs/api.md", "exec"), {"__name__": "example"})
            told.append(output.getvalue())

    async def scene() -> None:
        async with at_work(EXERCISE, settings_in(tmp_path, "exercise")) as world:
            while not (await world.ask("GET", "/v1/trades")).json()["items"]:
                await asyncio.sleep(0.05)
            async with served(world.app) as port:
                await asyncio.to_thread(play, f"http://127.0.0.1:{port}")

    run(scene)
    first, second, third = told
    assert (
        "signal: is not in the ledger (got 'unknown')" in first or "is not in the ledger" in first
    )
    assert len(second.splitlines()) == 3
    assert third == "3.80 False\n"


def test_table_when_compared_with_the_routes_then_each_is_there_with_its_scope() -> None:
    told: dict[tuple[str, str], str] = {}
    for routes, scope in ROW.findall(TEXT):
        method = ""
        for words in re.findall(r"`([^`]+)`", routes):
            verb, _, path = words.rpartition(" ")
            if path in ("PATCH", "DELETE"):
                told[path, _last_path(routes)] = scope
                continue
            method = verb or method
            told[method, path.partition("?")[0]] = scope
    known = {
        (method, re.sub(r"\{\w+\}", "{id}", route.path))
        for part in PARTS
        for route in part.routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods
        if not route.path.startswith("/health/")
    }
    assert set(told) == known
    for (method, path), scope in told.items():
        assert scope_of(method, path) == scope, (method, path)


def _last_path(routes: str) -> str:
    return re.findall(r"/v1/[^`]+", routes)[-1]


def test_codes_when_compared_with_the_errors_then_each_stands_beside_its_status() -> None:
    rows = dict.fromkeys(STATUS.values(), "")
    for status, codes in re.findall(r"^\| ([\d, ]+) \| (.+?) \|", TEXT, re.MULTILINE):
        for one in status.split(", "):
            rows[int(one)] = codes
    for code, status in STATUS.items():
        assert f"`{code}`" in rows[status] or "…" in rows[status], code


def test_limits_when_compared_with_the_code_then_they_are_those() -> None:
    words = " ".join(TEXT.split())
    settings = ServingSettings()
    streams, most = settings.max_streams, settings.max_ongoing_requests - MOST_STREAMS
    for claim in (
        f"`rate_reads`, {settings.rate_reads:g} a second",
        f"`rate_writes`, {settings.rate_writes:g}",
        f"{most} requests at a time", f"{streams} streams", f"{MOST_CONNECTIONS:,} connections",
        f"{settings.patience_s:g} s for head and body", f"over {MOST_HEAD_BYTES // 1024} KiB",
        f"every {settings.heartbeat_s:g} s", f"takes nothing for {STALLED_SECONDS:g} s",
    ):  # fmt: skip
        assert claim in words, claim
