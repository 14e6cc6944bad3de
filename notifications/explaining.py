"""/why: a decision in full, from the votes to what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from notifications.figures import NONE, bps, chance, percent, price, when, words
from notifications.markup import bold, code, escape, italic, table
from notifications.messages import cut, show
from notifications.replies import lines

Body = Mapping[str, Any]


def why(body: Body) -> str:
    """Return the whole explanation, as ``GET /v1/signals/{id}/why`` gives it, of any length."""
    signal = body["signal"]
    return "\n\n".join(part for part in (
        _head(signal), _votes(body), _texts(signal), _dissent(body), _debate(body), _costs(body),
        _flips(body), _margins(body), _gate(signal), _outcome(body), _traces(body),
    ) if part)  # fmt: skip


def _head(signal: Body) -> str:
    title = f"{signal['decision']} {signal['symbol']} {signal['timeframe']}"
    return lines(
        f"🔎 {bold(title)} · {when(signal['as_of'])}",
        italic(cut(signal["reason"])),
        f"P(up) {chance(signal['prob_up'])}, break-even {chance(signal['break_even_prob'])}, "
        f"confidence {chance(signal['confidence'])}, risk {chance(signal['risk_score'])}",
        f"Over {signal['horizon_steps']} bars: {bps(signal['expected_return'])} expected, "
        f"p10 {bps(signal['p10'])}, p50 {bps(signal['p50'])}, p90 {bps(signal['p90'])}",
        f"Stop {price(signal['stop'])}, target {price(signal['target'])}"
        if signal["stop"] is not None or signal["target"] is not None
        else "",
        f"Reasons: {escape(', '.join(map(words, signal['reasons'])))}" if signal["reasons"] else "",
    )


def _votes(body: Body) -> str:
    rows = [
        (
            vote["agent"], chance(vote["direction_probability"]),
            percent(body["weights"].get(vote["agent"]), 1),
            _signed(body["contributions"].get(vote["agent"])),
        )
        for vote in body["votes"]
    ]  # fmt: skip
    rows.append(("fusion", "", "", _signed(body["contributions"].get("_fusion"))))
    absent = body["signal"]["absent"]
    return lines(
        bold("Votes"),
        table(rows, ("agent", "P(up)", "weight", "logit")),
        *(f"Absent: {escape(name)}, {escape(words(why))}" for name, why in sorted(absent.items())),
    )


def _signed(value: float | None) -> str:
    return NONE if value is None else f"{value:+.4f}"


def _texts(signal: Body) -> str:
    said = sorted(signal["explanations"].items())
    if not said:
        return ""
    return lines(bold("What they said"), *(f"• {bold(k)}: {escape(cut(v, 600))}" for k, v in said))


def _dissent(body: Body) -> str:
    one = body["strongest_dissent"]
    if one is None:
        return ""
    odds = chance(one["direction_probability"])
    return f"{bold('Strongest dissent')}: {escape(one['agent'])} with P(up) {odds}"


def _debate(body: Body) -> str:
    return "" if not body["debate"] else lines(
        bold("Debate"), *(f"• {escape(cut(_flat(turn), 400))}" for turn in body["debate"])
    )  # fmt: skip


def _costs(body: Body) -> str:
    rows = [(words(step["item"]), f"{step['bps']:+.2f}") for step in body["waterfall"]]
    return lines(bold("What the side would leave"), table(rows, ("", "bps"))) if rows else ""


def _flips(body: Body) -> str:
    found = body["flips"]
    if not found:
        return ""
    return lines(
        bold("What would have flipped it"), *(line for one in found for line in _flip(one))
    )


def _flip(one: Body) -> Iterator[str]:
    yield f"• {escape(words(one['what']))}: is {show(one['is'])}, needs {show(one['needs'])}"
    agents = {k: v for k, v in (one.get("agents") or {}).items() if v is not None}
    if agents:
        alone = ", ".join(f"{name} at {chance(p)}" for name, p in sorted(agents.items()))
        yield f"   alone: {escape(cut(alone, 400))}"


def _margins(body: Body) -> str:
    rows = [(words(name), show(value)) for name, value in sorted(body["margins"].items())]
    return lines(bold("Margins"), table(rows)) if rows else ""


def _gate(signal: Body) -> str:
    gate = signal["gate"]
    if gate["action"] == "off":
        return ""
    return (
        f"{bold('Gate')}: {escape(gate['action'])} ×{gate['size_factor']:.2f}, "
        f"{escape(cut(gate['reason'], 300))}"
    )


def _outcome(body: Body) -> str:
    came = body["outcome"]
    if came is None:
        return f"{bold('Outcome')}: not known yet"
    declined = body["declined"]
    return lines(
        f"{bold('Outcome')} at {when(came['due'])}: {bps(came['log_return'])} "
        f"({'up' if came['up'] else 'not up'}), Brier {chance(came['brier'])}",
        f"Declined: {escape(declined['side'])}, {declined['gross_bps']:+.1f} bps gross, "
        f"{declined['net_bps']:+.1f} net" if declined else "",
    )  # fmt: skip


def _traces(body: Body) -> str:
    version = body["signal"]["version"]
    return lines(
        f"Id {code(body['signal']['id'])}",
        f"Models {code(version['model_version'])}, commit {code(str(version['git_commit'])[:12])}, "
        f"state row {show(body['state_seq'])}",
    )


def _flat(turn: Any) -> str:
    if isinstance(turn, Mapping):
        return ", ".join(f"{name} {show(value)}" for name, value in turn.items())
    return str(turn)
