"""What people are told of an event: pure, from the event's body to HTML.

Every message ends with the event's own time (market time, UTC): one that comes late says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from domain.times import iso
from domain.trading import Event
from notifications.figures import (
    NONE,
    chance,
    fixed,
    percent,
    plain_number,
    price,
    quote_of,
    when,
    words,
)
from notifications.markup import Button, Note, Picture, Rows, bold, code, escape, italic, table

Body = Mapping[str, Any]
_ARROW = {"LONG": "🟢", "SHORT": "🔴", "NO_TRADE": "⚪"}
_LEVEL = {"info": "ℹ️", "warning": "⚠️", "error": "🛑"}
_LONGEST = 1500  # characters of one foreign text
_SHOWN = 40  # figures of a list
_FELT = 5e-5  # logit; less reads 0.0000


def note_of(event: Event) -> Note:
    """Return the message about an event, of any length.

    Raises
    ------
    KeyError, ValueError, TypeError : if the body is not what this version writes.
    """
    compose = _COMPOSERS.get(event.kind)
    note = _other(event) if compose is None else compose(event)
    return Note(f"{note.html}\n{_time(event)}", note.buttons, note.picture)


def unreadable(event: Event) -> Note:
    """Return a message about an event that :func:`note_of` cannot read."""
    html = f"{_LEVEL[event.level]} {bold(event.kind)}\nAnother version wrote this event."
    return Note(f"{html}\n{_time(event)}")


def cut(text: Any, most: int = _LONGEST) -> str:
    """Return a foreign text, cut where nobody would read on."""
    said = str(text)
    return said if len(said) <= most else said[: most - 1] + "…"


def _time(event: Event) -> str:
    return italic(when(iso(event.at)))


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _decision(event: Event) -> Note:
    body = event.body
    action, symbol = str(body["decision"]), str(body["symbol"])
    title = bold(f"{action} {symbol}")
    head = f"{_ARROW.get(action, '⚪')} {title} {escape(body['timeframe'])}"
    marks = [body["source"], *(["degraded"] if body["degraded"] else [])]
    needed = body["break_even_prob"]
    odds = f"{_odds(action, body['prob_up'])}, confidence {chance(body['confidence'])}"
    if needed is not None:
        odds += f", break-even {chance(needed)}"
    steps = body["horizon_steps"]
    spread = (
        f"Expected {percent(body['expected_return'], 3, sign=True)} over {steps} bars, "
        f"p10 {percent(body['p10'], sign=True)}, p90 {percent(body['p90'], sign=True)}"
    )
    levels = ""
    if body["stop"] is not None or body["target"] is not None:
        levels = f"Stop {price(body['stop'])}, target {price(body['target'])}"
    html = _lines(
        f"{head} · {escape(', '.join(map(str, marks)))}",
        odds,
        spread,
        levels,
        f"Risk of the adverse move {chance(body['risk_score'])}" if body["risk_score"] is not None
        else "",
        italic(cut(body["reason"])),
        _votes(body),
        code(body["id"]),
    )  # fmt: skip
    return Note(html, _buttons_for(body["id"], symbol))


def _odds(action: str, p_up: float | None) -> str:
    """The probability of the side taken, which is what the break-even is held against."""
    if action == "SHORT" and p_up is not None:
        return f"P(down) {chance(1.0 - p_up)}"
    return f"P(up) {chance(p_up)}"


def _votes(body: Body) -> str:
    """The agents by what they moved, with weight and word."""
    parts = {k: float(v) for k, v in body["contributions"].items() if k in body["weights"]}
    parts = {k: v for k, v in parts.items() if abs(v) >= _FELT}
    ranked = sorted(parts.items(), key=lambda part: -abs(part[1]))[:4]
    rows = [(name, percent(body["weights"][name], 0), f"{part:+.4f}") for name, part in ranked]
    absent = ", ".join(f"{k} ({words(v)})" for k, v in sorted(body["absent"].items()))
    return _lines(
        table(rows, ("agent", "weight", "logit")) if rows else "",
        f"Absent: {escape(cut(absent, 300))}" if absent else "",
    )


def _buttons_for(decision_id: str, symbol: str) -> Rows:
    why, chart = f"why:{decision_id}", f"chart:{symbol}"
    fitting = [(label, data) for label, data in (("Why", why), ("Chart", chart)) if _fits(data)]
    return (tuple(Button(label, data) for label, data in fitting),) if fitting else ()


def _fits(data: str) -> bool:
    return len(data.encode()) <= 64


def _fill(event: Event) -> Note:
    body = event.body
    unit = quote_of(str(body["symbol"]))
    role = "maker" if body["maker"] else "taker"
    title = f"Filled {body['side']} {plain_number(body['qty'])} {body['symbol']}"
    return Note(
        _lines(
            f"✅ {bold(title)} at {price(body['price'])}",
            f"For: {escape(words(body['intent']))} · {role}",
            f"Fee {fixed(body['fee'], 4, unit=unit)}, spread {fixed(body['spread'], 4)}, "
            f"slippage {fixed(body['slippage'], 4)}",
        )
    )


def _trade(event: Event) -> Note:
    body = event.body
    unit, pnl = quote_of(str(body["symbol"])), float(body["pnl"])
    costs = [(name, fixed(body[name], 4)) for name in ("fee", "spread", "slippage", "funding")]
    title = bold(f"Closed {body['side']} {body['symbol']} by {words(body['reason'])}")
    earned = bold(fixed(body["pnl"], 2, sign=True, unit=unit))
    return Note(
        _lines(
            f"{'💰' if pnl > 0 else '📉'} {title}: {earned} net",
            f"{plain_number(body['qty'])} at {price(body['entry'])} → {price(body['exit'])}",
            f"{when(body['opened_at'])} → {when(body['closed_at'])}",
            table(costs, ("cost", unit)),
            f"Trade {code(body['id'])}",
        )
    )


def _risk(event: Event) -> Note:
    body = event.body
    if "mode" in body:
        icon = {"ACTIVE": "▶️", "REDUCING": "⏸", "HALTED": "🛑", "KILLED": "🛑"}
        mode = str(body["mode"])
        head = f"{icon.get(mode, '⚠️')} {bold(f'Risk mode {mode}')}"
        return Note(_lines(head, f"By {escape(cut(body['by'], 200))}: {escape(cut(body['why']))}"))
    if "rule" in body:
        what = f"Refused {words(body['intent'])} {body['symbol']}: {words(body['code'])}"
        rule = f"Rule: {escape(cut(body['rule'], 300))}; it was {escape(cut(body['value'], 300))}"
        return Note(_lines(f"🚫 {bold(what)}", rule))
    kind = words(body.get("kind", body.get("source", "")))
    head = f"{_LEVEL[event.level]} {bold(f'Risk: {kind}'.removesuffix(': '))}"
    return Note(_lines(head, escape(cut(body["why"])), _by(body)))


def _by(body: Body) -> str:
    return f"By {escape(cut(body['by'], 200))}" if body.get("by") else ""


def _journal(event: Event) -> Note:
    body = event.body
    what = f"{'Draft' if body['draft'] else 'Reflection'} on {body['symbol']}"
    tags = ", ".join(map(str, body["tags"]))
    return Note(
        _lines(
            f"📓 {bold(what)} by {escape(cut(body['author'], 100))}",
            italic(cut(body["text"])),
            f"Tags: {escape(cut(tags, 300))}" if tags else "",
        )
    )


def _drift(event: Event) -> Note:
    body = event.body
    head = "📡 " + bold(f"Drift: {body['alarm']} {body['symbol']} {body['timeframe']}")
    return Note(_lines(head, escape(cut(body["what"])), f"Do: {escape(cut(body['action']))}"))


def _system(event: Event) -> Note:
    body = event.body
    head = f"{escape(body.get('icon', _LEVEL[event.level]))} {bold(cut(body['what'], 200))}"
    return Note(_lines(head, escape(cut(body.get("why", ""))), _pairs(body)))


def _job(event: Event) -> Note:
    body = event.body
    state = str(body["state"])
    icon = {"running": "🛠", "done": "🏁", "failed": "🛑", "queued": "⏳"}.get(state, "ℹ️")
    verb = {"running": "started", "done": "finished"}.get(state, state)
    why = escape(cut(body.get("why", "")))
    return Note(
        _lines(f"{icon} " + bold(f"Job {cut(body['name'], 100)} {verb}"), why, _pairs(body))
    )


def _pairs(body: Body) -> str:
    rows = [(name, show(value)) for name, value in list(body.get("figures", {}).items())[:_SHOWN]]
    return table(rows) if rows else ""


def show(value: Any) -> str:
    """Return any figure in few characters."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,d}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return NONE if value is None else cut(value, 80)


