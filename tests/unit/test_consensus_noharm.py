"""The no-harm layer: what the published p can lose to any candidate, and where it lies."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.noharm import Mixture, NoHarm

NAMES = ("a", "b", "c", "d", "equal", "constant")
chance = st.floats(0.02, 0.98)
awake = st.dictionaries(st.sampled_from(NAMES), chance, min_size=1)
rounds = st.lists(st.tuples(awake, st.booleans()), min_size=1, max_size=120)


def regret(played, horizon):
    """Loss of p less that of each candidate on the rounds on which it was awake, by copy."""
    layer = NoHarm(horizon)
    waiting, lost = [], [{} for _ in range(horizon)]
    for k, (candidates, up) in enumerate(played):
        while waiting and waiting[0][0] + horizon <= k:  # an outcome is known H rounds later
            at, said, y = waiting.pop(0)
            layer.at(at).learn(said, y)
        p, y = layer.at(k).mix(candidates), float(up)
        assert min(candidates.values()) <= p <= max(candidates.values())
        for name, q in candidates.items():
            book = lost[k % horizon]
            book[name] = book.get(name, 0.0) + (p - y) ** 2 - (q - y) ** 2
        waiting.append((k, candidates, y))
    return lost


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(rounds, st.integers(1, 6))
def test_noharm_when_anything_happens_then_the_bound_holds_for_every_candidate(played, horizon):
    for book in regret(played, horizon):
        for loss in book.values():
            assert loss <= 0.5 * math.log(len(NAMES)) + 1e-9


class Adversary:
    """Says what hurts most: the opposite of what p will be near, with some of them asleep."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def candidates(self):
        who = self.rng.random(len(NAMES)) < 0.7
        who[self.rng.integers(len(NAMES))] = True
        sharp = self.rng.random(len(NAMES)) < 0.5
        p = np.where(self.rng.random(len(NAMES)) < 0.5, 0.02, 0.98)
        p = np.where(sharp, p, self.rng.uniform(0.02, 0.98, len(NAMES)))
        return {name: float(q) for name, q, on in zip(NAMES, p, who, strict=True) if on}


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("seed", range(4))
def test_noharm_when_an_adversary_sees_p_before_it_chooses_the_outcome_then_the_bound_holds(
    seed, horizon
):
    adversary, layer, waiting = Adversary(seed), NoHarm(horizon), []
    lost = [{} for _ in range(horizon)]
    for k in range(4_000):
        while waiting and waiting[0][0] + horizon <= k:
            at, said, y = waiting.pop(0)
            layer.at(at).learn(said, y)
        candidates = adversary.candidates()
        p = layer.at(k).mix(candidates)
        y = 1.0 if p < 0.5 else 0.0  # always against us
        for name, q in candidates.items():
            book = lost[k % horizon]
            book[name] = book.get(name, 0.0) + (p - y) ** 2 - (q - y) ** 2
        waiting.append((k, candidates, y))
    worst = max(loss for book in lost for loss in book.values())
    assert worst <= 0.5 * math.log(len(NAMES)) + 1e-9


def test_noharm_when_somebody_is_always_right_then_it_follows_within_the_bound():
    copy, rng = Mixture(), np.random.default_rng(3)
    total = 0.0
    for _ in range(500):
        y = float(rng.random() < 0.5)
        candidates = {"knows": 0.98 if y else 0.02, "liar": 0.02 if y else 0.98, "half": 0.5}
        total += (copy.mix(candidates) - y) ** 2 - (candidates["knows"] - y) ** 2
        copy.learn(candidates, y)
    assert 0.0 < total <= 0.5 * math.log(3)
    assert copy.share(candidates)["knows"] > 0.999


def test_noharm_when_a_bound_is_attained_then_it_is_not_loose():
    """Two candidates that are never told apart until one is always right: most of ½ ln m."""
    copy, total, names = Mixture(), 0.0, [f"n{i}" for i in range(64)]
    for _ in range(400):
        candidates = dict.fromkeys(names, 0.45) | {"best": 0.55}
        total += (copy.mix(candidates) - 1.0) ** 2 - 0.45**2
        copy.learn(candidates, 1.0)
    assert 0.8 * 0.5 * math.log(65) < total <= 0.5 * math.log(65)


@given(awake, st.booleans(), awake)
def test_noharm_when_a_candidate_sleeps_then_its_weight_and_the_total_stay(first, up, second):
    copy = Mixture()
    copy.learn(first, float(up))
    before = dict(copy.ln_weights)
    copy.learn(second, float(not up))
    for name in before.keys() - second.keys():
        assert copy.ln_weights[name] == before[name]
    mass = math.fsum(math.exp(before.get(name, 0.0)) for name in second)
    after = math.fsum(math.exp(copy.ln_weights[name]) for name in second)
    assert after == pytest.approx(mass, rel=1e-9)


@given(rounds)
def test_noharm_when_candidates_come_in_another_order_then_the_same_bits(played):
    one, other = Mixture(), Mixture()
    for candidates, up in played:
        turned = dict(reversed(candidates.items()))
        assert one.mix(candidates) == other.mix(turned)
        one.learn(candidates, float(up))
        other.learn(turned, float(up))
    assert one.ln_weights == other.ln_weights


def test_noharm_when_nobody_has_lost_anything_then_all_weigh_the_same():
    assert Mixture().share(dict.fromkeys(NAMES, 0.4)) == dict.fromkeys(sorted(NAMES), 1 / 6)


@pytest.mark.long
@given(rounds, st.integers(1, 5))
def test_noharm_when_stored_and_read_back_then_it_goes_on_with_the_same_bits(played, horizon):
    layer = NoHarm(horizon)
    for k, (candidates, up) in enumerate(played):
        layer.at(k).learn(candidates, float(up))
    again = NoHarm.from_dict(json.loads(json.dumps(layer.as_dict())))
    assert again.as_dict() == layer.as_dict()
    said = dict.fromkeys(NAMES, 0.3) | {"a": 0.8}
    assert [copy.mix(said) for copy in again.copies] == [copy.mix(said) for copy in layer.copies]


def test_noharm_when_weights_are_astronomically_apart_then_nothing_overflows():
    copy = Mixture({"a": -5_000.0, "b": 5_000.0})
    assert copy.mix({"a": 0.9, "b": 0.1}) == pytest.approx(0.1)
    assert copy.mix({"a": 0.9}) == 0.9
