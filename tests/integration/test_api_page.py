"""The page at /docs: whole, and with nothing from other hosts."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from serving.api_docs import ASSETS, PAGE
from tests.api_world import EXERCISE, api_of, asking, run, served, settings_in
from tests.browser import CHROMIUM


def test_docs_when_opened_then_the_page_and_its_parts_come_from_here(tmp_path: Path) -> None:
    async def scene() -> None:
        app = api_of(EXERCISE, settings_in(tmp_path, "exercise"))
        async with asking(app, tmp_path) as world:
            page = await world.ask("GET", PAGE)
            assert page.status_code == 200
            parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
            assert len(parts) == 3
            for part in parts:
                assert part.startswith(f"{ASSETS}/")
                reply = await world.ask("GET", part)
                assert reply.status_code == 200
                assert len(reply.content) > 500
                assert reply.headers["x-content-type-options"] == "nosniff"
            policy = page.headers["content-security-policy"]
            assert "http" not in policy
            assert "default-src 'none'" in policy
            assert (await world.ask("GET", "/redoc")).status_code == 404
            assert (await world.ask("GET", f"{ASSETS}/../main.py")).status_code == 404

    run(scene)


@pytest.mark.browser
def test_docs_when_opened_in_a_browser_then_the_routes_are_listed(tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    found: list[str] = []

    async def scene() -> None:
        app = api_of(EXERCISE, settings_in(tmp_path, "exercise"))
        async with served(app) as port:
            shown = await asyncio.to_thread(
                subprocess.run,
                [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu",
                 f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000",
                 "--dump-dom", f"http://127.0.0.1:{port}{PAGE}"],
                capture_output=True, text=True, timeout=90, check=True,
            )  # fmt: skip
            found.append(shown.stdout)

    run(scene)
    assert "/v1/signals" in found[0]
    assert "Conclave" in found[0]
