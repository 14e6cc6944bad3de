"""The plain status page at ``/``: one document, no script, no outside file, fit for a phone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any

from domain.times import iso
from serving.feed_words import WAITING, feed_line

REFRESH_SECONDS = 5
NAMES = {
    "daily_loss": "Loss today",
    "total_stop": "Drawdown",
    "total_exposure": "Exposure",
}
PROSE = ("why", "says")  # columns of words
ARROWS = {"LONG": "▲ ", "SHORT": "▼ "}

_STYLE = """
:root{color-scheme:dark;--bg:#0e1116;--card:#161b22;--line:#262d37;--text:#e6e9ee;--dim:#9aa6b5;
--up:#3fb68b;--down:#f0776f;--blue:#5b8def}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:20px;background:var(--bg);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
h1{font-size:21px;margin:0}p{margin:6px 0}a{color:#86b0ff}code{font-size:.93em}
h2{font-size:12px;letter-spacing:.07em;text-transform:uppercase;color:var(--dim);margin:0 0 8px}
header{display:flex;flex-wrap:wrap;gap:6px 10px;align-items:center;margin-bottom:14px}
.tag{border:1px solid var(--line);border-radius:99px;padding:1px 10px;color:var(--dim);
font-size:13px;white-space:nowrap}
.tag b{color:var(--text);font-weight:600}
.note{border:1px solid #7a621c;background:#3b2f10;color:#f7dc95;border-radius:8px;
padding:9px 13px;margin-bottom:14px}
.bad{background:#3d1b1b;color:#ffc0ba;border-color:#7a2f2b}
.calm{background:#14243d;color:#bcd4ff;border-color:#294a7a}
.grid{display:grid;gap:14px;grid-template-columns:repeat(3,minmax(0,1fr))}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;
min-width:0}
.wide{grid-column:1/-1}
.big{font-size:29px;font-weight:650;line-height:1.25}
.LONG,.up{color:var(--up)}.SHORT,.down{color:var(--down)}.NO_TRADE,.dim{color:var(--dim)}
dl{display:grid;grid-template-columns:auto 1fr;gap:3px 14px;margin:10px 0 0}
dt{color:var(--dim)}dd{margin:0;text-align:right;white-space:nowrap}
dl,table,.big{font-variant-numeric:tabular-nums}
.track{position:relative;height:8px;border-radius:4px;background:var(--line);margin:5px 0}
.track i{display:block;height:100%;border-radius:4px;background:var(--blue)}
.track u{position:absolute;top:-4px;height:16px;width:3px;margin-left:-1px;border-radius:2px;
background:#f7dc95}
svg{display:block;width:100%;height:84px;margin-top:8px}
table{width:100%;border-collapse:collapse}
td,th{padding:5px 8px;text-align:right;vertical-align:top;border-top:1px solid var(--line);
white-space:nowrap}
th{color:var(--dim);font-weight:500;border-top:0}
td:first-child,th:first-child{padding-left:0}td:last-child,th:last-child{padding-right:0}
td:first-child,th:first-child,.text{text-align:left}
td.text{white-space:normal;color:var(--dim)}td.fill{width:22%;min-width:70px}
footer{color:var(--dim);margin-top:16px;font-size:13px}
@media(max-width:940px){
.grid{grid-template-columns:repeat(2,minmax(0,1fr))}.grid section:nth-child(3){grid-column:1/-1}
tr:first-child{display:none}
tr{display:flex;flex-wrap:wrap;gap:0 14px;padding:7px 0;border-top:1px solid var(--line)}
tr:nth-child(2){border-top:0}
td{border:0;padding:0!important;white-space:normal}
td.text,td.fill{flex-basis:100%}
td[data-l]::before{content:attr(data-l) " ";color:var(--dim)}
}
@media(max-width:640px){body{padding:12px}.grid{grid-template-columns:minmax(0,1fr)}}
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table: its text, its classes, and whether the text is HTML already."""

    text: str
    css: str = ""
    html: bool = False


def render(view: Mapping[str, Any]) -> str:
    """Return the page for a view as :meth:`serving.service.CouncilService.overview` gives it."""
    latest = view["decisions"][0] if view["decisions"] else None
    cards = [
        _latest(latest),
        _account(view["portfolio"], view["equity"]),
        _risk(view["risk"], view["portfolio"]),
        _agents(view["weights"], latest),
        _decisions(view["decisions"]),
        _trades(view["trades"]),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(_title(latest))}</title><style>{_STYLE}</style></head><body>"
        f"{_header(view)}<main class=grid>{''.join(cards)}</main>"
        f"<footer>{_feed(view['health'])}"
        "Times are UTC, market time. 1 bp = 0.01 %. Every number can be checked: "
        '<a href="/docs">API</a> · <code>conclave why ID</code> · '
        "<code>conclave ledger verify</code>. Nothing here promises a profit.</footer>"
        "</body></html>"
    )


# The head of the page


def _title(signal: Mapping[str, Any] | None) -> str:
    if signal is None:
        return "Conclave"
    return f"{signal['decision'].replace('_', ' ')} {signal['symbol']} · Conclave"


def _header(view: Mapping[str, Any]) -> str:
    health = view["health"]
    speed = health["speed"]
    pace = "full speed" if speed is None else f"×{speed:g}"
    tags = {
        "status": health["status"],
        "account": health["execution"].replace("live", "LIVE: real money"),
        "market": f"{'simulated' if view['simulated'] else health['source']}, {pace}",
        "world": view["world"],
        "profile": view["profile"],
        "as of": "–" if view["as_of"] is None else _time(view["as_of"], year=True),
    }
    shown = "".join(
        f"<span class=tag>{name} <b>{escape(str(text))}</b></span>" for name, text in tags.items()
    )
    return f"<header><h1>Conclave</h1>{shown}</header>{_notes(view)}"


def _notes(view: Mapping[str, Any]) -> str:
    notes = []
    if view["simulated"]:
        notes.append(
            "<div class=note><b>Simulated market.</b> Its bars are generated and carry a planted, "
            "documented edge. No figure on this page says anything about a real market.</div>"
        )
    if view["health"]["execution"] == "live":
        notes.append('<div class="note bad"><b>LIVE.</b> Orders go to the exchange.</div>')
    notes += [f'<div class="note bad">{escape(text)}</div>' for text in view["health"]["problems"]]
    for kind, name in (("drifts", "Drift"), ("failures", "Assertion")):
        if found := view["health"].get(kind):
            more = f" ({len(found)} open proposals)" if len(found) > 1 else ""
            notes.append(f'<div class="note bad">{name}: {escape(found[0]["what"])}{more}.</div>')
    phase, done = view["health"]["desk"]["phase"], view["health"]["desk"]["done"]
    if phase == "finished":
        notes.append('<div class="note calm">The replay is finished.</div>')
    elif phase is not None and phase.startswith(WAITING):
        missing = escape(phase.removeprefix(WAITING).strip())
        notes.append(f'<div class="note calm">Nothing is entered yet. The feed: {missing}.</div>')
    elif phase not in (None, "live"):
        share = "" if done is None else f": {_percent(done, 0)}"
        notes.append(
            f'<div class="note calm">{escape(phase.capitalize())}{share}. History is forecast and '
            "scored before the first order.</div>"
        )
    return "".join(notes)


def _feed(health: Mapping[str, Any]) -> str:
    return "" if health["feed"] is None else f"{escape(feed_line(health['feed']))}<br>"


# Numbers as people read them


def _signed(value: float, digits: int) -> str:
    return f"{value:+,.{digits}f}".replace("-", "−")


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:,.{digits}f} %".replace("-", "−")


def _bps(value: float | None) -> str:
    return "–" if value is None else f"{_signed(1e4 * value, 1)} bp"


def _money(value: object) -> str:
    return f"{Decimal(str(value)):,f}".replace("-", "−")


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "–"
    return f"{_signed(1e4 * low, 1)} … {_bps(high)}"


def _likelier(p_up: float) -> tuple[str, float]:
    return ("P(up)", p_up) if p_up >= 0.5 else ("P(down)", 1.0 - p_up)


def _time(instant: str, *, year: bool = False) -> str:
    return instant.replace("T", " ").removesuffix("Z")[0 if year else 5 : 16]


def _side(action: str) -> Cell:
    return Cell(ARROWS.get(action, "") + action.replace("_", " "), action)


# Building blocks


def _card(title: str, body: str, css: str = "") -> str:
    return f"<section{f' class={css}' if css else ''}><h2>{escape(title)}</h2>{body}</section>"


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f"<dl>{rows}</dl>"


def _bar(share: float, tick: float | None = None) -> str:
    mark = "" if tick is None else f'<u style="left:{_within(tick):.1f}%"></u>'
    return f'<div class=track><i style="width:{_within(share):.1f}%"></i>{mark}</div>'


def _within(share: float) -> float:
    return 100 * min(1.0, max(0.0, share))


def _table(head: Sequence[str], rows: Iterable[Sequence[Cell]], empty: str) -> str:
    """Make a table; on a phone every row becomes a block whose cells carry their labels."""
    body = "".join(
        "<tr>" + "".join(_td(name, cell) for name, cell in zip(head, row, strict=True)) + "</tr>"
        for row in rows
    )
    if not body:
        return f"<p class=dim>{escape(empty)}</p>"
    names = "".join(
        f"<th scope=col{' class=text' if name in PROSE else ''}>{escape(name.strip('*'))}</th>"
        for name in head
    )
    return f"<table><tbody><tr>{names}</tr>{body}</tbody></table>"


def _td(name: str, cell: Cell) -> str:
    # A starred column explains itself and needs no label on a phone.
    label = "" if name.startswith("*") or cell.html or name in PROSE else f' data-l="{name}"'
    css = f' class="{cell.css}"' if cell.css else ""
    return f"<td{label}{css}>{cell.text if cell.html else escape(cell.text)}</td>"


# Cards


def _latest(signal: Mapping[str, Any] | None) -> str:
    if signal is None:
        return _card("Last decision", "<p class=dim>The council has not decided yet.</p>")
    side = _side(signal["decision"])
    body = (
        f'<div class="big {side.css}">{side.text}</div>'
        f"<p>{escape(signal['symbol'])} {escape(signal['timeframe'])}, "
        f"{signal['horizon_steps']} bars ahead</p>{_odds(signal)}"
        + _facts(
            {
                "Expected return": _bps(signal["expected_return"]),
                "80 % interval": _interval(signal["p10"], signal["p90"]),
                "Adverse-move risk": _percent(signal["risk_score"]),
            }
        )
        + f"<p class=dim>{escape(_without_side(signal))} {_why_link(signal)}</p>"
    )
    if signal["degraded"]:
        missing = ", ".join(f"{name} ({why})" for name, why in signal["absent"].items())
        body += f"<p class=down>Degraded, absent: {escape(missing)}</p>"
    return _card("Last decision", body)


def _odds(signal: Mapping[str, Any]) -> str:
    """Show the probability of the likelier side against what it must exceed to pay the costs."""
    p_up, needed = signal["prob_up"], signal["break_even_prob"]
    if p_up is None:
        return "<p class=dim>No forecaster spoke.</p>"
    name, p_side = _likelier(p_up)
    told = "no probability pays the costs" if needed is None else f"break-even {_percent(needed)}"
    tick = None if needed is None else 2.0 * needed - 1.0
    return f"<p>{name} <b>{_percent(p_side)}</b> · {told}</p>{_bar(2.0 * p_side - 1.0, tick)}"


def _without_side(signal: Mapping[str, Any]) -> str:
    return str(signal["reason"]).removeprefix(f"{signal['decision']}: ")


def _why_link(signal: Mapping[str, Any]) -> str:
    name = escape(signal["id"], quote=True)
    return f'<a href="/v1/signals/{name}/why">{name}</a>'


def _account(portfolio: Mapping[str, Any] | None, equity: Sequence[Mapping[str, Any]]) -> str:
    if portfolio is None:
        return _card("Paper account", "<p class=dim>No account yet.</p>")
    currency = escape(portfolio["currency"])
    body = f"<div class=big>{float(portfolio['equity']):,.2f} {currency}</div>"
    if equity:
        first = float(equity[0]["equity"])
        gain = float(portfolio["equity"]) - first
        body += (
            f"<p><span class={'up' if gain >= 0 else 'down'}>{_signed(gain, 2)} "
            f"({_signed(100 * gain / first, 2)} %)</span> "
            f"<span class=dim>since {_time(iso(equity[0]['at']))}</span></p>"
        )
    body += _spark([float(mark["equity"]) for mark in equity])
    body += _facts(
        {
            "High": f"{float(portfolio['high_water']):,.2f}",
            "Drawdown": _percent(float(portfolio["drawdown"]), 2),
        }
    )
    return _card("Paper account", body)


def _spark(values: Sequence[float]) -> str:
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def height(value: float) -> float:
        return 82 - 78 * (value - low) / span

    points = " ".join(
        f"{300 * i / (len(values) - 1):.1f},{height(value):.1f}" for i, value in enumerate(values)
    )
    color = "#3fb68b" if values[-1] >= values[0] else "#f0776f"
    return (
        '<svg viewBox="0 0 300 84" preserveAspectRatio="none" role="img" '
        f'aria-label="equity from {values[0]:.2f} to {values[-1]:.2f}">'
        f'<path d="M0 {height(values[0]):.1f}H300" stroke="#3a4452" stroke-dasharray="4 4" '
        'vector-effect="non-scaling-stroke"/>'
        f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.8" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )


def _risk(risk: Mapping[str, Any], portfolio: Mapping[str, Any] | None) -> str:
    mode = str(risk["mode"])
    active = mode == "ACTIVE"
    body = f'<div class="big {"up" if active else "down"}">{escape(mode)}</div>'
    if risk["why"]:
        body += f"<p>{escape(str(risk['why']))} (by {escape(str(risk['by']))})</p>"
    body += f"<p class=dim>{'New positions are allowed.' if active else 'No new positions.'}</p>"
    body += "".join(_limit(check) for check in risk["checks"] if check["name"] in NAMES)
    held = portfolio["positions"] if portfolio else []
    body += "".join(_position(position) for position in held) or "<p>No open position.</p>"
    return _card("Risk and positions", body)


def _limit(check: Mapping[str, Any]) -> str:
    value, limit = max(0.0, float(check["value"])), float(check["limit"])
    told = f"{_percent(value, 2)} of {_percent(limit)}"
    return f"<p>{NAMES[check['name']]} <span class=dim>{told}</span></p>{_bar(value / limit)}"


def _position(position: Mapping[str, Any]) -> str:
    side = _side(position["side"])
    facts = {"Entry": _money(position["entry_price"])}
    for name in ("mark", "stop", "target"):
        if position[name] is not None:
            facts[name.capitalize()] = _money(position[name])
    facts["Leaves at the latest"] = _time(position["horizon_due"])
    size = _money(position["qty"]).lstrip("−")
    return (
        f"<p><b class={side.css}>{side.text}</b> {size} {escape(position['symbol'])}</p>"
        + _facts(facts)
    )


def _agents(weights: Sequence[Mapping[str, Any]], latest: Mapping[str, Any] | None) -> str:
    several = len({row["symbol"] for row in weights}) > 1
    said = {} if latest is None else latest["explanations"]
    rows = [
        (
            Cell(row["agent"] + (f" {row['symbol']}" if several else "")),
            Cell(_bar(row["weight"] or 0.0), "fill", html=True),
            Cell(_percent(row["weight"])),
            Cell("–" if row.get("skill_1e4") is None else _signed(row["skill_1e4"], 1)),
            Cell(f"{row['n']:,}"),
            Cell("" if several else _words(said.get(row["agent"], "")), "text"),
        )
        for row in sorted(weights, key=lambda row: -(row["weight"] or 0.0))
    ]
    head = ("*agent", "*", "weight", "skill", "scored", "says")
    return _card(
        "Agents: what each has earned",
        _table(head, rows, "Nobody was scored yet.")
        + "<p class=dim>Skill is (0.25 − Brier) × 10⁴ over the scored forecasts: above 0 beats a "
        "coin. The weight follows from it.</p>",
        "wide",
    )


def _words(explanation: str) -> str:
    return explanation.partition(" logit. ")[2] or explanation


def _decisions(signals: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            Cell(_time(s["as_of"])),
            Cell(s["symbol"]),
            _side(s["decision"]),
            Cell(_probability(s["prob_up"])),
            Cell(_percent(s["break_even_prob"])),
            Cell(_bps(s["expected_return"])),
            Cell(_percent(s["risk_score"])),
            Cell(_told(s), "text", html=True),
        )
        for s in signals
    ]
    head = (
        "*as of", "*symbol", "*decision", "*probability", "break-even", "expected", "risk", "why",
    )  # fmt: skip
    return _card("Decisions", _table(head, rows, "None yet."), "wide")


def _told(signal: Mapping[str, Any]) -> str:
    codes = [code.replace("_", " ") for code in signal["reasons"]] or ["every check passed"]
    codes += [f"without {name}: {why}" for name, why in signal["absent"].items()]
    codes += ["asked for, never traded"] if signal["origin"] == "on_demand" else []
    return f"{escape(', '.join(codes))} {_why_link(signal)}"


def _probability(p_up: float | None) -> str:
    if p_up is None:
        return "–"
    name, p_side = _likelier(p_up)
    return f"{name} {_percent(p_side)}"


def _trades(trades: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            Cell(_time(t["closed_at"])),
            Cell(t["symbol"]),
            _side(t["side"]),
            Cell(_money(t["qty"])),
            Cell(_money(t["entry"])),
            Cell(_money(t["exit"])),
            Cell(t["reason"].replace("_", " ")),
            Cell(f"{_paid(t):,.2f}".replace("-", "−")),
            Cell(_signed(float(t["pnl"]), 2), "up" if float(t["pnl"]) > 0 else "down"),
        )
        for t in trades
    ]
    head = ("*closed", "*symbol", "*side", "size", "entry", "exit", "by", "costs", "net")
    note = (
        "<p class=dim>Costs are fees, spread, slippage and funding; net is after all of them.</p>"
    )
    return _card("Closed trades", _table(head, rows, "None yet.") + (note if rows else ""), "wide")


def _paid(trade: Mapping[str, Any]) -> float:
    return sum(float(trade[part]) for part in ("fee", "spread", "slippage", "funding"))
