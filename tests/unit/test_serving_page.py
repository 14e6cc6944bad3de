"""The status page: what a trader must see, and what must never get through."""

from __future__ import annotations

import re
from typing import Any

import pytest

from serving.page import render


def view(**changes: Any) -> dict[str, Any]:
    health = {
        "status": "ok", "problems": [], "source": "demo", "speed": 60.0,
        "execution": "paper", "desk": {"phase": "live", "done": None}, "feed": None,
    }  # fmt: skip
    health |= changes.pop("health", {})
    risk: dict[str, Any] = {"mode": "ACTIVE", "by": None, "why": None, "checks": []}
    return {
        "world": "demo-7", "profile": "demo", "simulated": True, "as_of": None, "decisions": [],
        "weights": [], "portfolio": None, "equity": [], "risk": risk, "trades": [],
        "health": health, **changes,
    }  # fmt: skip


def signal(**changes: Any) -> dict[str, Any]:
    body = {
        "id": "abc", "as_of": "2025-01-31T01:00:00Z", "symbol": "BTC/USDT", "timeframe": "5m",
        "horizon_steps": 5, "decision": "NO_TRADE", "prob_up": 0.51, "break_even_prob": 0.78,
        "expected_return": 0.0001, "p10": -0.004, "p50": 0.0, "p90": 0.0041, "risk_score": 0.07,
        "reason": "NO_TRADE: too dear.", "reasons": ["below_cost"], "degraded": False,
        "absent": {}, "explanations": {}, "origin": "bar",
    }  # fmt: skip
    return {**body, **changes}


def portfolio(**changes: Any) -> dict[str, Any]:
    body = {
        "currency": "USDT", "equity": "9990", "high_water": "10100", "drawdown": "0.0108",
        "positions": [],
    }  # fmt: skip
    return {**body, **changes}


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_page_when_nothing_happened_yet_then_it_says_so() -> None:
    text = text_of(render(view()))

    assert "The council has not decided yet." in text
    assert "No account yet." in text
    assert "No open position." in text


@pytest.mark.parametrize("simulated", [True, False])
def test_page_when_the_market_is_simulated_then_and_only_then_a_banner_says_it(
    simulated: bool,
) -> None:
    text = text_of(render(view(simulated=simulated)))

    assert ("No figure on this page says anything about a real market." in text) is simulated


def test_page_when_orders_go_to_the_exchange_then_and_only_then_it_says_live() -> None:
    assert "Orders go to the exchange." in text_of(render(view(health={"execution": "live"})))
    assert "LIVE" not in text_of(render(view()))


def test_page_when_opened_then_it_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    page = render(view(decisions=[signal()], portfolio=portfolio()))

    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "Nothing here promises a profit." in page


def test_page_when_a_text_holds_markup_then_it_is_shown_as_text() -> None:
    evil = "<img src=x>\"'"
    hostile = signal(
        symbol=evil, reason=evil, reasons=[evil], id=evil, degraded=True, absent={evil: evil},
        explanations={"technical": evil},
    )  # fmt: skip
    weights = [{"agent": evil, "symbol": evil, "weight": 1.0, "skill_1e4": None, "n": 1}]
    risk = {"mode": "KILLED", "by": evil, "why": evil, "checks": []}
    page = render(
        view(decisions=[hostile], weights=weights, risk=risk, world=evil,
             health={"problems": [evil], "status": evil})
    )  # fmt: skip

    assert "<img" not in page
    assert "&lt;img src=x&gt;" in page


def test_page_when_the_council_abstains_then_probability_and_break_even_stand_side_by_side() -> (
    None
):
    page = render(view(decisions=[signal(prob_up=0.25, break_even_prob=0.8)]))

    assert "P(down) 75.0 % · break-even 80.0 %" in text_of(page)
    assert 'style="width:50.0%"' in page  # of the way from even odds to certainty
    assert 'style="left:60.0%"' in page


def test_page_when_no_probability_would_pay_then_it_says_so() -> None:
    text = text_of(render(view(decisions=[signal(break_even_prob=None)])))

    assert "no probability pays the costs" in text


def test_page_when_nobody_spoke_then_there_is_no_number_to_believe() -> None:
    silent = signal(
        prob_up=None, break_even_prob=None, expected_return=None, p10=None, p90=None,
        risk_score=None, degraded=True, absent={"risk": "deadline"},
    )  # fmt: skip
    text = text_of(render(view(decisions=[silent])))

    assert "No forecaster spoke." in text
    assert "Degraded, absent: risk (deadline)" in text
    assert "None" not in text.replace("None yet.", "")
    assert "nan" not in text


