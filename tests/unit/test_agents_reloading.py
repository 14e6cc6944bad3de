"""Agents that follow what is promoted, on real files of real models."""

from __future__ import annotations

import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from agents.artifacts import FolderStore, pointers_stamp, promote, rollback
from agents.contract import card_of, sleep_reason
from agents.registry import load_agent
from agents.reloading import Reloading
from domain.market import MarketState
from tests.agents_world import market, states_of
from tests.model_files import FIRST, SECOND, THIRD, damage, in_use, made, wider


def following(root: Path, name: str = "risk", shipped: Path | None = None) -> Reloading:
    store = FolderStore(root) if shipped is None else FolderStore(root, shipped)
    return Reloading(name, 5, partial(load_agent, name, store), partial(pointers_stamp, root, name))


@pytest.fixture(scope="module")
def states() -> list[MarketState]:
    agent = load_agent("risk", FolderStore()).agent
    return list(states_of(agent, market(700)))[-3:]


def spread(agent: Reloading, states: list[MarketState]) -> float:
    quantiles = agent.opine(states)[-1].quantiles
    assert quantiles is not None
    return quantiles.at(0.9) - quantiles.at(0.1)


def test_refresh_when_a_version_is_promoted_then_the_agent_moves_and_back_on_rollback(
    tmp_path: Path, states: list[MarketState]
) -> None:
    agent = following(tmp_path)
    shipped, narrow = agent.version, spread(agent, states)
    assert not agent.refresh()
    card = in_use(tmp_path, "risk", params=wider(1.5))
    assert agent.version == shipped  # not before it looks
    assert agent.refresh()
    assert agent.version == card.identity == agent.opine(states)[0].model_version
    assert spread(agent, states) == pytest.approx(1.5 * narrow)
    assert [model.version for model in agent.card.models] == [card.version]
    rollback(tmp_path, "risk")
    assert agent.refresh()
    assert agent.version == shipped


def test_refresh_when_the_promoted_version_is_damaged_then_the_old_one_serves_and_its_card_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = in_use(tmp_path, "risk", FIRST, params=wider(1.1))
    agent = following(tmp_path)
    bad = made(tmp_path, "risk", SECOND, params=wider(1.2))
    promote(tmp_path, "risk", bad.version)
    damage(tmp_path, "risk", bad.version)
    assert not agent.refresh()
    [model] = agent.card.models
    assert (agent.version, model.version, model.wanted) == (
        good.identity, good.version, bad.version,
    )  # fmt: skip
    assert "sha256" in model.problem
    assert "sha256" in agent.card.problems[0]
    assert "sha256" in caplog.text
    promote(tmp_path, "risk", made(tmp_path, "risk", THIRD, params=wider(1.3)).version)
    assert agent.refresh()
    assert agent.card.problems == ()


def test_refresh_when_the_pointer_is_half_written_then_it_does_not_fall_back_to_what_ships(
    tmp_path: Path,
) -> None:
    good = in_use(tmp_path, "risk", params=wider(1.1))
    agent = following(tmp_path)
    (tmp_path / "risk" / "promoted.json").write_text('{"version": "20')
    assert not agent.refresh()
    assert agent.version == good.identity
    assert "readable JSON" in agent.card.problems[0]


def test_refresh_when_a_damaged_version_is_mended_and_promoted_again_then_it_is_taken(
    tmp_path: Path,
) -> None:
    agent = following(tmp_path)
    card = in_use(tmp_path, "risk", params=wider(1.2))
    path = damage(tmp_path, "risk", card.version)
    assert not agent.refresh()
    damage(tmp_path, "risk", card.version)  # the same bit again
    assert path.is_file()
    assert not agent.refresh()  # nothing was promoted
    promote(tmp_path, "risk", card.version)
    assert agent.refresh()
    assert agent.version == card.identity


def test_refresh_when_one_of_three_targets_is_refused_then_none_moves(tmp_path: Path) -> None:
    kept = in_use(tmp_path, "baseline/return", FIRST, end_ms=1)
    agent = following(tmp_path, "baseline")
    before = agent.version
    damage(tmp_path, "baseline/return", in_use(tmp_path, "baseline/return", SECOND).version)
    damage(tmp_path, "baseline/return", kept.version)  # what would stand in ships
    new = in_use(tmp_path, "baseline/trend", FIRST, params={"shrink": 0.5})
    assert not agent.refresh()
    assert agent.version == before
    models = {model.name: model for model in agent.card.models}
    assert models["baseline/return"].version == kept.version
    assert "sha256" in models["baseline/return"].problem
    assert models["baseline/trend"].wanted == new.version
    assert "refused" in models["baseline/trend"].problem


def test_reloading_when_there_is_no_model_then_it_is_silent_until_one_is_promoted(
    tmp_path: Path, states: list[MarketState]
) -> None:
    agent = following(tmp_path / "mine", shipped=tmp_path / "nothing")
    said = agent.opine(states)
    assert [sleep_reason(opinion) for opinion in said] == ["no_model"] * 3
    assert {opinion.model_version for opinion in said} == {"none"}
    assert "needs a promoted or shipped model" in agent.card.problems[0]
    assert agent.trained_until is None
    card = in_use(tmp_path / "mine", "risk")
    assert agent.refresh()
    assert agent.card == card_of(agent)
    assert (agent.version, agent.trained_until) == (card.identity, card.end_ms)
    assert agent.card.problems == ()
    assert sleep_reason(agent.opine(states)[0]) is None


def test_opine_when_the_agent_moves_meanwhile_then_each_answer_is_of_one_version(
    tmp_path: Path, states: list[MarketState]
) -> None:
    agent = following(tmp_path)
    one, two = (
        made(tmp_path, "risk", at, params=wider(times)) for at, times in ((FIRST, 2), (SECOND, 3))
    )
    heard: list[tuple[str, ...]] = []
    leave = threading.Event()

    def listen() -> None:
        while not leave.is_set():
            heard.append(tuple(opinion.model_version for opinion in agent.opine(states)))

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        for card in (one, two, one, two):
            promote(tmp_path, "risk", card.version)
            assert agent.refresh()
            known = len(heard)
            while len(heard) < known + 2:  # one answer may have begun before
                assert listener.is_alive()
                time.sleep(0.001)
    finally:
        leave.set()
        listener.join()
    assert all(len(set(versions)) == 1 for versions in heard)
    assert sum(a != b for a, b in pairwise(heard)) >= 2
