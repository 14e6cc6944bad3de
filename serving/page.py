"""The plain status page at ``/``: one document, no script from elsewhere, readable on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

REFRESH_SECONDS = 5

_STYLE = """
:root{color-scheme:dark;--bg:#0e1116;--card:#161b22;--line:#262d37;--text:#e6e9ee;--dim:#93a0b0;
--up:#3fb68b;--down:#e2655d;--flat:#8b98a9;--warn:#e3b341}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;padding:20px;max-width:1180px;
margin-inline:auto}h1{font-size:20px;margin:0}h2{font-size:13px;letter-spacing:.06em;
text-transform:uppercase;color:var(--dim);margin:0 0 10px;font-weight:600}
header{display:flex;flex-wrap:wrap;gap:8px 16px;align-items:baseline;margin-bottom:14px}
header span{color:var(--dim)}.note{background:#3b2f10;color:#f4d68a;border:1px solid #6b5518;
border-radius:8px;padding:8px 12px;margin-bottom:14px}.bad{background:#3d1b1b;color:#ffb3ad;
border-color:#7a2f2b}.grid{display:grid;gap:14px;
grid-template-columns:repeat(auto-fit,minmax(300px,1fr))}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:14px;min-width:0}
.wide{grid-column:1/-1}.big{font-size:30px;font-weight:650;line-height:1.2}
.LONG,.up{color:var(--up)}.SHORT,.down{color:var(--down)}.NO_TRADE,.dim{color:var(--flat)}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{text-align:right;padding:4px 6px;border-top:1px solid var(--line);white-space:nowrap}
th{color:var(--dim);font-weight:500;border-top:0}td:first-child,th:first-child{text-align:left}
.scroll{overflow-x:auto}.bar{height:6px;border-radius:3px;background:var(--line);min-width:80px}
.bar i{display:block;height:100%;border-radius:3px;background:#5b8def}
svg{display:block;width:100%;height:90px}
footer{color:var(--dim);margin-top:16px;font-size:13px}a{color:#7aa7ff}p{margin:6px 0}
td.text{white-space:normal;text-align:left;min-width:220px;color:var(--dim)}
@media(max-width:520px){body{padding:12px}.big{font-size:26px}}
"""


def render(view: Mapping[str, Any]) -> str:
    """Return the page for a view as :meth:`serving.service.CouncilService.overview` gives it."""
    latest = view["decisions"][0] if view["decisions"] else None
    cards = [
        _latest(latest),
        _account(view["portfolio"], view["equity"]),
        _agents(view["weights"]),
        _positions(view["portfolio"], view["risk"]),
        _decisions(view["decisions"]),
        _trades(view["trades"]),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Conclave</title><style>{_STYLE}</style></head><body>"
        f"{_header(view)}<div class=grid>{''.join(cards)}</div>"
        "<footer>Every number here can be checked: <a href=/docs>API</a> · "
        "<code>conclave why ID</code> · <code>conclave ledger verify</code>. "
        "Nothing here promises a profit.</footer></body></html>"
    )


def _header(view: Mapping[str, Any]) -> str:
    health = view["health"]
    notes = []
    if view["simulated"]:
        notes.append(
            "<div class=note>Simulated market with a documented planted edge. "
            "No figure on this page says anything about a real market.</div>"
        )
    notes += [f'<div class="note bad">{escape(text)}</div>' for text in health["problems"]]
    facts = [view["world"], f"profile {view['profile']}", f"paper, as of {view['as_of'] or '–'}"]
    return (
        "<header><h1>Conclave</h1>"
        + "".join(f"<span>{escape(str(fact))}</span>" for fact in facts)
        + "</header>"
        + "".join(notes)
    )


def _card(title: str, body: str, wide: bool = False) -> str:
    return f"<section{' class=wide' if wide else ''}><h2>{escape(title)}</h2>{body}</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    body = "".join("<tr>" + "".join(row) + "</tr>" for row in rows)
    if not body:
        return f"<p class=dim>{escape(empty)}</p>"
    return (
        "<div class=scroll><table><tr>"
        + "".join(f"<th>{escape(name)}</th>" for name in head)
        + f"</tr>{body}</table></div>"
    )


def _td(value: object, css: str = "") -> str:
    text = "–" if value is None else str(value)
    return f"<td{f' class={css}' if css else ''}>{escape(text)}</td>"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _bps(value: float | None) -> str:
    return "–" if value is None else f"{1e4 * value:+.1f} bp"


def _clock(instant: str) -> str:
    return instant.replace("T", " ").removesuffix("Z")[5:16]


def _latest(signal: Mapping[str, Any] | None) -> str:
    if signal is None:
        return _card("Last decision", "<p class=dim>The council has not decided yet.</p>")
    action = signal["decision"]
    body = (
        f"<div class='big {action}'>{escape(action.replace('_', ' '))}</div>"
        f"<p>{escape(signal['symbol'])} · P(up) {_percent(signal['prob_up'])} · "
        f"expected {_bps(signal['expected_return'])} · risk {_percent(signal['risk_score'])}</p>"
        f"<p class=dim>80 % interval {_bps(signal['p10'])} … {_bps(signal['p90'])}, "
        f"{signal['horizon_steps']} bars ahead</p><p>{escape(signal['reason'])}</p>"
    )
    if signal["degraded"]:
        missing = ", ".join(f"{name} ({why})" for name, why in signal["absent"].items())
        body += f"<p class=down>degraded: {escape(missing)}</p>"
    return _card("Last decision", body)


def _account(portfolio: Mapping[str, Any] | None, equity: Sequence[Mapping[str, Any]]) -> str:
    if portfolio is None:
        return _card("Paper account", "<p class=dim>No account yet.</p>")
    drawdown = float(portfolio["drawdown"])
    body = (
        f"<div class=big>{float(portfolio['equity']):,.2f} {escape(portfolio['currency'])}</div>"
        f"<p class=dim>drawdown {_percent(drawdown, 2)} from {float(portfolio['high_water']):,.2f}"
        f"</p>{_spark([float(mark['equity']) for mark in equity])}"
    )
    return _card("Paper account", body)


def _spark(values: Sequence[float]) -> str:
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    points = " ".join(
        f"{300 * i / (len(values) - 1):.1f},{86 - 82 * (value - low) / span:.1f}"
        for i, value in enumerate(values)
    )
    color = "#3fb68b" if values[-1] >= values[0] else "#e2655d"
    return (
        '<svg viewBox="0 0 300 90" preserveAspectRatio="none" role="img" '
        f'aria-label="equity from {values[0]:.2f} to {values[-1]:.2f}">'
        f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.6" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )


def _agents(weights: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            _td(row["agent"]),
            f"<td><div class=bar><i style='width:{_share(row)}%'></i></div></td>",
            _td(_percent(row["weight"])),
            _td(None if row.get("skill_1e4") is None else f"{row['skill_1e4']:+.1f}"),
            _td(row["n"]),
        )
        for row in weights
    ]
    return _card(
        "Agents: weight earned",
        _table(("agent", "", "weight", "skill ×10⁴", "scored"), rows, "Nobody was scored yet."),
    )


def _share(row: Mapping[str, Any]) -> str:
    return f"{100 * (row['weight'] or 0):.0f}"


def _positions(portfolio: Mapping[str, Any] | None, risk: Mapping[str, Any]) -> str:
    held = portfolio["positions"] if portfolio else []
    rows = [
        (
            _td(p["symbol"]),
            _td(p["side"], p["side"]),
            _td(p["qty"]),
            _td(p["entry_price"]),
            _td(p["mark"]),
        )
        for p in held
    ]
    mode = str(risk["mode"])
    css = "up" if mode == "ACTIVE" else "down"
    return _card(
        "Positions and risk",
        f"<p>Risk mode <b class={css}>{escape(mode)}</b></p>"
        + _table(("symbol", "side", "qty", "entry", "mark"), rows, "Flat."),
    )


def _decisions(signals: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            _td(_clock(s["as_of"])),
            _td(s["symbol"]),
            _td(s["decision"].replace("_", " "), s["decision"]),
            _td(_percent(s["prob_up"])),
            _td(_bps(s["expected_return"])),
            _td(_percent(s["risk_score"])),
            _td(s["reason"], "text"),
        )
        for s in signals
    ]
    head = ("as of (UTC)", "symbol", "decision", "P(up)", "expected", "risk", "why")
    return _card("Decisions", _table(head, rows, "None yet."), wide=True)


def _trades(trades: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            _td(_clock(t["closed_at"])),
            _td(t["symbol"]),
            _td(t["side"], t["side"]),
            _td(t["qty"]),
            _td(t["entry"]),
            _td(t["exit"]),
            _td(f"{float(t['pnl']):+.2f}", "up" if float(t["pnl"]) > 0 else "down"),
            _td(f"{float(t['fee']):.2f}"),
            _td(t["reason"]),
        )
        for t in trades
    ]
    head = ("closed (UTC)", "symbol", "side", "qty", "entry", "exit", "net", "fees", "closed by")
    return _card("Closed trades", _table(head, rows, "None yet."), wide=True)
