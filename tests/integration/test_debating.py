"""The desk with a language model that debates: never late for it, never moved in its probation."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from providers import openai, serving

from domain.decision import Decision
from domain.errors import SettingError
from domain.market import Bar
from domain.opinion import Opinion
from domain.ports import MarketSource
from serving.bootstrap.desk import build_desk_on
from serving.bootstrap.storage import open_storage
from serving.debating import debating
from serving.feeds import feed_of
from serving.plan import RunPlan
from serving.settings import Settings, load_settings
from storage.queries import Reader

SYMBOL, LIVE = "BTC/USDT", 6
PLAN = RunPlan("demo", "demo-7", "demo", None, warm_up_days=1, local=True)
EXTREME = json.dumps({"move": 1, "argument": "Up, at once. Ignore the others."})


@dataclass
class First:
    """The first live bars of a market."""

    source: MarketSource

    @property
    def label(self) -> str:
        return self.source.label

    def stream(self, after_ms: Mapping[str, int]) -> Iterator[Bar]:
        return islice(self.source.stream(after_ms), LIVE)


def settings_in(var_dir: Path, **debate: Any) -> Settings:
    overrides = {"VAR_DIR": str(var_dir), "models.agents": "climatology,technical,risk"}
    overrides |= {"SERVING.MONITOR": "false"}
    overrides |= {"serving.agent_deadline_s": "60"}  # whoever is late here is so by chance
    overrides |= {f"debate.{name}": str(value) for name, value in debate.items()}
    return load_settings(env={"XAI_API_KEY": "sk-test"}, profile="demo", overrides=overrides)


def lived(settings: Settings) -> tuple[list[Decision], list[Opinion], float]:
    """Decisions on live bars, everything said on them, and the seconds it all took."""
    feed = feed_of(PLAN, settings)
    desk = build_desk_on(PLAN, settings, replace(feed, source=First(feed.source)))
    began = time.monotonic()
    asyncio.run(desk.run())
    took = time.monotonic() - began
    reader = Reader(open_storage(settings), PLAN.world)
    made = [x for _, x in reader.decisions(SYMBOL, limit=LIVE).items][::-1]
    said = [o for d in made for _, o in reader.opinions_at(SYMBOL, d.as_of)]
    return made, said, took


def told(decision: Decision) -> dict[str, Any]:
    return {
        name: getattr(decision, name)
        for name in ("as_of", "prob_up", "quantiles", "risk_down", "weights", "intent", "reasons")
    }


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> list[Decision]:
    return lived(settings_in(tmp_path_factory.mktemp("quiet")))[0]


@pytest.mark.long
def test_desk_when_a_model_debates_in_probation_then_it_is_stored_and_moves_no_decision(
    quiet: list[Decision], tmp_path: Path
) -> None:
    with serving(openai(EXTREME)) as (url, got):
        made, said, _ = lived(
            settings_in(tmp_path, providers="grok", grok_url=url, step=1, timeout_s=30)
        )
    assert len(got) == LIVE
    voices = [x for x in said if x.agent == "grok"]
    assert [x.as_of for x in voices] == [d.as_of for d in made]
    assert all(x.p_up is not None and x.p_up > 0.6 for x in voices)
    assert [told(d) for d in made] == [told(d) for d in quiet]
    assert not any("grok" in d.absent or d.degraded for d in made)


@pytest.mark.long
def test_desk_when_a_model_is_too_slow_then_decisions_do_not_wait_for_it(
    quiet: list[Decision], tmp_path: Path
) -> None:
    with serving(openai(EXTREME), wait=30.0) as (url, got):
        made, said, took = lived(
            settings_in(tmp_path, providers="grok", grok_url=url, timeout_s=0.5)
        )
    assert 1 <= len(got) <= LIVE  # on a busy machine the time may be over before it is asked
    assert "grok" not in {x.agent for x in said}
    assert [told(d) for d in made] == [told(d) for d in quiet]
    assert took < 30.0


@pytest.mark.long
def test_desk_when_the_stub_debates_then_two_runs_are_the_same(tmp_path: Path) -> None:
    one, other = (
        lived(settings_in(tmp_path / str(k), providers="stub", timeout_s=30)) for k in range(2)
    )
    assert [told(d) for d in one[0]] == [told(d) for d in other[0]]
    assert [o for o in one[1] if o.agent == "stub"] == [o for o in other[1] if o.agent == "stub"]


def test_debating_when_a_provider_has_no_key_then_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="ANTHROPIC_API_KEY"):
        debating(settings_in(tmp_path, providers="claude"))


def test_settings_when_a_provider_is_unknown_then_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"debate\.providers"):
        settings_in(tmp_path, providers="grokk")
