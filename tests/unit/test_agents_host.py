import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agents.climatology import Climatology, ClimatologyConfig
from agents.host import PART, HandleAgent, LocalAgent, Overloaded, describe, gather
from domain.cards import AgentCard
from domain.errors import ServiceUnreachable
from domain.ports import Needs
from tests.agents_world import market, states_of


class Answers:
    """An agent that answers with what a function gives, after a delay."""

    def __init__(self, name, answer, delay=0.0):
        self.name, self.answer, self.delay, self.cancelled = name, answer, delay, False

    async def opine(self, states):
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.answer(states)


def fails(error):
    def answer(states):
        raise error

    return answer


@pytest.fixture(scope="module")
def light():
    agent = Climatology(ClimatologyConfig(window=400))
    return agent, list(states_of(agent, market(600)))[500:503]


class Describes:
    """A host that says what it is with a card or an error, after a delay."""

    def __init__(self, told, delay=0.0):
        self.told, self.delay = told, delay

    async def describe(self):
        await asyncio.sleep(self.delay)
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


def test_describe_when_some_fail_or_are_late_then_the_others_are_known(light):
    card = AgentCard("b", "1", Needs())
    hosts = {
        "climatology": LocalAgent(light[0]),
        "b": Describes(card),
        "late": Describes(card, delay=30.0),
        "gone": Describes(ServiceUnreachable("gone", "has no replica in reach")),
    }
    got = asyncio.run(describe(hosts, 0.2))
    assert got["b"] is card
    assert got["climatology"] == AgentCard("climatology", light[0].version, light[0].needs)
    assert set(got) == {"b", "climatology"}
    assert asyncio.run(describe({}, 0.2)) == {}


def test_gather_when_all_answer_then_one_mapping_per_state_in_order(light):
    agent, states = light
    both = {"b": Answers("b", agent.opine), "climatology": LocalAgent(agent)}
    got = asyncio.run(gather(both, states, 5.0))
    assert got.absent == {}
    assert [set(row) for row in got.opinions] == [{"b", "climatology"}] * 3
    assert [row["climatology"] for row in got.opinions] == agent.opine(states)


def test_gather_when_one_is_late_then_cancelled_and_the_others_count(light):
    agent, states = light
    late = Answers("late", agent.opine, delay=30.0)

    async def ask():
        found = await gather({"late": late, "b": Answers("b", agent.opine)}, states, 0.05)
        await asyncio.sleep(0)  # let the cancellation arrive
        return found

    got = asyncio.run(ask())
    assert got.absent == {"late": "deadline"}
    assert late.cancelled
    assert [set(row) for row in got.opinions] == [{"b"}] * 3


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ValueError("bug"), "failed"),
        (ServiceUnreachable("x", "is gone"), "unreachable"),
        (ConnectionResetError(), "unreachable"),
        (Overloaded("x", "its queue is full"), "overloaded"),
    ],
)
def test_gather_when_an_agent_raises_then_absent_with_the_reason(light, error, why):
    agent, states = light
    agents = {"bad": Answers("bad", fails(error)), "b": Answers("b", agent.opine)}
    got = asyncio.run(gather(agents, states, 5.0))
    assert got.absent == {"bad": why}
    assert set(got.opinions[0]) == {"b"}


@pytest.mark.parametrize("wrong", [lambda rows: rows[:-1], lambda rows: rows[::-1]])
def test_gather_when_answers_do_not_fit_the_states_then_invalid(light, wrong):
    agent, states = light
    bad = Answers("bad", lambda s: wrong(agent.opine(s)))
    assert asyncio.run(gather({"bad": bad}, states, 5.0)).absent == {"bad": "invalid"}


def test_gather_when_some_of_many_states_are_late_then_the_others_keep_their_answers(light):
    agent, states = light
    many = [*states] * PART

    class Tiring(Answers):
        async def opine(self, part):
            asked.append(len(part))
            self.delay = 0.0 if len(asked) == 1 else 30.0
            return await super().opine(part)

    asked = []
    tiring = Tiring("slow", agent.opine)
    got = asyncio.run(gather({"slow": tiring, "b": Answers("b", agent.opine)}, many, 1.0))
    assert asked == [PART] * 3
    assert got.absent == {"slow": "deadline"}
    assert [row["slow"] for row in got.opinions[:PART]] == agent.opine(many[:PART])
    assert [absent for _, absent in got.each()] == [{}] * PART + [got.absent] * 2 * PART
    assert all("b" in row for row in got.opinions)


def test_gather_when_nobody_is_asked_then_empty_rows(light):
    assert asyncio.run(gather({}, light[1], 1.0)).opinions == ({}, {}, {})


def test_local_agent_when_given_an_executor_then_runs_in_its_thread(light):
    _, states = light
    seen = []

    class Watched(Climatology):
        def opine(self, batch):
            seen.append((threading.current_thread().name, len(batch[0].bars)))
            return super().opine(batch)

    watched = Watched(ClimatologyConfig(window=100))
    with ThreadPoolExecutor(1, thread_name_prefix="agent") as executor:
        got = asyncio.run(gather({"w": LocalAgent(watched, executor)}, states, 5.0))
    assert seen == [("agent_0", 105)]  # trimmed to what it needs
    assert got.opinions[0]["w"] == watched.opine(states)[0]


class Handle:
    """What a Serve handle looks like from here: ``handle.opine.remote(states)`` is awaitable."""

    def __init__(self, answer):
        self.opine, self.answer, self.sent = self, answer, None

    async def remote(self, states):
        self.sent = states
        return self.answer(states)


def test_handle_agent_when_it_answers_then_states_were_trimmed_to_its_needs(light):
    agent, states = light
    handle = Handle(agent.opine)
    narrow = Needs(bars=300, feature_rows=1)
    got = asyncio.run(gather({"x": HandleAgent("x", handle, narrow)}, states, 5.0))
    assert [len(state.bars) for state in handle.sent] == [300] * 3
    assert got.absent == {}


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda ray, serve: serve.BackPressureError(9, 8), "overloaded"),
        (lambda ray, serve: ray.ActorDiedError(), "unreachable"),
        (lambda ray, serve: serve.RayServeException("no replica"), "unreachable"),
        (lambda ray, serve: ZeroDivisionError(), "failed"),
    ],
)
def test_handle_agent_when_ray_refuses_then_the_reason_is_named(light, make, why):
    from ray import exceptions
    from ray.serve import exceptions as serve_exceptions

    handle = Handle(fails(make(exceptions, serve_exceptions)))
    got = asyncio.run(gather({"x": HandleAgent("x", handle)}, light[1], 5.0))
    assert got.absent == {"x": why}
