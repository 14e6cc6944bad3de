"""Seats: an agent outside the council earns one, loses it again, and moves nothing until then."""

import json

import numpy as np
import pytest
from consensus_cases import H, council, opinion, outcome, state

from consensus.rounds import Published, Round, Said
from consensus.scoring import Fold
from consensus.seats import Seats
from consensus.settings import CouncilSettings
from consensus.weights import standing, weights_rows

MEMBERS = ("a", "b")
SETTINGS = CouncilSettings(members=MEMBERS, probation=500, half_life=2_000.0)


def world(rng, n, informed=1.0, offset=0.2):
    """p of somebody who knows (``informed`` = 1) or errs (−1), and what happened."""
    p = 0.5 + rng.choice([-offset, offset], n)
    y = rng.random(n) < p
    return 0.5 + informed * (p - 0.5), y


def lived(fold, chances, ups, agent="new", start=0):
    """Fold rounds on which the agent and two members that know nothing spoke."""
    for k, (p, up) in enumerate(zip(chances, ups, strict=True), start):
        said = {agent: Said(float(p)), "a": Said(0.5), "b": Said(0.5)}
        fold.add(Round(k, k % H, said, Published(0.5), 1e-3 if up else -1e-3))


def test_seats_when_it_begins_then_members_share_them_and_nobody_else_has_one():
    assert Seats(SETTINGS).priors == {"a": 0.5, "b": 0.5}


def test_seats_when_an_agent_in_probation_has_skill_then_it_wins_one_after_500_outcomes():
    fold, rng = Fold(SETTINGS), np.random.default_rng(0)
    chances, ups = world(rng, 6_000)
    won = None
    for k in range(6_000):
        lived(fold, chances[k : k + 1], ups[k : k + 1], start=k)
        if "new" in fold.seats.priors:
            won = k + 1
            break
    assert won is not None
    assert won >= 500
    assert fold.seats.priors["new"] == pytest.approx(1 / 3)
    assert standing(fold, SETTINGS)["new"] == 0.0
    row = next(x for x in weights_rows(fold, (), SETTINGS) if x["agent"] == "new")
    assert (row["member"], row["probation"], row["evidence"]["changes"]) == (True, False, 1)
    assert row["evidence"]["n"] == 0


@pytest.mark.long
def test_seats_when_a_newcomer_turns_bad_then_it_loses_its_seat_and_may_earn_it_again():
    fold, rng = Fold(SETTINGS), np.random.default_rng(1)
    lived(fold, *world(rng, 3_000))
    assert "new" in fold.seats.priors
    lived(fold, *world(rng, 3_000, informed=-1.0), start=3_000)
    assert "new" not in fold.seats.priors
    lived(fold, *world(rng, 9_000), start=6_000)
    assert "new" in fold.seats.priors
    assert fold.seats.changes["new"] >= 3


def test_seats_when_a_member_is_a_certain_liar_then_it_is_sent_to_probation():
    fold, rng = Fold(SETTINGS), np.random.default_rng(2)
    ups = rng.random(400) < 0.5
    for k, up in enumerate(ups):
        said = {"a": Said(0.98 if k % 2 else 0.02), "b": Said(0.5)}
        fold.add(Round(k, k % H, said, Published(0.5), 1e-3 if up else -1e-3))
    assert fold.seats.priors.keys() == {"b"}
    row = next(x for x in weights_rows(fold, (), SETTINGS) if x["agent"] == "a")
    assert (row["weight"], row["probation"]) == (0.0, True)


def test_seats_when_an_agent_has_no_skill_then_it_stays_where_it_is():
    fold, rng = Fold(SETTINGS), np.random.default_rng(3)
    noise = 0.5 + rng.normal(0, 0.01, 3_000)
    lived(fold, noise, rng.random(3_000) < 0.5)
    assert "new" not in fold.seats.priors
    assert {"a", "b"} == set(fold.seats.priors)


def test_seats_when_stored_and_read_back_then_they_go_on_with_the_same_bits():
    fold, rng = Fold(SETTINGS), np.random.default_rng(4)
    lived(fold, *world(rng, 900))
    again = Fold.from_dict(json.loads(json.dumps(fold.as_dict())), SETTINGS)
    for one in (fold, again):
        lived(one, [0.6] * 20, [True] * 20, start=900)
    assert again.as_dict() == fold.as_dict()


def test_council_when_an_agent_is_in_probation_then_it_moves_no_bit_of_any_decision():
    rng = np.random.default_rng(5)
    quiet, crowded = council(MEMBERS), council(MEMBERS)
    seqs = {id(quiet): 0, id(crowded): 0}

    def tell(judge, *records):
        for record in records:
            seqs[id(judge)] += 1
            judge.observe([(seqs[id(judge)], record)])

    for k in range(120):
        said = [opinion(x, float(rng.uniform(0.4, 0.6)), k) for x in MEMBERS]
        loud = opinion("stranger", float(rng.choice([0.02, 0.98])), k, risk_down=0.9, risk_up=0.9)
        r = float(rng.normal(0, 2e-3))
        found = []
        for judge, heard in ((quiet, said), (crowded, [*said, loud])):
            if k >= H:
                tell(judge, outcome(k - H, r))
            decision = judge.generate_signal(
                judge.prepare_state(state(k), heard, {}), state(k).as_of
            )
            tell(judge, *heard, decision)
            found.append(decision)
        one, other = found
        for name in ("prob_up", "expected_return", "quantiles", "risk_down", "risk_up", "weights"):
            assert getattr(one, name) == getattr(other, name), name
        assert "stranger" not in other.weights
