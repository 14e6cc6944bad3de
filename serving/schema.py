"""The public shapes: what HTTP, the CLI's ``--json`` and the report files show.

Inside, one name per thing (``p_up``, ``horizon_bars``); here, the names users rely on.
"""

from __future__ import annotations

from typing import Any

from consensus.abstention import declined
from consensus.whatif import flips, waterfall
from domain.canonical import plain
from domain.cards import AgentCard
from domain.decision import Decision, strongest_dissent
from domain.market import parse_symbol
from domain.operations import ExternalTrade
from domain.opinion import Opinion, Outcome
from domain.times import iso
from domain.trading import ClosedTrade, Fill, Portfolio, Position
from serving.replies import Signal
from storage.proposals import Proposal


def signal_of(decision: Decision) -> Signal:
    """Return the public form of a decision."""
    quantiles = decision.quantiles
    values = {
        name: None if quantiles is None else quantiles.at(level)
        for name, level in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9))
    }
    gate = decision.gate
    body = {
        "ts": iso(decision.ts),
        "symbol": decision.symbol,
        "timeframe": decision.timeframe,
        "horizon_steps": decision.horizon_bars,
        "prob_up": decision.prob_up,
        "expected_return": decision.expected_return,
        **values,
        "risk_score": decision.risk_score,
        "decision": decision.action,
        "confidence": decision.confidence,
        "reason": decision.reason,
        "version": {"git_commit": decision.git_commit, "model_version": decision.model_version},
        "id": decision.id,
        "as_of": iso(decision.as_of),
        "final_decision": decision.action,
        "reasons": list(decision.reasons),
        "break_even_prob": decision.break_even_prob,
        "stop": decision.stop,
        "target": decision.target,
        "weights": decision.weights,
        "explanations": decision.explanations,
        "contributions": decision.contributions,
        "absent": decision.absent,
        "degraded": decision.degraded,
        "gate": {
            "action": gate.action,
            "size_factor": gate.size_factor,
            "confidence": gate.confidence,
            "reason": gate.reason,
            "input_decision": gate.input_decision or decision.intent,
        },
        "origin": decision.origin,
        "source": decision.source,
    }
    return Signal.model_validate(plain(body))


def why_of(decision: Decision, opinions: list[Opinion], outcome: Outcome | None) -> dict[str, Any]:
    """Explain a decision in full: votes, weights, costs, margins, what came of it."""
    against = strongest_dissent(decision.prob_up or 0.5, decision.contributions)
    dissent = next((opinion for opinion in opinions if opinion.agent == against), None)
    body: dict[str, Any] = plain(
        {
            "signal": signal_of(decision).model_dump(),
            "intent": decision.intent,
            "votes": [opinion_of(opinion) for opinion in opinions],
            "weights": decision.weights,
            "contributions": decision.contributions,
            "strongest_dissent": None if dissent is None else opinion_of(dissent),
            "debate": decision.inputs.get("debate", []),
            "costs": decision.inputs.get("costs"),
            "waterfall": waterfall(decision),
            "flips": flips(decision),
            "inputs": decision.inputs,
            "break_even_prob": decision.break_even_prob,
            "margins": decision.margins,
            "state_seq": decision.state_seq,
            "outcome": None
            if outcome is None
            else {
                "due": iso(outcome.due),
                "log_return": outcome.log_return,
                "up": outcome.up,
                "drop": outcome.drop,
                "rise": outcome.rise,
                "brier": None if decision.prob_up is None else (decision.prob_up - outcome.up) ** 2,
            },
            "declined": None if outcome is None else _declined(decision, outcome),
        }
    )
    return body


def _declined(decision: Decision, outcome: Outcome) -> dict[str, Any] | None:
    """What a NO_TRADE declined; None for a side that was taken."""
    trade = declined(decision, outcome.log_return)
    if trade is None:
        return None
    return {"side": trade.side, "gross_bps": 1e4 * trade.gross, "net_bps": 1e4 * trade.net}


