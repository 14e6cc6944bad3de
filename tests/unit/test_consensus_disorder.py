"""A ledger out of order: outcomes late, rows twice, restarts anywhere, a clock that runs back."""

import json

import pytest
from consensus_cases import MEMBERS, SYMBOL, T0, council, life, opinion, outcome, state
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.canonical import canonical_json
from domain.opinion import Outcome

ROUNDS = 30
SHORT = {"half_life": 20.0, "late_window": 2 * ROUNDS}


def numbered(records):
    return list(enumerate(records, 1))


def learnt(judge):
    """Everything a council has learned, without how many rows it has read."""
    return canonical_json(judge.snapshot() | {"state_seq": 0})


def folded(rows, cuts=()):
    """Fold rows; at every cut the process ends and another one goes on from its snapshot."""
    judge, start = council(MEMBERS, **SHORT), 0
    for cut in [*sorted(cuts), len(rows)]:
        judge.observe(rows[start:cut])
        start = cut
        body = json.loads(canonical_json(judge.snapshot()))
        judge = council(MEMBERS, **SHORT)
        judge.restore(body)
    return judge


@pytest.mark.long
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1_000), st.data())
def test_fold_when_outcomes_are_late_rows_repeated_and_processes_killed_then_the_same(seed, data):
    records = [record for _, record in life(seed, ROUNDS, **SHORT)]
    orderly = folded(numbered(records))
    late = st.integers(0, len(records))
    moved = [(i, x) for i, x in enumerate(records) if not isinstance(x, Outcome)]
    moved += [
        (i + data.draw(late) + 0.5, x) for i, x in enumerate(records) if isinstance(x, Outcome)
    ]
    disorder = [x for _, x in sorted(moved, key=lambda one: one[0])]
    for _ in range(data.draw(st.integers(0, 12))):  # the same row once more, later
        at = data.draw(st.integers(0, len(disorder) - 1))
        disorder.insert(data.draw(st.integers(at + 1, len(disorder))), disorder[at])
    cuts = data.draw(st.lists(st.integers(0, len(disorder)), max_size=4))
    assert learnt(folded(numbered(disorder), cuts)) == learnt(orderly)


@pytest.mark.long
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1_000), st.integers(0, ROUNDS - 6), st.floats(0.02, 0.98))
def test_fold_when_an_opinion_comes_after_its_outcome_then_nothing_moves(seed, k, p):
    rows = life(seed, ROUNDS, **SHORT)
    judge = folded(rows)
    before = learnt(judge)
    for agent in (*MEMBERS, "new"):
        judge.observe([(judge.state_seq + 1, opinion(agent, p, k))])
        judge.observe([(judge.state_seq + 1, outcome(k, 0.01))])
    assert learnt(judge) == before


def test_council_when_the_clock_runs_back_then_it_declines_and_what_it_knows_is_intact():
    judge = folded(life(3, ROUNDS, **SHORT))
    before, earlier = learnt(judge), ROUNDS - 10  # its outcome is known
    said = [opinion(agent, 0.7, earlier) for agent in MEMBERS]
    made = judge.generate_signal(judge.prepare_state(state(earlier), said, {}), T0)
    assert made.intent == "NO_TRADE"
    assert "stale_data" in made.reasons
    rows = [*said, made]
    judge.observe([(judge.state_seq + 1 + i, row) for i, row in enumerate(rows)])
    assert learnt(judge) == before
    after = [opinion(agent, 0.6, ROUNDS) for agent in MEMBERS]
    judge.observe([(judge.state_seq + 1 + i, row) for i, row in enumerate(after)])
    assert all(row["awake"] for row in judge.weights_view(SYMBOL))
