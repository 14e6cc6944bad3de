"""What every table and column means: docs/SCHEMA.md is written from it, a test keeps it whole.

A column of one name means the same in every table; where it cannot, ``table.column`` says what it
means there.
"""

from __future__ import annotations

from dataclasses import dataclass

MS = "UTC ms"


@dataclass(frozen=True, slots=True)
class Told:
    """Who keeps a table or view, and what for."""

    meaning: str
    written_by: str
    read_by: str


_DESK = "the desk"
_READERS = "API, command line, reports"
_YET = "nothing else writes it in this version"
TABLES: dict[str, Told] = {
    "chain": Told(
        "the spine: one row for every record, in the order of appends, each with the hash of the "
        "one before", "every append (`SqlLedger.append`)", "`ledger verify`, export, backups",
    ),
    "bars": Told("closed bars the loop took in", "the loop (absorb)", "loop on restart, API"),
    "opinions": Told(
        "what every agent forecast, before the outcome", "the loop (decide)",
        "scores and weights, `why`, `replay`",
    ),
    "outcomes": Told(
        "what came of a forecast, when its horizon had passed", "the loop (absorb)",
        "scores and weights, `why`",
    ),
    "decisions": Told(
        "LONG, SHORT or NO_TRADE with all that led to it", "the loop (decide)",
        "`why`, `replay`, `/v1/signals`",
    ),
    "orders": Told("instructions to the broker", "the loop, before it sends them", "broker, API"),
    "fills": Told("(parts of) orders carried out", "the loop (absorb)", "account, API"),
    "postings": Told(
        "double entry: what each fill, funding payment and deposit moves between books",
        "the loop (absorb)", "`ledger verify`, account",
    ),
    "trades": Told("round trips that ended", "the loop (absorb)", "API, state.json, sizing"),
    "refusals": Told("orders and intents that were not carried out, and why", "the loop", _READERS),
    "equity_marks": Told(
        "the account's value at the close of each bar", "the loop (decide)",
        "`/v1/equity`, drawdown limits, `ledger verify`",
    ),
    "mode_changes": Told(
        "changes of ACTIVE, REDUCING, HALTED, KILLED; the newest holds",
        "risk, kill and arm, recovery", "risk on restart, API",
    ),
    "risk_events": Told(
        "what bears on risk and is neither an order nor a change of mode",
        "reconciliation, assertions, `POST /v1/risk/events`, recovery", "`risk_log`, API",
    ),
    "operator_reports": Told(
        "how the person at the desk is", "the operator, by API or command line",
        "`risk_log`, risk",
    ),
    "reflections": Told(
        "what somebody makes of a trade; the newest of a trade holds", "the journal", "the journal",
    ),
    "seen_books": Told(
        "what was seen of order books and trades: at the close of a bar, and where orders filled",
        "the desk of a live market", "agents, the loop on restart, parity",
    ),
    "settled_funding": Told(
        "what funding stamps of perpetuals paid, as the venue published it",
        "the desk of a live market", "the paper broker, parity",
    ),
    "external_trades": Told(
        "round trips made elsewhere, kept for the journal; they move no account here",
        "`POST /v1/trades`, by way of the desk", "`/v1/trades`",
    ),
    "events": Told(
        "what people may want to be told, as a projection of the ledger", "the desk, recovery",
        "screen, stream, messages",
    ),
    "accounts": Told("accounts that a world books on", "whoever opens one", _READERS),
    "symbols": Told(
        "**Symbol**: the symbols that are watched", "`up`, `/v1/symbols`",
        "`up`, where no setting names symbols",
    ),
    "outbox": Told(
        "messages on their way out, once per key; sent ones are pruned", "notifier", "notifier",
    ),
    "inbox": Told("requests to the desk, and its answers", "API, command line, Telegram", _DESK),
    "jobs": Told(
        "long work and what came of it",
        "`/v1/system/jobs`, `conclave jobs`; `train`, `run-inference` where a bot is set up",
        "its worker, API, notifier",
    ),
    "leases": Told(
        "who is the one desk, and the one notifier", "desk, notifier, `signal --local`, "
        "`run-inference`", "everybody",
    ),
    "snapshots": Told(
        "saved folds and views, the last three, which can be made anew from the ledger; how far "
        "the notifier came", "desk, notifier", "desk on restart, API, notifier",
    ),
    "proposals": Told(
        "suggested changes that a person decides on", "monitor, reconciliation, assertions", "API",
    ),
    "audit": Told(
        "who did what through API, Telegram or command line",
        "API and notifier (whatever changes something), proposals",
        "people",
    ),
    "learned_patterns": Told(
        "**LearnedPattern**: what the council had learned of each agent, once an hour of market "
        "time", _DESK, "people, reports",
    ),
    "service_health": Told(
        "**ServiceHealth**: how a process is, once a minute of wall time, kept for 30 days", _DESK,
        "people",
    ),
    "trade_context": Told(
        "**TradeContext**: every closed trade with the decision that opened it: what was known, "
        "who said what with which weight, and what came of it",
        "nobody: a view of trades, decisions, orders and reflections", "reports, people",
    ),
    "risk_log": Told(
        "**RiskLog**: all that bears on risk in one place",
        "nobody: a view of mode_changes, refusals, risk_events and operator_reports",
        "people, reports",
    ),
    "cost_tracker": Told(
        "**CostTracker**: every cost of trading as a line of its own; `storage.views.cost_days` "
        "adds them up per UTC day, exactly",
        "nobody: a view of fills and postings", "reports, people",
    ),
}  # fmt: skip

