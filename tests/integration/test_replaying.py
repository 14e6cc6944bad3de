"""``conclave replay``: a decision of a real ledger, made again from nothing but that ledger."""

import json
from dataclasses import replace

import pytest

from serving.system import platform_name


@pytest.mark.long
def test_replay_when_nothing_changed_then_the_same_to_the_last_bit(stored, cli):
    for decision in stored(platform_name())[::10]:
        code, told, _ = cli("replay", decision.id, "--json")
        body = json.loads(told)
        assert (code, body["same"], body["exact"]) == (0, True, True)
        assert (body["decision"], body["learned"]) == ({}, {})
        assert body["folded_to"] == decision.state_seq


def test_replay_when_made_on_another_machine_then_within_a_tolerance_and_it_says_so(stored, cli):
    decision = stored("python 3.9, an abacus")[-1]
    code, told, _ = cli("replay", decision.id)
    assert code == 0
    assert "the same within 1e-12" in told
    assert "an abacus" in told


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: replace(d, prob_up=d.prob_up + 1e-9), "prob_up"),
        (lambda d: replace(d, inputs=d.inputs | {"kappa": 0.9}), "kappa"),
        (
            lambda d: replace(
                d, inputs=d.inputs | {"learnt": d.inputs["learnt"] | {"base": 0.7}}
            ),
            "base",
        ),
    ],
)  # fmt: skip
def test_replay_when_a_number_is_not_what_the_ledger_gives_then_it_names_it(
    stored, cli, change, field
):
    decision = stored(platform_name(), change)[-1]
    code, told, complaint = cli("replay", decision.id)
    assert code == 1
    assert field in told
    assert field in complaint


@pytest.mark.long
def test_replay_when_a_decision_lacks_its_inputs_or_is_unknown_then_it_says_so(stored, cli):
    decision = stored("", lambda d: replace(d, inputs={}))[-1]
    code, _, complaint = cli("replay", decision.id)
    assert code == 1
    assert "must carry the inputs" in complaint
    code, _, complaint = cli("replay", "nothing")
    assert code != 0
    assert "is not in this ledger" in complaint
