"""A tape says what the running system would have said, bar by bar."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from agents.contract import trim
from agents.host import LocalAgent, gather
from agents.registry import agent_names, build_agents
from data.memory import LIVE_BARS, MarketMemory
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Agent
from sim.opinions import widest
from sim.tapes import Tape, TapeStore
from sim.worlds import DEMO_START_MS, DemoMarket, DemoSource

PAST = LIVE_BARS + 160  # so that the live memory has begun to forget
LIVE = 120
P_TOLERANCE, RETURN_TOLERANCE = 1e-5, 1e-7  # the contract; the difference should be 0


class Played(NamedTuple):
    agents: dict[str, Agent]
    states: list[MarketState]  # of the live memory, in the order they came
    tape: Tape


@pytest.fixture(scope="module")
def played() -> Played:
    """The newest bars came one by one to a memory of the usual size, and all at once to a tape."""
    frame = DemoMarket().bars(DEMO_START_MS, PAST + LIVE)
    agents = build_agents(agent_names())
    books = DemoSource()
    needs, memory = widest(agents), MarketMemory(frame.symbol, frame.timeframe, books=books)
    memory.append(frame.slice(0, PAST))
    states = []
    for row in range(PAST, len(frame)):
        memory.append(frame.bar(row))
        state = memory.state(None, needs.bars, needs.feature_rows)
        assert state is not None
        states.append(state)
    whole = MarketMemory(frame.symbol, frame.timeframe, keep=None, books=books)
    whole.append(frame)
    tape = TapeStore(part_bars=512).record(agents, whole, int(frame.ts[PAST]), horizon=5)
    return Played(agents, states, tape)


def numbers(opinion: Opinion) -> tuple[list[float | None], list[float | None]]:
    """Probabilities, and what is a return."""
    quantiles = opinion.quantiles.values if opinion.quantiles else ()
    return (
        [opinion.p_up, opinion.risk_down, opinion.risk_up],
        [opinion.expected_return, *quantiles],
    )


def furthest(left: list[float | None], right: list[float | None]) -> float:
    assert [x is None for x in left] == [x is None for x in right]
    pairs = [(a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    return max((abs(a - b) for a, b in pairs), default=0.0)


def both(played: Played) -> Iterator[tuple[Opinion, Opinion]]:
    for state in played.states:
        taped, absent = played.tape.opinions(state)
        assert absent == {}
        for opinion, agent in zip(taped, played.agents.values(), strict=True):
            yield opinion, agent.opine([trim(state, agent.needs)])[0]


@pytest.mark.long
def test_tape_when_compared_with_live_opinions_then_it_is_within_the_contract(
    played: Played,
) -> None:
    p_gap = return_gap = 0.0
    unequal = 0
    for taped, live in both(played):
        (p_taped, r_taped), (p_live, r_live) = numbers(taped), numbers(live)
        p_gap = max(p_gap, furthest(p_taped, p_live))
        return_gap = max(return_gap, furthest(r_taped, r_live))
        unequal += taped != live
    print(f"largest difference: {p_gap:g} in p, {return_gap:g} in return; {unequal} unequal")
    assert p_gap <= P_TOLERANCE
    assert return_gap <= RETURN_TOLERANCE
    assert unequal == 0


@pytest.mark.long
def test_tape_when_compared_with_hosted_agents_then_every_opinion_is_equal(played: Played) -> None:
    hosted = {name: LocalAgent(agent) for name, agent in played.agents.items()}
    for state in played.states[::12]:
        gathered = asyncio.run(gather(hosted, [state], 30.0))
        assert gathered.absent == {}
        taped, _ = played.tape.opinions(state)
        assert {opinion.agent: opinion for opinion in taped} == gathered.opinions[0]


def test_columns_when_compared_with_live_opinions_then_they_hold_the_same_numbers(
    played: Played,
) -> None:
    for name, agent in played.agents.items():
        columns = played.tape.columns(name)
        said = [agent.opine([trim(state, agent.needs)])[0] for state in played.states[::12]]
        for k, opinion in zip(range(0, LIVE, 12), said, strict=True):
            assert opinion.direction_probability() is not None
            values = opinion.quantiles.values if opinion.quantiles else [np.nan] * 13
            np.testing.assert_array_equal(columns.quantiles[k], values)
            assert columns.p_up[k] == pytest.approx(opinion.direction_probability(), abs=1e-15)
            assert columns.risk_down[k] == pytest.approx(
                np.nan if opinion.risk_down is None else opinion.risk_down, nan_ok=True, abs=0
            )
