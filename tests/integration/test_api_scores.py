"""Scores and calibration over HTTP: what evaluation says of the same forecasts."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domain.decision import Decision
from domain.opinion import Opinion, Outcome
from serving.bootstrap.storage import open_storage
from serving.scoreboard import MOST_WAITING, Busy, Scoreboard, wilson
from storage.ledger import SqlLedger
from tests.api_world import PLAN as SHORT
from tests.api_world import at_work, run, settings_in

PLAN = replace(SHORT, warm_up_days=3)  # until agents and council have spoken often enough


def by_hand(rows: list[tuple[Opinion | Decision, Outcome]]) -> dict[str, Any]:
    """S of one forecaster, from its rows one by one."""
    p = np.array(
        [
            one.direction_probability() if isinstance(one, Opinion) else one.prob_up
            for one, _ in rows
        ]
    )
    up = np.array([outcome.log_return > 0 for _, outcome in rows], dtype=float)
    inside = [
        one.quantiles.at(0.1) <= outcome.log_return <= one.quantiles.at(0.9)
        for one, outcome in rows
        if one.quantiles is not None
    ]
    happened = np.where(up > 0, p, 1 - p)
    return {
        "n": len(rows), "brier": float(((p - up) ** 2).mean()),
        "log_loss": float(-np.log(happened).mean()),
        "accuracy": float(((p > 0.5) == (up > 0)).mean()), "coverage_80": float(np.mean(inside)),
    }  # fmt: skip


@pytest.mark.long
def test_scores_when_asked_then_they_are_those_of_the_stored_forecasts_and_outcomes(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path, overrides={"MIN_FORECASTERS": "1"})
    told: dict[str, Any] = {}

    async def scene() -> None:
        async with at_work(PLAN, settings) as world:
            for path in ("agents/scores?last=150", "calibration?last=250", "agents/scores?last=1"):
                told[path] = (await world.ask("GET", f"/v1/{path}")).json()["items"]
            assert (await world.ask("GET", "/v1/agents/scores?symbol=ETH-USDT")).json()[
                "items"
            ] == []
            one = (await world.ask("GET", "/v1/calibration?agent=consensus")).json()["items"]
            assert [row["agent"] for row in one] == ["consensus"]

    run(scene)
    ledger = SqlLedger(open_storage(settings), PLAN.world)
    outcomes = {row.as_of: row for _, row in ledger.records(Outcome)}
    rows = {row["agent"]: row for row in told["agents/scores?last=150"]}
    assert set(rows) == {"climatology", "technical", "consensus"}
    for agent, row in rows.items():
        assert row["brier_skill_1e4"] == pytest.approx((0.25 - row["brier"]) * 1e4)
        kind = Decision if agent == "consensus" else Opinion
        stored = [
            one for _, one in ledger.records(kind)
            if getattr(one, "agent", agent) == agent and getattr(one, "prob_up", 0.5) is not None
        ]  # fmt: skip
        first, last = (_ms(row[name]) for name in ("first", "last"))
        mine = [(one, outcomes[one.as_of]) for one in stored
                if first <= one.as_of <= last and one.as_of in outcomes]  # fmt: skip
        expected = by_hand(mine)
        assert row["n"] == expected["n"] <= 150
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-9), (agent, name)
    assert {row["n"] for row in told["agents/scores?last=1"]} == {1}

    for row in told["calibration?last=250"]:
        assert row["n"] == sum(one["n"] for one in row["bins"])
        assert [one["lo"] for one in row["bins"]] == sorted(one["lo"] for one in row["bins"])
        assert all(one["band_lo"] <= one["band_hi"] for one in row["bins"])
        assert [one["nominal"] for one in row["coverage"]] == [0.8, 0.9, 0.95]
        for one in row["coverage"]:
            assert one["lo"] <= one["observed"] <= one["hi"]


def _ms(text: str) -> int:
    from domain.times import parse_iso

    return parse_iso(text)


@pytest.mark.long
def test_calibration_when_outcomes_are_few_then_it_says_so_and_shows_no_bins(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with at_work(
            PLAN, settings_in(tmp_path, overrides={"MIN_FORECASTERS": "1"})
        ) as world:
            rows = (await world.ask("GET", "/v1/calibration?last=20")).json()["items"]
            assert [(row["why"], row["bins"]) for row in rows] == [
                ("20 outcomes with a probability, 100 are needed", [])
            ] * 3

    run(scene)


def test_scoreboard_when_the_ledger_has_no_outcome_then_there_are_no_scores(tmp_path: Path) -> None:
    board = Scoreboard(
        open_storage(settings_in(tmp_path)), "demo-7", (("BTC/USDT", "5m"),), 5, "council"
    )
    (row,) = board.scores(None, 100)
    assert (row["agent"], row["n"], row["brier"], row["first"]) == ("consensus", 0, None, None)
    (row,) = board.calibration(None, None, 100)
    assert (row["n"], row["bins"], row["coverage"]) == (0, [], [])


def test_scoreboard_when_many_ask_at_once_then_some_wait_and_the_rest_is_told_to_come_again(
    tmp_path: Path,
) -> None:
    board = Scoreboard(
        open_storage(settings_in(tmp_path)), "demo-7", (("BTC/USDT", "5m"),), 5, "council"
    )
    with ThreadPoolExecutor(MOST_WAITING) as pool:
        with board._lock:  # somebody's question takes long
            waiting = [pool.submit(board.scores, None, 10 + n) for n in range(MOST_WAITING)]
            while board._places._value:
                time.sleep(0.01)
            with pytest.raises(Busy, match="for others"):
                board.scores(None, 5)
        assert [len(one.result()) for one in waiting] == [1] * MOST_WAITING
    assert len(board.scores(None, 5)) == 1


@pytest.mark.parametrize("share", [0.0, 0.8, 1.0])
def test_wilson_when_compared_with_the_score_test_then_its_ends_are_where_it_turns(
    share: float,
) -> None:
    low, high = wilson(share, 50.0)
    assert 0.0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1.0
    for end in (low, high):
        if 1e-9 < end < 1.0 - 1e-9:
            z = (share - end) / math.sqrt(end * (1 - end) / 50.0)
            assert abs(z) == pytest.approx(1.959964, rel=1e-6)
