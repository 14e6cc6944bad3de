"""``conclave scenario what-if``: a stored decision under other inputs, and what each one weighs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from consensus.counterfactual import RULES, Changes, decide_anew, heard_by
from consensus.replay import ELSEWHERE, differences, inputs_of, own_reasons, wanted, wanted_by
from consensus.sensitivity import Sensitivity, changes_made, sensitivities
from domain.canonical import plain
from domain.decision import Decision
from domain.errors import CheckFailed, UsageError
from domain.times import iso
from serving.replaying import council_decision
from storage.queries import Reader

NO_CHANGE = Changes()
_IN_A_ROW = (
    "prob_up", "expected_return", "break_even_prob", "risk_score", "intent", "reasons",
)  # fmt: skip
_TRUTH = {"true": True, "false": False}


def imagined(reader: Reader, decision_id: str, changes: Changes) -> dict[str, Any] | None:
    """Return a decision as stored and as changed; without changes, what each change would do.

    ``changed`` is null without changes, ``sensitivities`` empty with them. None if this world does
    not hold the decision.

    Raises
    ------
    CheckFailed : if the decision is another strategy's, or does not come out the same unchanged.
    UsageError, SettingError : for changes that make no sense.
    """
    found = council_decision(reader, decision_id)
    if found is None:
        return None
    decision, said = found
    if odd := differences(decision, said, ELSEWHERE):
        raise CheckFailed(
            f"decision {decision.id}", "must come out the same before anything is changed",
            ", ".join(odd), f"conclave replay {decision.id} shows both sides.",
        )  # fmt: skip
    changed = None if changes == NO_CHANGE else wanted(*decide_anew(decision, said, changes))
    inputs = inputs_of(decision)
    body: dict[str, Any] = plain(
        {
            "id": decision.id,
            "symbol": decision.symbol,
            "timeframe": decision.timeframe,
            "as_of": iso(decision.as_of),
            "changes": changes_made(inputs, heard_by(decision, said, inputs), changes),
            "stored": wanted_by(decision),
            "changed": changed,
            "flips": changed is not None and changed["intent"] != decision.intent,
            "not_asked_again": _stopped(decision),
            "sensitivities": []
            if changed
            else [_row(one) for one in sensitivities(decision, said)],
        }
    )
    return body


def changes_from(
    says: Iterable[str] = (),
    without: Iterable[str] = (),
    costs: Iterable[str] = (),
    rules: Iterable[str] = (),
    kappa: float | None = None,
    sigma: float | None = None,
) -> Changes:
    """Read changes as they are typed.

    Parameters
    ----------
    says : AGENT=P. ``costs`` : NAME=BPS, with or without ``_bps``. ``rules`` : NAME=VALUE, in any
        spelling of the setting; ``none`` turns off what can be.

    Raises
    ------
    UsageError : for one that cannot be read, an unknown name or a number out of its range.
    """
    spelt = _named("--rule", rules, "prob_min=0.55")
    named = {name.lower().replace("-", "_"): text for name, text in spelt.items()}
    priced = _named("--cost", costs, "fee=4").items()
    said = _named("--say", says, "technical=0.55").items()
    return Changes(
        rules={name: _rule(name, text) for name, text in named.items()},
        costs={f"{n.lower().removesuffix('_bps')}_bps": _number(f"cost {n}", x) for n, x in priced},
        kappa=kappa,
        sigma=sigma,
        says={agent: _number(f"P(up) of {agent}", text) for agent, text in said},
        without=tuple(dict.fromkeys(without)),
    )


def _stopped(decision: Decision) -> dict[str, Any]:
    """What came after the council, as stored."""
    own, gate = own_reasons(decision), decision.gate
    return {
        "gate": {"action": gate.action, "reason": gate.reason, "size_factor": gate.size_factor},
        "reasons": [reason for reason in decision.reasons if reason not in own],
        "decision": decision.action,
    }


def _row(one: Sensitivity) -> dict[str, Any]:
    made = wanted(one.consensus, one.verdict)
    return {"change": one.change, **{name: made[name] for name in _IN_A_ROW}, "flips": one.flips}


def _named(flag: str, texts: Iterable[str], example: str) -> Mapping[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(flag, "must be NAME=VALUE", text, f"Try {flag} {example}")
        found[name.strip()] = value.strip()
    return found


def _rule(name: str, text: str) -> Any:
    kind = RULES.get(name, "float")  # one that there is not is refused with all the others
    if text.lower() in ("none", "off") and "None" in kind:
        return None
    if kind == "bool":
        if text.lower() not in _TRUTH:
            raise UsageError(name, "must be true or false", text)
        return _TRUTH[text.lower()]
    number = _number(name, text)
    if not kind.startswith("int"):
        return number
    if not number.is_integer():
        raise UsageError(name, "must be a whole number", text)
    return int(number)


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(what, "must be a number", text) from error
