"""From settings to the assertions of a world: limits, the backtest beside it, what to suggest."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine

from domain.times import HOUR_MS
from domain.trading import EquityMark
from serving.asserting import Backtest, Limits, Suggestion
from serving.rerunning import Build, Session, marks_again, stages_of
from serving.settings import Settings
from sim.assertions import Verdict


def limits_of(settings: Settings) -> Limits:
    """Translate settings into limits."""
    rules, execution = settings.assertions, settings.execution
    return Limits(
        sharpe_gap=rules.sharpe_gap_max,
        slippage_bps=rules.slippage_gap_max_bps,
        win_rate_error=rules.win_rate_error,
        drawdown=rules.drawdown_max,
        data_age_bars=rules.data_age_max_bars,
        adherence=rules.adherence_min,
        grace_ms=round(rules.adherence_grace_hours * HOUR_MS),
        modelled_bps=execution.spread_bps / 2 + execution.slippage_bps,
        journal=settings.journal.reflections,
    )


def session_backtest(engine: Engine, world: str, build: Build) -> Backtest:
    """Return what trades a world's session again, as ``conclave parity`` does.

    Parameters
    ----------
    build : makes the strategy that the session's settings name.
    """

    def again(start: int, end: int) -> list[EquityMark]:
        session = Session(engine, world)
        return marks_again(session, stages_of(session, build), start, end)

    return again


def suggesting(settings: Settings) -> Callable[[Verdict], Suggestion]:
    """Return what turns a failed verdict into something to do."""
    execution, risk = settings.execution, settings.risk

    def smaller(words: str) -> Suggestion:
        if execution.fixed_quantity is not None:
            size = execution.fixed_quantity
            return Suggestion(words, "execution.fixed_quantity", size, size / 2)
        if execution.fixed_notional is not None:
            size = execution.fixed_notional
            return Suggestion(words, "execution.fixed_notional", size, size / 2)
        share = risk.risk_per_trade
        return Suggestion(words, "risk.risk_per_trade", share, share / 2)

    def slippage(verdict: Verdict) -> Suggestion:
        realised = float(verdict.evidence["realised_bps"])
        to = max(0.0, round(realised - execution.spread_bps / 2, 2))
        return Suggestion(
            "Model what is really paid, and backtest again with it: an edge below it is none.",
            "execution.slippage_bps", execution.slippage_bps, to,
        )  # fmt: skip

    plain = {
        "sharpe_gap": "Find the first decision or fill that differs between the session and a "
        "backtest of the same bars; believe no backtest of this strategy until it is explained.",
        "reconciliation": "Run conclave ledger verify, and look up the account's orders at the "
        "broker. What traded there outside this system, undo there; then conclave arm.",
        "coverage_80": "Retrain the interval models (conclave train return); until then do not "
        "size by the published p10–p90.",
        "data_age": "Look at the source of the bars and at this machine's clock (conclave "
        "doctor): nothing should be decided on old bars.",
    }

    def suggest(verdict: Verdict) -> Suggestion:
        if verdict.name == "slippage_gap":
            return slippage(verdict)
        if verdict.name == "win_rate_drift":
            return smaller("Read the week's trades (conclave journal review), and trade half the "
                           "size until they are explained.")  # fmt: skip
        if verdict.name == "drawdown":
            return smaller("Trade half the size until a new high-water mark is reached.")
        if verdict.name == "adherence":
            return Suggestion(
                "Write the missing ones (conclave journal list --missing); strict makes entries "
                "wait for them.",
                "journal.reflections", settings.journal.reflections, "strict",
            )  # fmt: skip
        return Suggestion(plain[verdict.name])

    return suggest
