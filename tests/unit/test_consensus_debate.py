"""The debate: who answers, with what, and how far it may go."""

import math

import pytest
from consensus_cases import council, life, opinion, state
from hypothesis import given
from hypothesis import strategies as st

from consensus.debate import SETTLED, Case, debate
from consensus.pooling import DEBATED, logit

AGENTS = (
    "baseline",
    "chronos",
    "climatology",
    "grok",
    "microstructure",
    "risk",
    "technical",
    "tft",
)
STEP = 0.05
chances = st.dictionaries(st.sampled_from(AGENTS), st.floats(0.02, 0.98), min_size=1)
measures = st.none() | st.floats(-20, 20)
cases = st.builds(Case, measures, measures, measures, st.none() | st.floats(0, 5))


def equal(p):
    return dict.fromkeys(p, 1 / len(p))


@given(chances, cases, st.floats(0, 1))
def test_debate_when_anything_is_said_then_nobody_moves_further_than_the_step(p, case, most):
    said = debate(p, equal(p), case, most)
    assert said.p.keys() == p.keys()
    for agent, chance in p.items():
        assert abs(logit(said.p[agent]) - logit(chance)) <= most + 1e-9
    spoke = {answer.agent for answer in said.answers}
    assert all(said.p[agent] == p[agent] for agent in p.keys() - spoke)
    assert "climatology" not in spoke


@pytest.mark.long
@given(chances, cases, st.data())
def test_debate_when_agents_come_in_another_order_then_it_is_the_same(p, case, data):
    shuffled = dict(data.draw(st.permutations(list(p.items()))))
    assert debate(shuffled, equal(p), case, STEP) == debate(p, equal(p), case, STEP)


@given(chances, cases)
def test_debate_when_its_step_is_0_then_nobody_speaks(p, case):
    said = debate(p, equal(p), case, 0.0)
    assert (said.p, said.answers) == (p, ())


def test_debate_when_there_is_nothing_to_point_at_then_nobody_speaks():
    p = dict.fromkeys(AGENTS, 0.6)
    assert debate(p, equal(p), Case(), STEP).answers == ()
    quiet = Case(last=1.0, short=2.0, long=3.0, liquidity=2.0)
    assert debate(p, equal(p), quiet, STEP).answers == ()


def test_debate_when_a_bar_jumped_then_those_who_watch_bars_lean_against_it():
    p = {"baseline": 0.55, "climatology": 0.55}
    up = debate(p, equal(p), Case(last=6.0), STEP)
    assert [(x.round, x.agent, x.argument, x.because) for x in up.answers] == [
        (1, "baseline", "jump", 6.0)
    ]
    assert logit(up.p["baseline"]) == pytest.approx(logit(0.55) - STEP)
    assert up.p["climatology"] == 0.55  # it knows nothing, so it answers nobody
    half = debate(p, equal(p), Case(last=-4.5), STEP)
    assert logit(half.p["baseline"]) == pytest.approx(logit(0.55) + STEP / 2)


def test_debate_when_timeframes_conflict_then_chronos_is_less_sure():
    p = {"chronos": 0.52, "climatology": 0.5}
    said = debate(p, equal(p), Case(short=-1.5, long=1.5), STEP)
    assert logit(said.p["chronos"]) == pytest.approx(logit(0.52) / 2)
    sure = debate({"chronos": 0.9}, {"chronos": 1.0}, Case(short=-5.0, long=5.0), STEP)
    assert logit(sure.p["chronos"]) == pytest.approx(logit(0.9) - STEP)
    assert debate(p, equal(p), Case(short=1.5, long=1.5), STEP).answers == ()


def test_debate_when_the_book_is_thin_then_microstructure_moves_to_the_pool():
    p = {"baseline": 0.5, "microstructure": 0.51}
    said = debate(p, equal(p), Case(liquidity=0.0), STEP)
    assert logit(said.p["microstructure"]) == pytest.approx(logit(0.51) / 2)


def test_debate_when_the_strongest_dissenter_argued_then_others_meet_it_half_way():
    p = {"climatology": 0.5, "grok": 0.5, "risk": 0.6}
    said = debate(p, equal(p), Case(last=6.0), STEP)
    told = [(x.round, x.agent, x.argument, x.to) for x in said.answers]
    assert told == [(1, "risk", "jump", ""), (2, "grok", "concession", "risk")]
    assert logit(said.p["grok"]) == pytest.approx(STEP)  # half way would be further


def test_debate_when_a_round_moves_nobody_then_it_is_over():
    p = {"baseline": 0.5, "microstructure": 0.5}
    assert debate(p, equal(p), Case(liquidity=0.0), STEP).answers == ()
    assert SETTLED < 1e-3


def test_council_when_a_debate_took_place_then_it_is_a_candidate_and_its_transcript_is_stored():
    rows = life(agents=("baseline", "risk"), rounds=40)
    judge = council(("baseline", "risk"))
    judge.observe(rows)
    prepared = judge.prepare_state(
        state(41), [opinion("baseline", 0.55, 41), opinion("risk", 0.5, 41)], {}
    )
    decision = judge.generate_signal(prepared, state(41).as_of)
    assert DEBATED in decision.inputs["candidates"]
    assert decision.inputs["debate"] == []  # one bar is no volatility
    assert decision.inputs["case"] == dict.fromkeys(("last", "short", "long", "liquidity"))


def test_council_when_a_bar_jumps_then_the_transcript_says_who_answered(jumping):
    decision = jumping
    (answer,) = decision.inputs["debate"]
    assert (answer["agent"], answer["argument"]) == ("baseline", "jump")
    assert answer["because"] > 3
    candidates = decision.inputs["candidates"]
    assert candidates[DEBATED] < candidates["brier_log_pool"]
    assert math.isclose(answer["before"], 0.55)


@pytest.fixture
def jumping():
    import numpy as np
    from consensus_cases import STEP as BAR
    from consensus_cases import SYMBOL, T0, TIMEFRAME

    from domain.market import BarFrame, FeatureFrame, MarketState

    n = 60
    moves = np.where(np.arange(n) % 2 == 0, 1e-3, -1e-3)
    moves[-1] = 2e-2
    close = 100.0 * np.exp(np.cumsum(moves))
    ts = T0 + (np.arange(n) - n) * BAR
    bars = BarFrame(SYMBOL, TIMEFRAME, ts, close, close, close, close, np.ones(n))
    frame = FeatureFrame(("atr_14",), np.array([[0.5]]), "test")
    seen = MarketState(SYMBOL, TIMEFRAME, T0, bars, frame, n)
    judge = council(("baseline", "climatology"))
    said = [opinion("baseline", 0.55), opinion("climatology", 0.5)]
    return judge.generate_signal(judge.prepare_state(seen, said, {}), T0)
