"""Every agent that can be built obeys the laws, and the checker catches who does not."""

from dataclasses import replace

import pytest

from agents.checks import check_agent, check_blindness
from agents.climatology import Climatology, ClimatologyConfig
from agents.registry import agent_names, build_agents
from domain.errors import CheckFailed
from tests.agents_world import market, states_of, with_gap

AGENTS = build_agents(agent_names())
STATES = {"chronos": 96, "tft": 192}  # of a stretch; a pass through a network takes milliseconds


@pytest.fixture(scope="module")
def bars():
    return with_gap(market(3600, seed=11, drift=3e-4), 700, 4)


@pytest.mark.long
@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
def test_agent_when_checked_on_an_ordinary_stretch_then_it_obeys(agent, bars):
    check_agent(agent, states_of(agent, bars)[3520 - STATES.get(agent.name, 520) : 3520])


@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
def test_agent_when_checked_across_a_gap_then_it_obeys(agent, bars):
    check_agent(agent, states_of(agent, bars)[690:720])


@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
def test_agent_when_the_future_is_scrambled_or_cut_then_nothing_changes(agent, bars):
    check_blindness(agent, bars, lambda x: states_of(agent, x), [660, 1100, 2900, 3400])


@pytest.mark.long
@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
def test_agent_when_batches_are_1_7_and_many_then_the_same_bits(agent, bars):
    n = STATES.get(agent.name, 512)
    states = list(states_of(agent, bars))[-n:]
    whole, few = agent.opine(states), min(60, n // 4)
    assert whole[:few] == [agent.opine([state])[0] for state in states[:few]]
    sevens = [o for at in range(0, n, 7) for o in agent.opine(states[at : at + 7])]
    assert sevens == whole


class Wrapped(Climatology):
    """A law-abiding agent with one habit changed."""

    def __init__(self, habit):
        super().__init__(ClimatologyConfig(window=400))
        self._habit = habit
        self.calls = 0

    def opine(self, states):
        self.calls += 1
        return self._habit(self, states, super().opine(states))


def change(**fields):
    return lambda agent, states, opinions: [replace(o, **fields) for o in opinions]


FAULTS = {
    "drops one": (lambda agent, states, opinions: opinions[:-1], "one opinion for each"),
    "swaps the order": (lambda agent, states, opinions: opinions[::-1], "in order"),
    "p above 1": (change(p_up=1.5), r"p_up must be in \[0, 1\]"),
    "NaN p": (change(p_up=float("nan")), r"p_up must be in \[0, 1\]"),
    "infinite return": (change(expected_return=float("inf")), "expected_return"),
    "says nothing": (change(p_up=None, quantiles=None), "silent exactly where"),
    "counts calls": (
        lambda agent, states, opinions: [replace(o, p_up=agent.calls / 100) for o in opinions],
        "same answer twice",
    ),
    "looks at its batch": (
        lambda agent, states, opinions: [replace(o, p_up=len(states) / 9999) for o in opinions],
        "not depend on its batch",
    ),
    "reads beyond its needs": (
        lambda agent, states, opinions: [
            replace(o, p_up=len(s.bars) / 9999) for o, s in zip(opinions, states, strict=True)
        ],
        "no more than it needs",
    ),
}


@pytest.mark.parametrize(("habit", "law"), FAULTS.values(), ids=FAULTS)
def test_check_agent_when_a_law_is_broken_then_it_is_named(habit, law):
    agent = Wrapped(habit)
    greedy = Climatology(ClimatologyConfig(window=500))  # states hold more than the agent needs
    states = states_of(greedy, market(700))[600:640]
    with pytest.raises(CheckFailed, match=law):
        check_agent(agent, states)


def test_check_agent_when_inputs_are_changed_then_it_is_named():
    def habit(agent, states, opinions):
        for state in states:
            state.bars.volume[-1] += 1.0
        return opinions

    agent = Wrapped(habit)
    states = []
    for state in states_of(agent, market(700))[600:620]:
        columns = {name: getattr(state.bars, name).copy() for name in ("volume",)}
        states.append(replace(state, bars=replace(state.bars, **columns)))
    with pytest.raises(CheckFailed, match="leave its inputs"):
        check_agent(agent, states)


def test_check_agent_when_states_are_few_then_refused():
    agent = Climatology()
    with pytest.raises(CheckFailed, match="at least 8"):
        check_agent(agent, states_of(agent, market(400))[300:305])


def test_check_blindness_when_an_agent_peeks_then_it_is_named():
    bars = market(700)
    futures = {}

    def peeking(agent, states, opinions):
        return [replace(o, p_up=min(1.0, futures["last"] / 1e6)) for o in opinions]

    agent = Wrapped(peeking)

    def states(frame):
        futures["last"] = float(frame.close[-1])
        return states_of(agent, frame)

    with pytest.raises(CheckFailed, match="not see the future"):
        check_blindness(agent, bars, states, [600])
