"""What commands answer: pure, from what the API shows to HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from notifications.figures import (
    NONE,
    bps,
    chance,
    fixed,
    percent,
    plain_number,
    price,
    when,
    words,
)
from notifications.markup import bold, code, escape, italic, table
from notifications.messages import cut, show

Body = Mapping[str, Any]
_MODE = {"ACTIVE": "▶️", "REDUCING": "⏸", "HALTED": "🛑", "KILLED": "🛑"}


def lines(*parts: str) -> str:
    """Return the parts that are not empty, each on lines of its own."""
    return "\n".join(part for part in parts if part)


def status(health: Body, risk: Body, account: Body | None) -> str:
    """Answer /status: mode, what is open, what is wrong."""
    desk = health["desk"]
    simulated = "simulated market, " if health["simulated"] else ""
    return lines(
        f"{_MODE.get(risk['mode'], '⚠️')} {bold(risk['mode'])} · {escape(health['status'])} · "
        f"{simulated}{escape(health['source'])}",
        _why_mode(risk),
        *[f"⚠️ {escape(cut(problem, 300))}" for problem in health["problems"]],
        f"Desk: {escape(desk['phase'] or 'not running')}, as of {when(desk['as_of'])}",
        _account_line(account),
        positions(account),
    )


def _why_mode(risk: Body) -> str:
    if risk["mode"] == "ACTIVE" or not risk["why"]:
        return ""
    return f"Since {when(risk['since'])} by {escape(risk['by'])}: {escape(cut(risk['why'], 300))}"


def _account_line(account: Body | None) -> str:
    if account is None:
        return "The account is not known before the first bar."
    return (
        f"Equity {bold(fixed(account['equity'], 2, unit=account['currency']))}, "
        f"{percent(account['drawdown'])} below its high"
    )


def positions(account: Body | None) -> str:
    """List what is open, marked to the last close."""
    if account is None or not account["positions"]:
        return "No open position."
    return lines(*(_position(one) for one in account["positions"]))


def _position(one: Body) -> str:
    qty, entry, mark = (float(one[name] or 0) for name in ("qty", "entry_price", "mark"))
    open_pnl = qty * (mark - entry) if one["mark"] is not None else None
    icon = "🟢" if one["side"] == "LONG" else "🔴"
    return lines(
        f"{icon} {bold(one['side'])} {plain_number(abs(qty))} {escape(one['symbol'])} at "
        f"{price(one['entry_price'])}, now {price(one['mark'])}",
        f"   open {fixed(open_pnl, 2, sign=True)} before costs, until {when(one['horizon_due'])}",
    )


def balance(account: Body | None) -> str:
    """Answer /balance."""
    if account is None:
        return _account_line(account)
    unit = str(account["currency"])
    rows = [(name, fixed(account[key], 2)) for name, key in (
        ("cash", "cash"), ("equity", "equity"), ("high-water mark", "high_water"),
    )]  # fmt: skip
    return lines(
        f"💼 {bold('Paper account')} · {when(account['at'])}",
        table([*rows, ("below its high", percent(account["drawdown"]))], ("", unit)),
        positions(account),
    )


def profit(account: Body | None, initial: float, closed: Body, unit: str) -> str:
    """Answer /profit: the whole account since its start, and what closed trades made of it."""
    equity = None if account is None else float(account["equity"])
    gain = None if equity is None else equity - initial
    share = None if gain is None else gain / initial
    won = closed["wins"] / closed["trades"] if closed["trades"] else None
    return lines(
        f"💹 {bold('Since the start')}: {bold(fixed(gain, 2, sign=True, unit=unit))} "
        f"({percent(share, sign=True)}), marked to market",
        f"{closed['trades']:,d} closed trades, {closed['wins']:,d} won ({percent(won, 1)})",
        f"Closed: {fixed(closed['pnl'], 2, sign=True, unit=unit)} after "
        f"{fixed(closed['costs'], 2, unit=unit)} of costs",
        italic("A fact about this account, no promise about the next."),
    )


def earned(title: str, rows: Iterable[Body], unit: str) -> str:
    """Answer /daily, /weekly, /monthly and /performance: closed trades, summed."""
    cells = [
        (r["name"], f"{r['trades']}", f"{r['wins']}", fixed(r["pnl"], 2, sign=True)) for r in rows
    ]
    told = table(cells, ("", "n", "won", unit)) if cells else "No closed trade."
    return lines(f"📅 {bold(title)} · closed trades, UTC", told)


def trades(rows: Sequence[Body]) -> str:
    """Answer /trades: the newest first."""
    if not rows:
        return "No closed trade."
    return lines(
        f"🧾 {bold(f'Last {len(rows)} closed trades')}",
        *(
            f"{'🟩' if float(t['pnl']) > 0 else '🟥'} {when(t['closed_at'])} {escape(t['side'])} "
            f"{plain_number(t['qty'])} {escape(t['symbol'])} {price(t['entry'])} → "
            f"{price(t['exit'])}: {bold(fixed(t['pnl'], 2, sign=True))} "
            f"{escape(words(t['reason']))}"
            for t in rows
        ),
    )


def risk(body: Body) -> str:
    """Answer /risk: every limit, its value now, and the distance to it."""
    checks = [check for check in body["checks"] if check["name"] != "mode"]
    rows = [
        (
            words(c["name"]), *(_figure(c[k]) for k in ("value", "limit", "margin")),
            "✓" if c["passed"] else "✗",
        )
        for c in checks
    ]  # fmt: skip
    factor, cap = body["size_factor"], body["risk_cap"]
    return lines(
        f"{_MODE.get(body['mode'], '⚠️')} {bold('Risk mode ' + body['mode'])}",
        _why_mode(body),
        table(rows, ("limit", "now", "at", "left", "")) if rows else "",
        f"Size of the next entry: {percent(factor, 0)}" if factor is not None else "",
        f"At most {percent(cap)} of equity at risk a trade until a new high" if cap else "",
        *(
            f"Operator, {words(r['source'])}: {fixed(r['value'], 0)} until {when(r['until'])}"
            for r in body["operator"]
        ),
    )


def _figure(value: Any) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float | int)
        else NONE
        if value is None
        else words(value)
    )


def agents(listed: Sequence[Body], weights: Sequence[Body]) -> str:
    """Answer /agents: what each weighs, its record, and how it is."""
    states = {agent["name"]: agent for agent in listed}
    rows = [
        (
            row["agent"], percent(row["weight"], 1), _skill(row["skill_1e4"]), f"{row['n']:,d}",
            "awake" if row["awake"] else "probation" if row["probation"] else "asleep",
        )
        for row in weights
    ]  # fmt: skip
    markets = sorted({f"{row['symbol']} {row['timeframe']}" for row in weights})
    return lines(
        f"🧠 {bold('Agents')} · {escape(', '.join(markets))}",
        table(rows, ("agent", "weight", "skill", "n", "")) if rows else "Nothing is scored yet.",
        *(
            f"⚠️ {escape(name)}: {escape(cut(agent['problem'], 200))}"
            for name, agent in sorted(states.items())
            if agent["problem"]
        ),
        italic("skill: (¼ − decayed Brier) × 10⁴; above 0 beats a coin"),
    )


def _skill(value: float | None) -> str:
    return NONE if value is None else f"{value:+.1f}"


def consensus(signals: Sequence[Body]) -> str:
    """Answer /consensus: what the council said last, by symbol."""
    if not signals:
        return "The council has not decided yet."
    return "\n\n".join(_consensus(one) for one in signals)


def _consensus(one: Body) -> str:
    parts = sorted(one["contributions"].items(), key=lambda part: -abs(part[1]))
    rows = [
        (name, percent(one["weights"].get(name), 1), f"{part:+.4f}")
        for name, part in parts
        if name != "_fusion"
    ]
    fusion = one["contributions"].get("_fusion")
    return lines(
        f"⚖️ {bold(one['symbol'])} {escape(one['timeframe'])}: {bold(one['decision'])}",
        f"P(up) {chance(one['prob_up'])}, break-even {chance(one['break_even_prob'])}, "
        f"confidence {chance(one['confidence'])}",
        f"In {one['horizon_steps']} bars: {bps(one['expected_return'])} expected, "
        f"p10 {bps(one['p10'])}, p50 {bps(one['p50'])}, p90 {bps(one['p90'])}",
        table(rows, ("agent", "weight", "logit")) if rows else "",
        f"Fusion {fusion:+.4f} logit" if fusion is not None else "",
        f"{when(one['as_of'])} · {code(one['id'])}",
    )


def calibration(body: Body) -> str:
    """Answer /calibration, beside its picture."""
    if body["why"]:
        return f"🎯 {bold('Calibration')}: {escape(body['why'])}"
    inside = sum(low <= seen <= high for _, seen, low, high, _ in body["bins"])
    return lines(
        f"🎯 {bold('Calibration')} {escape(body['symbol'])}, {body['n']:,d} scored decisions",
        f"Brier {body['brier']:.4f}, skill {body['skill_1e4']:+.1f} · {inside} of "
        f"{len(body['bins'])} points within what luck explains",
    )


def health(body: Body) -> str:
    """Answer /health: what works, what is wrong, what is proposed."""
    desk, rows = body["desk"], body["rows"]
    icon = "💚" if body["status"] == "ok" else "💛"
    told = [*body["drifts"], *body["failures"]]
    return lines(
        f"{icon} {bold(body['status'])} · world {escape(body['world'])}",
        *[f"⚠️ {escape(cut(problem, 400))}" for problem in body["problems"]],
        f"Desk: {escape(desk['phase'] or 'not running')}, pid {desk['pid'] or NONE}, opinions via "
        f"{escape(words(desk['via'] or NONE))}, as of {when(desk['as_of'])}",
        f"Ledger: {rows['decisions']:,d} decisions, {rows['fills']:,d} fills, "
        f"{rows['trades']:,d} closed trades",
        *[f"📌 {escape(cut(one['what'], 300))} ({when(one['at'])})" for one in told[:5]],
        f"and {len(told) - 5} more open proposals" if len(told) > 5 else "",
        _outbox(body.get("outbox", {})),
    )


def _outbox(counts: Body) -> str:
    if not counts:
        return ""
    waiting = counts.get("pending", 0) + counts.get("sending", 0)
    return (
        f"Messages: {waiting:,d} waiting, {counts.get('sent', 0):,d} sent, "
        f"{counts.get('failed', 0):,d} given up"
    )


def version(body: Body) -> str:
    """Answer /version."""
    return lines(
        f"🏷 {bold('Conclave ' + str(body['version']))}", table(list(body["parts"].items()))
    )


def paper(body: Body, account: Body | None) -> str:
    """Answer /paper: what is simulated, and on which terms."""
    return lines(
        f"📝 {bold('Paper')}: no order leaves this machine",
        table([(name, show(value)) for name, value in body.items()]),
        _account_line(account),
    )


def config(groups: Mapping[str, Mapping[str, Any]], title: str) -> str:
    """Answer /show_config: settings by group; secrets are masked before they come here."""
    parts = [f"⚙️ {bold(title)}"]
    for group, values in groups.items():
        if values:
            rows = [(name, cut(_setting(value), 60)) for name, value in values.items()]
            parts += [bold(group), table(rows)]
    return lines(*parts)


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NONE
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def logs(found: Sequence[Body]) -> str:
    """Answer /logs: the newest last."""
    if not found:
        return "No such line."
    return lines(
        *(
            f"{code(str(one.get('ts', ''))[:19])} {escape(one.get('level', ''))} "
            f"{bold(one.get('event', ''))} {escape(cut(_rest(one), 300))}"
            for one in found
        )
    )


def _rest(one: Body) -> str:
    hidden = ("ts", "level", "event", "process", "logger")
    return " ".join(f"{name}={value}" for name, value in one.items() if name not in hidden)


def help_text(commands: Iterable[tuple[str, str, str]], role: str) -> str:
    """Answer /help: (usage, what it does, role) of what this role may do."""
    return lines(
        f"🤝 {bold('Conclave')} · you are {escape(role)}",
        *(
            f"{escape(usage)} – {escape(text)}" + (" 🔒" if needs == "operator" else "")
            for usage, text, needs in commands
        ),
        italic("🔒 operators, with a confirmation") if role == "operator" else "",
    )
