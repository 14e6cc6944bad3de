import pytest

from agents.climatology import Climatology, ClimatologyConfig
from serving.replica import answers
from tests.agents_world import market, states_of


@pytest.fixture(scope="module")
def light():
    agent = Climatology(ClimatologyConfig(window=400))
    return agent, list(states_of(agent, market(600)))[500:508]


class Choosy:
    """An agent that cannot bear one instant, and counts its passes."""

    def __init__(self, agent, not_this):
        self.agent, self.not_this, self.passes = agent, not_this, 0

    def opine(self, states):
        self.passes += 1
        if any(state.as_of == self.not_this for state in states):
            raise ArithmeticError("not this one")
        return self.agent.opine(states)


def test_answers_when_many_ask_then_one_pass_gives_each_its_own(light):
    agent, states = light
    one_pass = Choosy(agent, None)
    questions = [states[:1], states[1:4], [], states[4:8]]
    assert answers(one_pass, questions) == [agent.opine(question) for question in questions]
    assert one_pass.passes == 1


def test_answers_when_one_question_breaks_the_agent_then_the_others_are_answered(light):
    agent, states = light
    questions = [states[:2], states[2:3], states[3:8]]
    got = answers(Choosy(agent, states[2].as_of), questions)
    assert got[0] == agent.opine(states[:2])
    assert got[2] == agent.opine(states[3:8])
    assert isinstance(got[1], ArithmeticError)


def test_answers_when_an_agent_gives_too_few_then_nobody_gets_anothers(light):
    agent, states = light

    class Short:
        def opine(self, asked):
            return agent.opine(asked)[: max(1, len(asked) - 1)]

    got = answers(Short(), [states[:1], states[1:2]])
    assert got == [agent.opine(states[:1]), agent.opine(states[1:2])]
