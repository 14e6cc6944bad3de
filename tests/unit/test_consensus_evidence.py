"""Evidence about an agent: false alarms under overlapping outcomes, and how soon skill is seen."""

import json
from copy import deepcopy

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from consensus.evidence import Evidence

H = 5


def world(rng, n, edge=0.0):
    """Losses of an agent and of ½ on overlapping outcomes: sums of H steps, one step apart."""
    steps = rng.normal(size=n + H)
    y = (np.convolve(steps, np.ones(H), "valid")[:n] > 0).astype(float)
    p = np.clip(0.5 + edge * (2 * y - 1) * (rng.random(n) < 0.5) * 2 + rng.normal(0, 0.03, n), 0, 1)
    return (p - y) ** 2, np.full(n, 0.25)


def watched(agent, climatology):
    """Whether either claim was ever made, and when."""
    evidence, better, worse = Evidence(H), None, None
    for k, d in enumerate(climatology - agent):
        evidence.add(k % H, ["a"], [float(d)])
        ((more, less),) = evidence.claims(["a"]).tolist()
        better = k if better is None and more else better
        worse = k if worse is None and less else worse
    return better, worse


def test_evidence_when_nobody_has_skill_then_it_is_claimed_in_at_most_5_of_100_at_any_time():
    rng, alarms, worlds, n = np.random.default_rng(1), 0, 100, 1_000
    for _ in range(worlds):
        noise = rng.normal(0, 0.03, n)  # d has mean 0 where p is ½ plus noise scored fairly
        steps = rng.normal(size=n + H)
        y = (np.convolve(steps, np.ones(H), "valid")[:n] > 0).astype(float)
        p = 0.5 + noise
        fair = (p - y) ** 2 - noise**2  # what noise costs is given back
        better, worse = watched(fair, np.full(n, 0.25))
        alarms += better is not None or worse is not None
    assert alarms <= 2 * 0.05 * worlds  # two claims of 5 % each


def test_evidence_when_an_agent_has_skill_then_it_is_seen_and_never_called_worse():
    rng = np.random.default_rng(2)
    better, worse = watched(*world(rng, 20_000, edge=0.02))
    assert better is not None
    assert worse is None


def test_evidence_when_an_agent_is_overconfident_then_it_is_called_worse():
    rng = np.random.default_rng(3)
    y = (rng.random(5_000) < 0.5).astype(float)
    p = np.where(rng.random(5_000) < 0.5, 0.8, 0.2)
    better, worse = watched((p - y) ** 2, np.full(5_000, 0.25))
    assert better is None
    assert worse is not None
    assert worse < 2_000


agents = st.dictionaries(st.sampled_from("abc"), st.floats(-1, 1), min_size=1)


@given(st.lists(st.tuples(st.integers(0, H - 1), agents), max_size=30))
def test_evidence_when_stored_and_read_back_then_it_goes_on_with_the_same_bits(rows):
    evidence = Evidence(H)
    for copy, skill in rows:
        evidence.add(copy, list(skill), list(skill.values()))
    again = Evidence.from_dict(json.loads(json.dumps(evidence.as_dict())), H)
    for one in (evidence, again):
        one.add(0, ["a", "new"], [-0.05, 0.1])
    assert again.as_dict() == evidence.as_dict()
    assert again.n("a") == 1 + sum("a" in skill for _, skill in rows)


@given(st.lists(agents, min_size=1, max_size=30))
def test_evidence_when_agents_are_watched_together_then_each_as_if_alone(rows):
    together, alone = Evidence(H), Evidence(H)
    for k, skill in enumerate(rows):
        together.add(k % H, list(skill), list(skill.values()))
        if "a" in skill:
            alone.add(k % H, ["a"], [skill["a"]])
    assert together.as_dict().get("a") == alone.as_dict().get("a")
    assert together.bounds("a") == alone.bounds("a")


@given(st.lists(st.floats(-1, 1), min_size=80, max_size=200), st.integers(1, 40))
def test_evidence_when_looked_at_on_the_way_then_it_is_the_same_to_the_last_bit(skill, every):
    watched, alone = Evidence(1), Evidence(1)
    for k, d in enumerate(skill):
        watched.add(0, ["a"], [d])
        alone.add(0, ["a"], [d])
        if k % every == 0:
            watched.bounds("a")
    twin = deepcopy(alone)
    assert watched.as_dict() == twin.as_dict() == alone.as_dict()
    assert watched.claims(["a"]).tolist() == alone.claims(["a"]).tolist()


def test_evidence_when_there_is_none_then_nothing_is_claimed():
    evidence = Evidence(H)
    assert (evidence.n("a"), evidence.bounds("a")) == (0, (None, None))
    evidence.add(0, ["a"], [0.5])
    evidence.restart("a")
    assert (evidence.n("a"), evidence.bounds("a")) == (0, (None, None))
    assert not evidence.claims(["a"]).any()


def test_evidence_when_skill_is_known_then_its_bounds_hold_it_and_agree_with_the_claims():
    rng = np.random.default_rng(4)
    p = np.where(rng.random(20_000) < 0.5, 0.6, 0.4)
    y = (rng.random(20_000) < p).astype(float)  # the skill of the truth is E(p − ½)² = .01
    evidence = Evidence(H)
    for k in range(20_000):
        evidence.add(k % H, ["a"], [0.25 - float((p[k] - y[k]) ** 2)])
    low, high = evidence.bounds("a")
    assert low is not None
    assert high is not None
    assert 0.003 <= low < 0.01 < high <= 0.02
    assert evidence.claims(["a"]).tolist() == [[True, False]]


@given(st.lists(st.floats(-1, 1), max_size=60))
def test_evidence_when_anything_comes_then_purses_stay_finite_and_bounds_are_ordered(rows):
    evidence = Evidence(2)
    for k, d in enumerate(rows):
        evidence.add(k % 2, ["a"], [d])
    for purses in evidence.as_dict().values():
        assert np.isfinite(purses["logs"]).all()
    low, high = evidence.bounds("a")
    assert low is None or high is None or low < high