def _metrics(event: Event) -> Note:
    body = event.body
    parts = [f"📐 {bold(cut(body['what'], 200))}"]
    parts += list(_boards(body.get("boards", {})))
    return Note(_lines(*parts, _pairs(body)), picture=_picture(body))


def _boards(boards: Body) -> Iterator[str]:
    for title, rows in boards.items():
        yield escape(title)
        yield table(rows[1:], rows[0])


def _daily(event: Event) -> Note:
    body = event.body
    unit = str(body["currency"])
    pnl = float(body["pnl"])
    mood = "📈" if pnl > 0 else "📉" if pnl < 0 else "📊"
    counts = ", ".join(f"{n} {k}" for k, n in body["decisions"].items())
    costs = [(name, fixed(amount, 2)) for name, amount in body["costs"].items()]
    root = body["root"]
    won = f"{body['wins']} won" if body["trades"] else "none"
    title = bold(f"Day {body['day']}")
    html = _lines(
        f"{mood} {title}: {bold(fixed(body['pnl'], 2, sign=True, unit=unit))}"
        + (" · simulated market" if body["simulated"] else ""),
        f"Equity {fixed(body['equity'], 2, unit=unit)}, {percent(body['return'], sign=True)} on "
        f"the day, {percent(body['drawdown'])} below its high",
        f"{body['trades']} closed trades ({won}), "
        f"{fixed(body['closed_pnl'], 2, sign=True, unit=unit)}",
        f"Decisions: {escape(counts or 'none')}",
        f"Risk mode {escape(body['mode'])}, {body['open']} open "
        f"position{'' if body['open'] == 1 else 's'}",
        table(costs, ("cost", unit)) if costs else "",
        f"Ledger: {root['seq']:,d} rows, root {code(root['hash'])}",
    )
    return Note(html, picture=_picture(body))


def _picture(body: Body) -> Picture | None:
    shown = body.get("picture")
    return None if shown is None else Picture(str(shown["chart"]), dict(shown["data"]))


def _other(event: Event) -> Note:
    body = event.body
    head = f"{_LEVEL[event.level]} {bold(words(event.kind).capitalize())}"
    hint = cut(body.get("hint", ""))
    return Note(_lines(head, escape(cut(body.get("why", ""))), escape(hint)))


_COMPOSERS: Mapping[str, Callable[[Event], Note]] = {
    "decision": _decision,
    "fill": _fill,
    "trade": _trade,
    "risk": _risk,
    "journal": _journal,
    "drift": _drift,
    "system": _system,
    "error": _system,
    "job": _job,
    "metrics": _metrics,
    "daily": _daily,
}
