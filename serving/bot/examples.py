"""One example of every message and answer, from fixed records: the document and its tests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from domain.decision import Action, Decision, GateVerdict
from domain.operations import OperatorReport, Reflection, RiskEvent
from domain.opinion import Opinion, Outcome
from domain.quantiles import Quantiles
from domain.times import iso, parse_iso
from domain.trading import (
    ClosedTrade,
    Event,
    Fill,
    ModeChange,
    Portfolio,
    Position,
    Refusal,
    RiskMode,
    Side,
)
from notifications import replies
from notifications.explaining import why
from notifications.markup import Note, Picture, bold
from notifications.messages import note_of
from serving.schema import portfolio_of, signal_of, trade_of, why_of
from serving.telling import event_of

AT = parse_iso("2025-06-02T14:35:00Z")
STEP = 300_000
SPOT, PERP = "BTC/USDT", "BTC/USDT:USDT"
_LEVELS = (0.1, 0.5, 0.9)
_AGENTS = {
    # name: weight, p_up, what it says
    "technical": (0.41, 0.661, "Indicators point up, evidence 0.82 over 1,440 bars."),
    "chronos": (0.27, 0.634, "The quantiles lean up on 5m, 15m and 1h."),
    "baseline": (0.19, 0.612, "The trees see 61.2% for up and a width of 31.0 bp."),
    "tft": (0.09, 0.472, "Attention rests on the last 12 bars; slightly down."),
    "climatology": (0.04, 0.501, "50.1% of the last 8,640 moves went up."),
}


def decision(action: Action = Action.LONG) -> Decision:
    """Return a decision that took a side, or one that did not."""
    parts = {k: w * math.log(p / (1 - p)) for k, (w, p, _) in _AGENTS.items()}
    taken = action is Action.LONG
    p_up = 0.655 if taken else 0.531
    fusion = math.log(p_up / (1 - p_up)) - math.fsum(parts.values())
    costs = {"fee_bps": 10.0, "spread_bps": 1.0, "slippage_bps": 2.0, "funding_bps": 0.1}
    reason = (
        "LONG: P(up) 0.6550 exceeds the break-even 0.6130 at 13.1 bp round trip, "
        "expected return +15.2 bp, risk 0.081."
    )
    if not taken:
        reason = (
            "NO_TRADE: P(up) 0.5310 does not exceed the break-even 0.6130 at 13.1 bp round trip."
        )
    return Decision(
        SPOT, "5m", AT, AT + 210, 5, "council", Action.LONG if taken else Action.NO_TRADE, action,
        () if taken else ("below_cost",), reason, p_up, 0.00152 if taken else 0.0003,
        Quantiles(_LEVELS, (-0.0031, 0.0014, 0.0058)), 0.081, 0.081, 0.094, 0.613,
        104_420.5 if taken else None, 105_380.0 if taken else None,
        weights={k: w for k, (w, _, _) in _AGENTS.items()},
        contributions={**parts, "_fusion": fusion},
        explanations={
            k: f"P(up) {p:.4f} at weight {w:.3f}: {parts[k]:+.4f} logit. {said}"
            for k, (w, p, said) in _AGENTS.items()
        },
        absent={"microstructure": "no_book"},
        margins={"break_even": p_up - 0.613, "prob_min": p_up - 0.6, "risk": 0.219},
        inputs={
            "costs": costs, "mean_abs_return": 0.00258, "kappa": 0.6,
            "rules": {"delta": 0.0, "prob_min": 0.6, "min_expected_return": 0.002, "risk_max": 0.3},
        },
        model_versions=dict.fromkeys(_AGENTS, "v3"), gate=GateVerdict(), source="binance",
        state_seq=48_211, git_commit="9f3c2d17aa",
    )  # fmt: skip


def opinions() -> list[Opinion]:
    """Return what the agents said then."""
    spread = Quantiles(_LEVELS, (-0.0031, 0.0014, 0.0058))
    return [
        Opinion(name, "v3", SPOT, "5m", AT, 5, p, spread, rationale=said)
        for name, (_, p, said) in _AGENTS.items()
    ]


def outcome() -> Outcome:
    """Return what came of it."""
    return Outcome(SPOT, "5m", AT, 5, AT + 5 * STEP, 0.00213, 0.0009, 0.0028)


FILL = Fill(
    "f1", "cv1", "paper", PERP, Side.BUY, Decimal("0.004"), Decimal("104731.4"), AT + 150,
    Decimal("0.2094628"), Decimal("0.0209"), Decimal("0.0314"), Decimal("104718.3"), False, "entry",
)  # fmt: skip
TRADE = ClosedTrade(
    PERP, "LONG", Decimal("0.004"), AT + 150, AT + 4 * STEP, Decimal("104731.4"),
    Decimal("105379.9"), Decimal("0.4202"), Decimal("0.0629"), Decimal("0.0419"), Decimal("0"),
    Decimal("2.1738"), "target", "paper", "council", "5f0c",
)  # fmt: skip


def account() -> Portfolio:
    """Return the account with that position open."""
    position = Position(
        "paper", PERP, Decimal("0.004"), Decimal("104731.4"), AT + 150, "5f0c", AT + 5 * STEP,
        Decimal("104420.5"), Decimal("105380.0"),
    )  # fmt: skip
    return Portfolio(
        "paper", "USDT", AT + STEP, Decimal("9604.12"), Decimal("10023.05"), Decimal("10041.70"),
        {PERP: position}, {PERP: Decimal("104868.2")},
    )  # fmt: skip


def _told(record: Any) -> Event:
    found = event_of(record)
    if found is None:
        raise ValueError(f"{type(record).__name__} is not told")
    return found[1]


def events() -> dict[str, Event]:
    """Return one event of each kind, by its title."""
    news = {"text": "FOMC at 18:00 UTC", "data": {}}
    wide = "104.2 bps"
    return {
        "Start": Event("system", AT, {
            "what": "Conclave is at work", "icon": "🚀",
            "figures": {"source": "live", "profile": "strict", "world": "binance", "mode": "paper"},
        }),
        "Signal": _told(decision()),
        "No trade": _told(decision(Action.NO_TRADE)),
        "Fill": _told(FILL),
        "Closed trade": _told(TRADE),
        "Change of mode": _told(ModeChange("paper", AT, RiskMode.REDUCING, "risk",
                                           "loss of the day beyond 3.00%")),
        "Refusal": _told(Refusal("paper", PERP, AT, "wide_spread", "spread within 10.0", wide,
                                 "entry", "5f0c")),
        "Risk event": _told(RiskEvent("paper", AT, "external", "fomc", "warning", "api", news)),
        "Operator": _told(OperatorReport("paper", AT, "hrv", 17.0, "api", "bad night")),
        "Journal": _told(Reflection("paper", PERP, "5f0c", AT, "Ada", "Took the target as planned; "
                                    "the entry was late by a bar.", ("late",))),
        "Drift": Event("drift", AT, {
            "alarm": "coverage", "symbol": SPOT, "timeframe": "5m",
            "what": "p10–p90 covered 74.1 % of the last 30 days' outcomes, not 80 ± 3.2 %",
            "action": "Look at the report; retrain if it lasts.",
        }, "warning"),
        "Trouble": Event("error", AT, {"what": "Trouble",
                                       "why": "The desk is not running: nothing is decided or "
                                       "appended."}, "error"),
        "Trouble is over": Event("error", AT, {"icon": "💚", "what": "Over", "why": "The desk is "
                                               "not running: nothing is decided or appended."}),
        "A backup failed": Event("backup", AT, {
            "why": "disk: has 0.4 GiB left, 0.9 are needed", "hint": "Make room.",
        }, "warning"),
        "Job begins": Event("job", AT, {"name": "train trend --model tft", "state": "running",
                                        "figures": {"data": "BTCUSDT-binance-spot-5m.parquet"}}),
        "Job ends": Event("job", AT, {
            "name": "train trend --model tft", "state": "done",
            "figures": {"data": "BTCUSDT-binance-spot-5m.parquet", "version": "20250602-1f3a",
                        "brier": 0.24981, "auc": 0.5214, "promoted": False, "seconds": 1874.2},
        }),
        "Job fails": Event("job", AT, {
            "name": "run-inference", "state": "failed", "why": "bars: are too few to decide on",
            "figures": {"symbols": SPOT, "seconds": 2.1},
        }, "error"),
        "Metrics": Event("metrics", AT, {
            "what": "Scores after 2025-06-01", "picture": {"chart": "calibration",
                                                           "data": calibration_data()},
            "boards": {f"{SPOT} 5m": [
                ["agent", "weight", "Brier", "skill", "n"],
                ["technical", "41.0 %", "0.2484", "+16.2", "8,211"],
                ["chronos", "27.0 %", "0.2488", "+12.4", "8,640"],
                ["baseline", "19.0 %", "0.2491", "+8.9", "8,640"],
            ]},
        }),
        "Daily summary": Event("daily", AT, {
            "day": "2025-06-01", "currency": "USDT", "simulated": False, "pnl": 31.42,
            "equity": 10_023.05, "return": 0.003145, "drawdown": 0.00186, "trades": 7, "wins": 4,
            "closed_pnl": "29.31", "decisions": {"LONG": 5, "NO_TRADE": 281, "SHORT": 2},
            "mode": "ACTIVE", "open": 1,
            "costs": {"fee": "5.87", "spread": "0.58", "slippage": "1.16", "funding": "-0.04"},
            "root": {"seq": 48_211, "hash": "7dc60c9f2a582fb5" * 4},
            "picture": {"chart": "equity", "data": equity_data()},
        }),
    }  # fmt: skip


def messages() -> dict[str, Note]:
    """Return the message about each of :func:`events`."""
    return {title: note_of(event) for title, event in events().items()}


# What commands answer


def _health() -> dict[str, Any]:
    return {
        "status": "ok", "problems": [], "source": "live", "world": "binance", "simulated": False,
        "speed": 1.0, "drifts": [], "failures": [],
        "desk": {"phase": "live", "done": None, "decided": 4_120, "via": "serve",
                 "as_of": iso(AT), "pid": 4242},
        "rows": {"decisions": 12_761, "fills": 388, "trades": 194},
        "outbox": {"sent": 1_204, "pending": 1},
    }  # fmt: skip


def _risk() -> dict[str, Any]:
    rows = [
        ("mode", "ACTIVE", "ACTIVE", None), ("daily_loss", 0.0041, 0.03, 0.0259),
        ("drawdown", 0.00186, 0.08, 0.07814), ("symbol_exposure", 0.0418, 0.5, 0.4582),
        ("operator", 42.0, 20.0, 22.0),
    ]  # fmt: skip
    checks = [
        {"name": n, "value": v, "limit": at, "margin": left, "passed": True, "stops": "entries"}
        for n, v, at, left in rows
    ]
    reading = {"source": "hrv", "value": 42.0, "until": iso(AT + 40 * STEP)}
    return {
        "mode": "ACTIVE", "since": iso(AT - 99 * STEP), "by": "api", "why": "", "checks": checks,
        "size_factor": 1.0, "risk_cap": None, "stakes": {}, "operator": [reading],
    }  # fmt: skip


def _earned(*rows: tuple[str, int, int, str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "trades": n, "wins": won, "pnl": pnl, "costs": "0"}
        for name, n, won, pnl in rows
    ]


def _weights() -> list[dict[str, Any]]:
    skills = {"technical": 16.2, "chronos": 12.4, "baseline": 8.9, "tft": 1.1, "climatology": -0.2}
    return [
        {"symbol": SPOT, "timeframe": "5m", "agent": name, "weight": w, "n": 8_640, "awake": True,
         "probation": False, "skill_1e4": skills[name]}
        for name, (w, _, _) in _AGENTS.items()
    ]  # fmt: skip


def answers(commands: list[tuple[str, str, str]]) -> dict[str, Note]:
    """Return one answer to each command that only looks.

    Parameters
    ----------
    commands : (usage, text, role), for /help.
    """
    signal, held = signal_of(decision()).model_dump(), portfolio_of(account())
    closed = {"trades": 194, "wins": 103, "pnl": "21.14", "costs": "148.20"}
    texts: Mapping[str, str] = {
        "/status": replies.status(_health(), _risk(), held),
        "/profit": replies.profit(held, 10_000.0, closed, "USDT"),
        "/daily 3": replies.earned("By day", _earned(
            ("2025-06-02", 2, 1, "1.20"), ("2025-06-01", 7, 4, "29.31"), ("2025-05-31", 0, 0, "0"),
        ), "USDT"),
        "/weekly 2": replies.earned("By week", _earned(
            ("2025-06-02", 2, 1, "1.20"), ("2025-05-26", 31, 17, "-12.06"),
        ), "USDT"),
        "/monthly 2": replies.earned("By month", _earned(
            ("2025-06-01", 9, 5, "30.51"), ("2025-05-01", 118, 60, "-9.37"),
        ), "USDT"),
        "/balance": replies.balance(held),
        "/trades 1": replies.trades([trade_of(TRADE)]),
        "/performance": replies.earned("By symbol", _earned((PERP, 194, 103, "21.14")), "USDT"),
        "/signal": replies.consensus([signal]),
        "/why": why(why_of(decision(Action.NO_TRADE), opinions(), outcome())),
        "/chart": f"{bold(SPOT)} 5m",
        "/agents": replies.agents([], _weights()),
        "/consensus": replies.consensus([signal]),
        "/calibration": replies.calibration({**calibration_data(), "why": None}),
        "/risk": replies.risk(_risk()),
        "/paper": replies.paper({
            "market": "perp", "source": "live", "profile": "strict", "speed": "x1",
            "strategy": "council", "opening capital": 10_000.0, "leverage": 1.0,
            "spread, bps": 1.0, "slippage, bps": 1.0, "latency": "lognormal", "funding": True,
        }, held),
        "/show_config": replies.config({
            "data": {"symbols": [SPOT, "ETH/USDT"]},
            "notify": {"telegram_bot_token": "***", "telegram_chat_id": "42", "tell_fill": "off"},
        }, "Settings that differ from their default"),
        "/logs desk 1": replies.logs([{
            "ts": iso(AT), "level": "warning", "event": "request_refused", "kind": "arm",
            "error": "arm: the file KILL in VAR_DIR still says kill",
        }]),
        "/health": replies.health(_health()),
        "/version": replies.version({"version": "0.1.0", "parts": {
            "commit": "9f3c2d17aa01", "models": "32fcf379b725", "python": "3.11.7",
        }}),
        "/help": replies.help_text(commands, "operator"),
    }  # fmt: skip
    pictures = {
        "/profit": Picture("equity", equity_data()), "/chart": Picture("price", price_data()),
        "/calibration": Picture("calibration", calibration_data()),
    }  # fmt: skip
    return {name: Note(html, (), pictures.get(name)) for name, html in texts.items()}


# Pictures


def _wave(n: float) -> float:
    return math.sin(n / 9.0) + 0.55 * math.sin(n / 3.7 + 1.0) + 0.3 * math.sin(n * 1.7)


def price_data() -> dict[str, Any]:
    """Return bars, decisions and trades for the price picture."""
    first = AT - 96 * STEP
    close = [104_600.0 + 260.0 * _wave(n) + 3.0 * n for n in range(97)]
    bars = [
        [first + n * STEP, close[n], max(close[n : n + 2]) + 18 + 9 * (n % 4),
         min(close[n : n + 2]) - 16 - 7 * (n % 5), close[n + 1]]
        for n in range(96)
    ]  # fmt: skip
    chances = [0.5 + 0.16 * math.sin(n / 9.0 + 0.8) for n in range(96)]
    decisions = [
        [first + (n + 1) * STEP,
         "LONG" if n in (21, 50) else "SHORT" if n == 38 else "NO_TRADE", chances[n]]
        for n in range(96)
    ]  # fmt: skip
    trades = [
        [first + 22 * STEP, close[22], first + 27 * STEP, close[27], "LONG"],
        [first + 39 * STEP, close[39], first + 44 * STEP, close[44], "SHORT"],
        [first + 51 * STEP, close[51], first + 56 * STEP, close[56], "LONG"],
    ]
    return {
        "symbol": SPOT, "timeframe": "5m", "step_ms": STEP, "bars": bars, "decisions": decisions,
        "trades": trades, "stop": 104_420.5, "target": 105_380.0, "theme": "dark",
        "simulated": False,
    }  # fmt: skip


def equity_data() -> dict[str, Any]:
    """Return marks for the equity picture."""
    values = [10_000.0 + 22.0 * _wave(n / 2.0) - 22.0 * _wave(0) + 0.12 * n for n in range(200)]
    marks, high = [], 0.0
    for n, value in enumerate(values):
        high = max(high, value)
        marks.append([AT - (200 - n) * 12 * STEP, f"{value:.2f}", f"{high:.2f}"])
    return {"currency": "USDT", "marks": marks, "initial": 10_000.0, "theme": "dark",
            "simulated": False}  # fmt: skip


def calibration_data() -> dict[str, Any]:
    """Return bins for the calibration picture."""
    bins = []
    for n in range(10):
        said = 0.455 + 0.0095 * n
        seen = said + 0.011 * math.sin(2.3 * n + 0.4)
        bins.append([said, seen, said - 0.019, said + 0.019, 864])
    return {"symbol": SPOT, "n": 8_640, "brier": 0.2486, "skill_1e4": 14.0, "bins": bins,
            "theme": "dark", "simulated": False}  # fmt: skip