# name or table.name → (unit, meaning)
COLUMNS: dict[str, tuple[str, str]] = {
    "absent": ("JSON", "agent → why it had no say"),
    "account": ("", "account"),
    "action": ("", "LONG, SHORT or NO_TRADE, after gate and risk"),
    "active": ("", "whether it is watched"),
    "actor": ("", "who did it"),
    "agent": ("", "name of the forecaster"),
    "amount": ("units of `asset`", "what moves; positive into the book"),
    "answered": ("", "whether the desk has answered"),
    "as_of": (MS, "close of the last bar that was known"),
    "asset": ("", "currency, or a symbol for contracts"),
    "at": (MS, "when, in market time"),
    "attempts": ("", "tries so far"),
    "author": ("", "who wrote it"),
    "body": ("JSON", "particulars"),
    "book": ("", "cash, position, market, fee, liquidation, funding, realised or capital"),
    "break_even_prob": ("fraction", "probability at which the trade pays for its costs"),
    "brier": ("", "decayed Brier score, 0 best, 0.25 a coin; null before the first outcome"),
    "by": ("", "who or what did it"),
    "cash": ("quote currency", "the account's cash, what the cash book holds"),
    "close": ("quote currency", "last price of the bar"),
    "closed_at": (MS, "fill that closed the position, in market time"),
    "code": ("", "reason code"),
    "contributions": ("JSON", "agent → its share of p − ½, fraction"),
    "cost": ("", "fee, spread, slippage, funding or liquidation"),
    "cpu_seconds": ("s", "processor time since the process started"),
    "created_at": (MS, "when it was made"),
    "currency": ("", "what the account is kept in"),
    "day": (MS, "midnight that begins the UTC day"),
    "decided_at": (MS, "when somebody decided; null while open"),
    "decided_by": ("", "who decided"),
    "decision_id": ("", "decision that led to it; empty where there is none"),
    "decisions": ("", "decisions since the process started"),
    "draft": ("", "written from the ledger, waiting for a person's words"),
    "drop": ("fraction", "deepest fall within the horizon, log"),
    "due": (MS, "close of the bar at which the horizon ended"),
    "entry": ("quote currency", "average price of the opening fills"),
    "entry_order_id": ("", "order that opened it"),
    "equity": ("quote currency", "cash and positions at the close, marked to market"),
    "error": ("", "why the last try failed"),
    "evidence": ("JSON", "what the agent measured"),
    "exit": ("quote currency", "average price of the closing fills"),
    "exit_reason": ("", "stop, target, opposite, horizon, risk, kill, …"),
    "expected_return": ("fraction", "mean log return over the horizon"),
    "expires_at": (MS, "when the lease runs out"),
    "explanations": ("JSON", "agent → its words"),
    "fee": ("quote currency", "paid to the venue; positive is paid"),
    "feed_age_seconds": ("s", "wall time since the newest bar came; null before the first"),
    "followed_plan": ("", "whether the trade went as planned; null where nobody said"),
    "forecast_symbol": ("", "symbol that was forecast; `symbol` is where it was traded"),
    "funding": ("quote currency", "paid over the trade's life; positive is paid"),
    "gate": ("JSON", "what the gate said"),
    "git_commit": ("", "commit of the code that decided"),
    "hash": ("SHA-256", "of the hash before, kind, world, and the row as canonical JSON"),
    "high": ("quote currency", "highest price of the bar"),
    "high_water": ("quote currency", "highest equity so far"),
    "horizon_bars": ("bars", "how far the forecast reaches"),
    "id": ("", "its name: a hash of what makes it unique"),
    "info": ("JSON", "what the holder says of itself"),
    "inputs": ("JSON", "costs, quality, pools and whatever else went in"),
    "intent": ("", "entry, or the exit's reason"),
    "key": ("", "what makes it the same one if it comes twice"),
    "kind": ("", "what sort it is"),
    "lag_seconds": ("s", "longest the process did not look at its inbox in that minute"),
    "level": ("", "info, warning or error"),
    "log_return": ("fraction", "log return from as_of to due"),
    "low": ("quote currency", "lowest price of the bar"),
    "maker": ("", "whether the order rested"),
    "margins": ("JSON", "check → distance to its limit; negative fails; null not measured"),
    "market": ("", "spot or perp"),
    "memo": ("", "in words; of funding, the symbol first"),
    "meta": ("JSON", "anything else"),
    "mode": ("", "ACTIVE, REDUCING, HALTED or KILLED"),
    "model_version": ("", "version of the agent's model"),
    "model_versions": ("JSON", "agent → version of its model"),
    "n": ("", "scored outcomes so far"),
    "name": ("", "its name"),
    "note": ("", "in their own words"),
    "open": ("quote currency", "first price of the bar"),
    "open_ms": (MS, "when the bar opened"),
    "opened_at": (MS, "fill that opened the position, in market time"),
    "order_id": ("", "client order id"),
    "ordered_qty": ("base units", "what was ordered at the entry"),
    "origin": ("", "bar, on_demand or warm_up"),
    "owner": ("", "host, process and a random word"),
    "p_up": ("fraction", "probability of a higher close at the horizon; null: no direction"),
    "pid": ("", "process id"),
    "pnl": ("quote currency", "profit net of fee and funding; spread and slippage are in prices"),
    "price": ("quote currency", "price per unit"),
    "prob_up": ("fraction", "the council's probability of a higher close"),
    "qty": ("base units", "quantity, without sign"),
    "quantiles": ("JSON", "levels and values of the log return"),
    "rationale": ("", "the agent's words"),
    "realised": ("quote currency", "profit that the fill realises, before its fee"),
    "reason": ("", "in words"),
    "reasons": ("JSON", "codes of what spoke against a trade"),
    "record_key": ("", "what makes two records of a kind the same one within a world"),
    "reduce_only": ("", "may only make the position smaller"),
    "ref": ("", "its id where it comes from"),
    "reference": ("quote currency", "price before spread and slippage"),
    "reflection": ("", "newest reflection on the trade; null where there is none"),
    "result": ("JSON", "the answer"),
    "rise": ("fraction", "highest rise within the horizon, log"),
    "risk_down": ("fraction", "probability of a fall beyond the risk threshold"),
    "risk_score": ("fraction", "probability of the move against the side"),
    "risk_up": ("fraction", "probability of a rise beyond the risk threshold"),
    "rss_bytes": ("bytes", "memory the process holds"),
    "rule": ("", "the rule that was broken"),
    "seat": ("", "member, grace (cannot lose weight yet) or probation (has none)"),
    "seq": ("", "number in the chain"),
    "service": ("", "which process"),
    "side": ("", "buy or sell; of a trade LONG or SHORT"),
    "skill_1e4": ("10⁻⁴", "(¼ − Brier) · 10⁴; null before the first outcome"),
    "slippage": ("quote currency", "paid inside the price; positive is paid"),
    "source": ("", "where the bars are from"),
    "spread": ("quote currency", "half spread paid inside the price; positive is paid"),
    "state": ("", "where it is on its way"),
    "state_seq": ("", "last row the council had learned from"),
    "status": ("", "what it is doing"),
    "stop": ("quote currency", "price at which it is given up; null: none"),
    "strategy": ("", "who decided: council, ema_cross, …"),
    "subject": ("", "what it is about: a symbol, an assertion, an id elsewhere"),
    "symbol": ("", "ccxt-unified symbol"),
    "tags": ("JSON", "words to find it by"),
    "target": ("quote currency", "price at which the profit is taken; null: none"),
    "text": ("", "the words"),
    "timeframe": ("", "length of a bar"),
    "trade_id": ("", "the trade's id"),
    "trigger": ("quote currency", "price that sets a stop off"),
    "ts": (MS, "when it was emitted, by the injected clock"),
    "type": ("", "market, limit or stop"),
    "updated_at": (MS, "when it changed last"),
    "value": ("", "the value seen"),
    "via": ("", "where opinions come from: serve or in_process"),
    "volume": ("base units", "traded within the bar"),
    "weight": ("fraction", "weight before renormalising over the awake; 0 in probation"),
    "weights": ("JSON", "agent → weight in this decision, fraction"),
    "why": ("", "in words"),
    "world": ("", "market the session lives in; worlds never mix"),
    # the same name, another meaning
    "accounts.kind": ("", "paper, live or external"),
    "audit.action": ("", "what was done"),
    "audit.at": (MS, "when, wall time"),
    "audit.id": ("", "rising number"),
    "chain.kind": ("", "which table holds the record"),
    "cost_tracker.amount": ("quote currency", "positive is paid, negative received"),
    "cost_tracker.entry": ("", "fill or funding entry it comes from"),
    "decisions.intent": ("", "what the strategy wanted, before gate and risk"),
    "events.id": ("", "rising number; the stream's Last-Event-ID"),
    "external_trades.at": (MS, "when it was told, in market time"),
    "external_trades.by": ("", "whose token told it"),
    "external_trades.closed_at": (MS, "when it ended, as told"),
    "external_trades.funding": ("quote currency", "paid while it was open; positive is paid"),
    "external_trades.opened_at": (MS, "when it began, as told"),
    "external_trades.pnl": ("quote currency", "profit net of fee and funding"),
    "external_trades.side": ("", "LONG or SHORT"),
    "external_trades.source": ("", "program or venue it comes from"),
    "inbox.at": (MS, "when it was asked, wall time"),
    "inbox.id": ("", "rising number"),
    "jobs.id": ("", "rising number"),
    "service_health.received_bytes": (
        "bytes",
        "of the exchange's streams and answers since the process began",
    ),
    "service_health.reconnects": ("", "lines to the exchange after the first of each"),
    "seen_books.at": (MS, "nothing in it is later"),
    "seen_books.view": (
        "JSON",
        "book (best first: price, quantity), trades (ms, price, quantity, maker bought) "
        "and order flow (start, end, sum, gross, updates)",
    ),
    "settled_funding.at": (MS, "the stamp"),
    "settled_funding.rate": ("fraction of notional", "positive: longs pay"),
    "settled_funding.published": ("", "else the venue had not said: the usual .01 %"),
    "operator_reports.source": ("", "hrv or self_report"),
    "operator_reports.value": ("ms or 0–10", "RMSSD, or how fit they feel"),
    "outbox.id": ("", "rising number"),
    "postings.entry": ("", "id of what caused it: a fill, a funding stamp, the opening"),
    "proposals.id": ("", "rising number"),
    "risk_log.by": ("", "who or what did it; `risk` for refusals"),
    "risk_log.kind": ("", "the mode, reason code, kind of event or source of the report"),
    "risk_log.source": ("", "mode_change, refusal, risk_event or operator_report"),
    "risk_log.value": ("ms or 0–10", "of operator reports; else null"),
    "service_health.at": (MS, "when, wall time"),
    "snapshots.seq": ("", "last row of the chain that is in it"),
    "snapshots.key": ("", "whose state"),
    "trade_context.stop": ("quote currency", "as the decision suggested; null: none"),
    "trade_context.target": ("quote currency", "as the decision suggested; null: none"),
}


def told(table: str, column: str) -> tuple[str, str]:
    """Return unit and meaning of a column."""
    return COLUMNS.get(f"{table}.{column}") or COLUMNS[column]