def test_page_when_asked_on_demand_then_the_decision_says_that_it_never_trades() -> None:
    text = text_of(render(view(decisions=[signal(origin="on_demand")])))

    assert "below cost, asked for, never traded" in text


def test_page_when_the_account_lost_then_the_loss_is_shown_with_a_true_minus() -> None:
    equity = [{"at": 1738281900000, "equity": "10000"}, {"at": 1738282200000, "equity": "9990"}]
    page = render(view(portfolio=portfolio(), equity=equity))

    assert "9,990.00 USDT" in page
    assert "−10.00 (−0.10 %)" in text_of(page)
    assert "1.08 %" in page
    assert "since 01-31 00:05" in text_of(page)


def test_page_when_a_position_is_open_then_its_way_out_is_shown() -> None:
    held = {
        "side": "SHORT", "qty": "-0.010", "symbol": "BTC/USDT:USDT", "entry_price": "98178.10",
        "mark": "98054.5", "stop": "98374.20", "target": None,
        "horizon_due": "2025-01-31T07:30:00Z",
    }  # fmt: skip
    text = text_of(render(view(portfolio=portfolio(positions=[held]))))

    assert "▼ SHORT 0.010 BTC/USDT:USDT" in text
    assert "Entry 98,178.10" in text
    assert "Stop 98,374.20" in text
    assert "Target" not in text
    assert "Leaves at the latest 01-31 07:30" in text


def test_page_when_killed_then_it_says_by_whom_and_that_nothing_is_entered() -> None:
    risk = {"mode": "KILLED", "by": "api", "why": "drill", "checks": []}
    text = text_of(render(view(risk=risk)))

    assert "KILLED drill (by api) No new positions." in text


def test_page_when_limits_are_known_then_their_use_is_shown_and_capped() -> None:
    checks = [
        {"name": "mode", "value": "ACTIVE", "limit": "ACTIVE"},
        {"name": "daily_loss", "value": 0.045, "limit": 0.03},
        {"name": "total_stop", "value": -0.001, "limit": 0.08},
    ]
    risk = {"mode": "ACTIVE", "by": None, "why": None, "checks": checks}
    page = render(view(risk=risk))

    assert "Loss today 4.50 % of 3.0 %" in text_of(page)
    assert "Drawdown 0.00 % of 8.0 %" in text_of(page)
    assert 'style="width:100.0%"' in page


def test_page_when_warming_up_then_it_says_how_far_it_is() -> None:
    text = text_of(render(view(health={"desk": {"phase": "warming up", "done": 0.43}})))

    assert "Warming up: 43 %." in text


def test_page_when_the_feed_is_not_sure_then_it_says_what_entries_wait_for() -> None:
    missing = "BTC/USDT 1m 0 of 200 bars <b>"
    feed = {"ready": False, "late": False, "waiting": missing}
    desk = {"phase": f"waiting: {missing}", "done": None}
    page = render(view(health={"desk": desk, "feed": feed}))

    assert "Nothing is entered yet. The feed: BTC/USDT 1m 0 of 200 bars &lt;b&gt;." in page
    assert "History is forecast" not in page
    assert "feed: waiting: BTC/USDT 1m 0 of 200 bars &lt;b&gt;<br>Times are UTC" in page
    assert "feed" not in text_of(render(view()))


def test_page_when_agents_differ_then_the_heaviest_comes_first_with_its_words() -> None:
    weights = [
        {"agent": "risk", "symbol": "BTC/USDT", "weight": 0.1, "skill_1e4": -1.25, "n": 1234},
        {"agent": "technical", "symbol": "BTC/USDT", "weight": 0.9, "skill_1e4": None, "n": 9},
    ]
    said = {"technical": "P(up) 0.6 at weight 0.9: +0.3 logit. Indicators point up."}
    text = text_of(render(view(weights=weights, decisions=[signal(explanations=said)])))

    assert text.index("technical") < text.index("risk 10.0 %")
    assert "90.0 % – 9 Indicators point up." in text
    assert "−1.2 1,234" in text


def test_page_when_trades_closed_then_costs_are_summed_and_net_stands_beside() -> None:
    trade = {
        "closed_at": "2025-01-31T00:20:00Z", "symbol": "BTC/USDT:USDT", "side": "LONG",
        "qty": "0.010", "entry": "99321.80", "exit": "99569.70", "fee": "0.70", "spread": "0.05",
        "slippage": "0.10", "funding": "-0.01", "pnl": "1.78", "reason": "target",
    }  # fmt: skip
    text = text_of(render(view(trades=[trade])))

    assert "99,321.80 99,569.70 target 0.84 +1.78" in text