def opinion_of(opinion: Opinion) -> dict[str, Any]:
    """Return the public form of one agent's forecast."""
    quantiles = opinion.quantiles
    body: dict[str, Any] = plain(
        {
            "agent": opinion.agent,
            "model_version": opinion.model_version,
            "p_up": opinion.p_up,
            "direction_probability": opinion.direction_probability(),
            "confidence": opinion.confidence,
            "expected_return": opinion.expected_return,
            "p10": quantiles and quantiles.at(0.1),
            "p50": quantiles and quantiles.at(0.5),
            "p90": quantiles and quantiles.at(0.9),
            "risk_down": opinion.risk_down,
            "risk_up": opinion.risk_up,
            "rationale": opinion.rationale,
            "evidence": opinion.evidence,
        }
    )
    return body


def agent_of(name: str, card: AgentCard | None, *, remote: bool) -> dict[str, Any]:
    """Return the public form of an agent as it answers now; nulls for one that never answered."""
    until = None if card is None else card.trained_until
    return {
        "name": name,
        "version": card and card.version,
        "runs": "serve" if remote else "in_process",
        "trained_until": None if until is None else iso(until),
        "models": [] if card is None else [plain(model) for model in card.models],
        "problem": "It has not answered yet." if card is None else card.problem,
        "notes": [] if card is None else list(card.notes),
    }


def trade_of(trade: ClosedTrade) -> dict[str, Any]:
    """Return the public form of a closed trade (money as decimal strings, quote units)."""
    body = plain(trade)
    body.update(id=trade.id, opened_at=iso(trade.opened_at), closed_at=iso(trade.closed_at))
    return dict(body)


def external_of(trade: ExternalTrade) -> dict[str, Any]:
    """Return the public form of a trade made elsewhere: a trade's, and where it comes from."""
    told = plain(trade)
    names = ("account", "symbol", "side", "qty", "entry", "exit", "fee", "funding", "pnl", "ref",
             "by", "source", "note")  # fmt: skip
    return {
        **{name: told[name] for name in names},
        "id": trade.id,
        "opened_at": iso(trade.opened_at),
        "closed_at": iso(trade.closed_at),
        "slippage": "0",
        "spread": "0",
        "reason": "external",
        "strategy": "",
        "decision_id": "",
    }


def fill_of(fill: Fill) -> dict[str, Any]:
    """Return the public form of a fill."""
    return {**plain(fill), "at": iso(fill.at)}


def position_of(position: Position, mark: object | None = None) -> dict[str, Any]:
    """Return the public form of an open position."""
    return {
        **plain(position),
        "side": "LONG" if position.qty > 0 else "SHORT",
        "opened_at": iso(position.opened_at),
        "horizon_due": iso(position.horizon_due),
        "mark": plain(mark),
    }


def portfolio_of(portfolio: Portfolio) -> dict[str, Any]:
    """Return the public form of an account at one instant."""
    return {
        "account": portfolio.account,
        "currency": portfolio.currency,
        "at": iso(portfolio.at),
        "cash": plain(portfolio.cash),
        "equity": plain(portfolio.equity),
        "high_water": plain(portfolio.high_water),
        "drawdown": plain(portfolio.drawdown),
        "positions": [
            position_of(position, portfolio.marks.get(symbol))
            for symbol, position in sorted(portfolio.positions.items())
        ],
    }


def proposal_of(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal in JSON's types."""
    decided = proposal.decided_at
    body: dict[str, Any] = plain(proposal)
    return {
        **body,
        "created_at": iso(proposal.created_at),
        "decided_at": None if decided is None else iso(decided),
    }


def symbol_in(text: str) -> str:
    """Read a symbol from a URL path or body: ``BTC-USDT``, ``BTCUSDT`` and ``BTC/USDT`` are one."""
    return parse_symbol(text)
