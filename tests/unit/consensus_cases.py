"""Small real inputs for the consensus tests."""

import numpy as np

from consensus.council import Council
from consensus.settings import CouncilSettings, DecisionRules
from domain.decision import Costs
from domain.market import BarFrame, BookSnapshot, FeatureFrame, MarketState
from domain.opinion import Opinion, Outcome
from domain.quantiles import CANONICAL_LEVELS, Quantiles

SYMBOL, TIMEFRAME, STEP, H = "BTC/USDT", "5m", 300_000, 5
T0 = 1_735_689_600_000
SHAPE = np.array([-4, -3, -2.2, -1.4, -0.8, -0.4, 0, 0.4, 0.8, 1.4, 2.2, 3, 4]) * 1e-3
COSTS = Costs(fee_bps=10.0, spread_bps=1.0, slippage_bps=1.0)
MEMBERS = ("climatology", "a", "b", "c")


def quantiles(shift=0.0, scale=1.0):
    return Quantiles(CANONICAL_LEVELS, tuple((SHAPE * scale + shift).tolist()))


def opinion(agent="a", p=0.55, k=0, q="normal", **changes):
    """An opinion about bar k; q is a Quantiles, None, or "normal"."""
    body = {
        "agent": agent, "model_version": "1", "symbol": SYMBOL, "timeframe": TIMEFRAME,
        "as_of": T0 + k * STEP, "horizon_bars": H, "p_up": p,
        "quantiles": quantiles() if q == "normal" else q,
        "risk_down": 0.1, "risk_up": 0.2,
    }  # fmt: skip
    return Opinion(**(body | changes))


def outcome(k, r, **changes):
    at = T0 + k * STEP
    body = {
        "symbol": SYMBOL, "timeframe": TIMEFRAME, "as_of": at, "horizon_bars": H,
        "due": at + H * STEP, "log_return": r, "drop": 0.0, "rise": 0.0,
    }  # fmt: skip
    return Outcome(**(body | changes))


def state(k=0, symbol=SYMBOL, book=None, features=None, close=100.0):
    names = {"atr_14": 0.5, "regime": 1.0} if features is None else features
    bars = BarFrame(symbol, TIMEFRAME, np.array([T0 + (k - 1) * STEP]), *[np.array([close])] * 5)
    frame = FeatureFrame(tuple(names), np.array([list(names.values())], dtype=float), "test")
    return MarketState(symbol, TIMEFRAME, T0 + k * STEP, bars, frame, 1_000, book=book)


def book(spread=0.01, quantity=1_000.0, at=T0):
    bids, asks = ((100.0, quantity),), ((100.0 + spread, quantity),)
    return BookSnapshot(SYMBOL, at, bids, asks)


def council(members=MEMBERS, rules=None, costs=COSTS, **settings):
    return Council(
        CouncilSettings(members=members, **settings), rules or DecisionRules(), lambda _: costs
    )


def life(
    seed=0,
    rounds=60,
    agents=MEMBERS,
    made_by=None,
    drop_outcomes=(),
    swap_outcomes=(),
    scramble=None,
    **settings,
):
    """Ledger rows of a council that lives through ``rounds`` bars, in ledger order.

    Outcomes of the rounds in ``swap_outcomes`` come three bars late, those in
    ``drop_outcomes`` never.
    """
    rng = np.random.default_rng(seed)
    judge = made_by or council(agents, **settings)
    returns = rng.normal(0, 2e-3, rounds)
    if scramble is not None:  # the future from this bar on is another one
        returns[scramble:] = -returns[scramble:]
    rows, seq = [], 0
    late = {}

    def append(*records):
        nonlocal seq
        fresh = []
        for record in records:
            seq += 1
            fresh.append((seq, record))
        judge.observe(fresh)
        rows.extend(fresh)

    for k in range(rounds):
        due = k - H
        if due >= 0 and due not in drop_outcomes:
            when = k + 3 if due in swap_outcomes else k
            late.setdefault(when, []).append(outcome(due, float(returns[due])))
        append(*late.pop(k, []))
        said = [
            opinion(agent, float(rng.uniform(0.4, 0.6)), k, quantiles(rng.normal(0, 1e-4)))
            for agent in agents
            if rng.uniform() < 0.9
        ]
        append(*said)
        prepared = judge.prepare_state(state(k), said, {})
        append(judge.generate_signal(prepared, T0 + k * STEP + 50))
    return rows
