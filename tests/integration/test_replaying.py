"""``conclave replay``: a decision of a real ledger, made again from nothing but that ledger."""

import json
from dataclasses import replace

import pytest
from consensus_cases import COSTS, MEMBERS, life

from consensus.council import Council
from consensus.settings import CouncilSettings, DecisionRules
from domain.decision import Decision
from serving.bootstrap import open_storage
from serving.commands.common import settings_from
from serving.system import platform_name
from storage.ledger import SqlLedger

ROUNDS = 40


def judge(platform):
    settings = CouncilSettings(members=MEMBERS, half_life=20.0, late_window=8)
    return Council(settings, DecisionRules(), lambda _: COSTS, platform=platform)


@pytest.fixture
def stored(tmp_path):
    """Store a council's life, and return its decisions."""

    def store(platform, change=lambda decision: decision):
        rows = life(3, ROUNDS, made_by=judge(platform), swap_outcomes=(5, 6, 20))
        last = rows[-1][1]
        records = [change(x) if x is last else x for _, x in rows]
        settings = settings_from(None, None, [f"VAR_DIR={tmp_path / 'var'}"])
        ledger = SqlLedger(open_storage(settings), "test")
        for record in records:
            ledger.append([record])
        return [x for x in records if isinstance(x, Decision)]

    return store


def test_replay_when_nothing_changed_then_the_same_to_the_last_bit(stored, cli):
    for decision in stored(platform_name())[:: ROUNDS // 4]:
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


def test_replay_when_a_decision_lacks_its_inputs_or_is_unknown_then_it_says_so(stored, cli):
    decision = stored("", lambda d: replace(d, inputs={}))[-1]
    code, _, complaint = cli("replay", decision.id)
    assert code == 1
    assert "must carry the inputs" in complaint
    code, _, complaint = cli("replay", "nothing")
    assert code != 0
    assert "is not in this ledger" in complaint
