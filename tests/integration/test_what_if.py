"""``conclave scenario what-if``: a moment of a real ledger under other inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consensus.counterfactual import Changes, decide_anew
from consensus.replay import wanted, wanted_by
from consensus.sensitivity import COST_FACTORS, P_STEP, RULE_STEPS, SCALES
from domain.canonical import plain
from domain.decision import Action, Decision, GateVerdict
from domain.opinion import Opinion
from serving.bootstrap.storage import open_storage
from serving.commands.common import settings_from
from storage.ledger import SqlLedger
from storage.queries import Reader
from tests.command_line import Cli

Store = Callable[..., list[Decision]]
WHAT_IF = ("scenario", "what-if")
DOCUMENT = Path(__file__).parents[2] / "docs" / "scenarios.md"
PAGE = DOCUMENT.read_text(encoding="utf-8").partition("\n## What if\n")[2]


def said_at(var: Path, decision: Decision) -> list[Opinion]:
    reader = Reader(open_storage(settings_from(None, None, [f"VAR_DIR={var}"])), "test")
    return [x for _, x in reader.opinions_at(decision.symbol, decision.as_of)]


def told(cli: Cli, *words: str) -> dict[str, Any]:
    code, out, err = cli(*WHAT_IF, *words, "--json")
    assert (code, err) == (0, "")
    body: dict[str, Any] = json.loads(out)
    return body


@pytest.mark.long
def test_what_if_when_inputs_are_changed_then_both_sides_are_those_of_the_ledger(
    stored: Store, cli: Cli, tmp_path: Path
) -> None:
    decision = stored("an abacus")[-1]
    body = told(
        cli, decision.id, "--say", "a=0.9", "--without", "b", "--cost", "fee=1.5",
        "--rule", "PROB-MIN=0.51", "--rule", "max_age_ms=none", "--rule", "require_risk=false",
        "--rule", "min_forecasters=1", "--kappa", "20",
    )  # fmt: skip
    changes = Changes(
        rules={"prob_min": 0.51, "max_age_ms": None, "require_risk": False, "min_forecasters": 1},
        costs={"fee_bps": 1.5}, kappa=20.0, says={"a": 0.9}, without=("b",),
    )  # fmt: skip
    said = said_at(tmp_path / "var", decision)
    assert body["stored"] == plain(wanted_by(decision))
    assert body["changed"] == plain(wanted(*decide_anew(decision, said, changes)))
    assert body["changed"]["prob_up"] > body["stored"]["prob_up"]
    heard = {one.agent: one.p_up for one in said}
    assert [tuple(one.values()) for one in body["changes"]] == [
        (None, "without", "b", heard["b"]), (0.9, "says", "a", heard["a"]),
        (1.5, "cost", "fee", 10.0), (20.0, "kappa", "", decision.inputs["kappa"]),
        (0.51, "rule", "prob_min", 0.6), (None, "rule", "max_age_ms", None),
        (False, "rule", "require_risk", True), (1, "rule", "min_forecasters", 2),
    ]  # fmt: skip
    assert (body["sensitivities"], body["flips"]) == ([], False)


@pytest.mark.long
def test_what_if_when_nothing_is_changed_then_what_every_change_would_do(
    stored: Store, cli: Cli
) -> None:
    decision = stored("an abacus")[-1]
    body = told(cli, decision.id)
    assert (body["changes"], body["changed"]) == ([], None)
    one = next(x for x in body["sensitivities"] if x["change"]["input"] == "says")
    change = one["change"]
    alone = told(cli, decision.id, "--say", f"{change['name']}={change['changed']!r}")
    for name in ("prob_up", "expected_return", "break_even_prob", "risk_score", "reasons"):
        assert one[name] == alone["changed"][name]
    assert one["prob_up"] != body["stored"]["prob_up"]


@pytest.mark.long
def test_what_if_when_told_to_people_then_it_fits_eighty_columns(stored: Store, cli: Cli) -> None:
    decision = stored("an abacus")[-1]
    code, each, _ = cli(*WHAT_IF, decision.id)
    assert code == 0
    assert max(map(len, each.splitlines())) <= 80
    assert "gate and risk are not asked again" in each
    rows = [line.split() for line in each.splitlines()]
    assert ["nothing", f"{decision.prob_up:.4f}"] in [row[:2] for row in rows]
    assert ["without", "climatology"] in [row[:2] for row in rows]
    assert ["fee", "10→5", "bp"] in [row[:3] for row in rows]
    code, both, _ = cli(*WHAT_IF, decision.id, "--without", "a", "--cost", "fee=0")
    assert code == 0
    assert max(map(len, both.splitlines())) <= 80
    rows = [line.split() for line in both.splitlines()]
    assert ["stored", "changed"] in rows
    assert ["fee", "10", "bp", "0", "bp"] in rows
    assert ["P(up)", "of", "a", "absent"] in [[*row[:3], row[-1]] for row in rows]


@pytest.mark.long
def test_what_if_when_gate_and_risk_had_stopped_it_then_it_says_so_and_asks_neither(
    stored: Store, cli: Cli
) -> None:
    def stopped(decision: Decision) -> Decision:
        return replace(
            decision,
            gate=GateVerdict("veto", 0.0, 0.7, "doubts", decision.intent),
            action=Action.NO_TRADE,
            reasons=(*decision.reasons, "gate_veto", "killed"),
            margins={**decision.margins, "mode": -1.0},
            inputs={**decision.inputs, "risk": {"mode": {"value": "KILLED", "limit": "ACTIVE"}}},
        )

    decision = stored("an abacus", stopped)[-1]
    body = told(cli, decision.id, "--cost", "fee=0")
    assert body["not_asked_again"] == {
        "gate": {"action": "veto", "reason": "doubts", "size_factor": 0.0},
        "reasons": ["gate_veto", "killed"],
        "decision": "NO_TRADE",
    }
    assert "killed" not in body["stored"]["reasons"]
    _, out, _ = cli(*WHAT_IF, decision.id)
    assert "as stored: gate veto, gate_veto, killed. What remained: NO_TRADE." in " ".join(
        out.split()
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--say", "a=1"], "P(up) of a: must lie between 0 and 1, both excluded (got 1.0)"),
        (["--say", "a=much"], "P(up) of a: must be a number (got 'much')"),
        (["--say", "a"], "--say: must be NAME=VALUE (got 'a')\nTry --say technical=0.55"),
        (["--rule", "prob_mn=0.5"], "(got 'prob_mn')\nDid you mean \"prob_min\"?"),
        (["--rule", "prob_min=none"], "prob_min: must be a number (got 'none')"),
        (["--rule", "require_risk=1"], "require_risk: must be true or false (got '1')"),
        (["--rule", "min_forecasters=1.5"], "min_forecasters: must be a whole number (got '1.5')"),
        (["--cost", "fees=1"], "(got 'fees_bps')\nDid you mean \"fee_bps\"?"),
        (["--cost", "fee=-1"], "fee_bps: must be ≥ 0 bps (got -1.0)"),
        (["--kappa", "-1"], "kappa: must be ≥ 0 (got -1.0)"),
        (["--sigma", "0"], "sigma: must be > 0 (got 0.0)"),
    ],
)
def test_what_if_when_a_change_makes_no_sense_then_exit_2_says_what_does(
    cli: Cli, words: list[str], says: str
) -> None:
    code, out, err = cli(*WHAT_IF, "x", *words)
    assert (code, out) == (2, "")
    assert says in err


@pytest.mark.long
def test_what_if_when_a_change_does_not_fit_the_decision_then_exit_2_says_what_does(
    stored: Store, cli: Cli
) -> None:
    decision = next(x for x in stored("an abacus") if {*x.weights} == {"a", "c", "climatology"})
    for words, says in (
        (["--say", "b=0.5"], "agent: must be one that forecast a direction (got 'b')"),
        (["--without", "grok"], "agent: must be one whose opinion counted (got 'grok')"),
        (["--rule", "prob_min=2"], "prob_min: must lie in [0, 1] (got 2.0)"),
    ):
        code, out, err = cli(*WHAT_IF, decision.id, *words)
        assert (code, out) == (2, "")
        assert says in err
        assert ("There are: a, c, climatology." in err) == ("agent" in says)


@pytest.mark.long
def test_what_if_when_the_decision_is_no_councils_or_does_not_repeat_or_is_unknown_then_it_says_so(
    stored: Store, cli: Cli, tmp_path: Path
) -> None:
    forged = stored("an abacus", lambda d: replace(d, prob_up=d.prob_up + 1e-6))[-1]
    code, out, err = cli(*WHAT_IF, forged.id, "--cost", "fee=0")
    assert (code, out) == (1, "")
    assert "must come out the same before anything is changed (got 'prob_up')" in err
    assert f"conclave replay {forged.id}" in err

    other = replace(forged, strategy="ema_cross", symbol="ETH/USDT")
    settings = settings_from(None, None, [f"VAR_DIR={tmp_path / 'var'}"])
    SqlLedger(open_storage(settings), "test").append([other])
    code, _, err = cli(*WHAT_IF, other.id)
    assert code == 1
    assert "only the council's can be decided again (got 'ema_cross')" in err

    code, _, err = cli(*WHAT_IF, "nothing")
    assert code == 2
    assert "is not in this ledger (got 'nothing')" in err


def test_what_if_when_used_as_its_page_says_then_it_takes_every_flag(cli: Cli) -> None:
    flags = re.findall(r"^\| `(--\S+) (\S+)` \|", PAGE, re.MULTILINE)
    assert len(flags) == 6
    code, _, err = cli(*WHAT_IF, "x", *(word for flag in flags for word in flag))
    assert code == 2
    assert "signal: is not in this ledger (got 'x')" in err  # and nothing else is wrong


def test_sensitivities_when_told_of_on_the_page_then_steps_are_those() -> None:
    assert f"P(up) moved by ± {P_STEP};" in PAGE
    assert "every cost halved and doubled;" in PAGE
    assert COST_FACTORS == (0.5, 2.0)
    assert "κ and σ × {} and × {};".format(*SCALES) in PAGE
    steps = ", ".join(f"`{name}` ± {step:g}" for name, step in RULE_STEPS.items())
    assert steps in PAGE.replace("5 bp (0.0005)", "0.0005")
