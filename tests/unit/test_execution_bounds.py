"""No order above a limit, whatever the account, the market and the settings."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.decision import Decision
from domain.market import Instrument
from domain.trading import EquityMark, Order, Portfolio, Position
from execution.kelly import KellySettings, Stake
from execution.limits import RiskLimits, failed
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.risk import RiskState
from execution.sizing import SizingSettings, size
from storage.memory import MemoryLedger
from tests.execution_scenes import PERP, START, Script, plain_broker, states_of, walk

MOST = 1_500  # quote units: near the exposure limits of the random streams
ROUNDING = Decimal("1e-20")
money = st.decimals("0.01", "1000000", places=2)
fractions = st.floats(0.0001, 0.05)
stakes = st.one_of(
    st.none(),
    st.builds(Stake, st.floats(0.0, 0.015), st.booleans(), st.just(50), st.just(0.5)),
    st.builds(Stake, st.floats(0.0, 0.015)),
)
instruments = st.builds(
    Instrument, st.just("X/USDT:USDT"), st.just(Decimal("0.01")),
    st.sampled_from([Decimal(1).scaleb(-k) for k in range(6)]), st.just(Decimal("0.001")),
    st.just(Decimal(1_000)), st.sampled_from([Decimal(5), Decimal(100)]), st.just(5.0),
    st.just(2.0),
)  # fmt: skip
sizings = st.builds(
    SizingSettings,
    st.sampled_from(["kelly", "risk", "fixed", "quantity"]), st.floats(0.0001, 0.015),
    st.floats(1.0, 5_000.0), st.floats(0.001, 10.0), st.just(10.0), st.floats(10.0, 5_000.0),
    kelly=st.builds(KellySettings, max_risk=st.floats(0.001, 0.015)),
)  # fmt: skip


@pytest.mark.long
@settings(max_examples=300)
@given(
    sizings, money, money, st.floats(-0.2, 0.2), instruments, st.floats(0.0, 1.0),
    st.none() | fractions, stakes,
)  # fmt: skip
def test_size_when_anything_is_asked_then_no_order_is_above_a_limit(
    sizing, equity, price, far, instrument, factor, cap, stake
):
    stop = price * (1 + Decimal(repr(far))) if far else None
    sized = size(sizing, equity, price, stop, instrument, factor, cap, stake)
    notional = sized.qty * price
    assert sized.qty % instrument.step == 0
    if sized.qty == 0:
        assert sized.reason is not None
        return
    assert sized.notional == notional
    assert factor > 0.0
    assert sized.reason is None
    assert instrument.min_qty <= sized.qty <= instrument.max_qty
    assert max(instrument.min_notional, 10) <= notional
    assert notional <= Decimal(repr(sizing.max_notional)) + ROUNDING
    distance = Decimal(repr(sizing.default_stop)) if stop is None else abs(price - stop) / price
    caps = [] if cap is None else [cap]
    if sizing.mode in ("kelly", "risk"):
        caps.append(sizing.kelly.max_risk)
    for most in caps:
        assert notional * distance <= equity * Decimal(repr(most)) * (1 + ROUNDING)


quantities = st.decimals("-50", "50", places=3)


@given(
    st.dictionaries(st.sampled_from("abcd"), quantities), money, money,
    st.floats(0.01, 3.0), st.floats(0.01, 3.0),
)  # fmt: skip
def test_entry_when_every_check_passes_then_no_exposure_is_above_its_limit(
    held, equity, notional, one, every
):
    positions = {k: Position("p", k, q, Decimal(100), START, "d", 0) for k, q in held.items()}
    portfolio = Portfolio("p", "USDT", START, equity, equity, equity, positions, {})
    state = RiskState(RiskLimits(max_symbol_exposure=one, max_total_exposure=every), "p")
    pending = {"e": Decimal(7)}
    checks = state.entry_checks(portfolio, "a", notional, 1.0, None, pending)
    worth = {k: abs(q) * 100 for k, q in held.items()}
    symbol = float((worth.get("a", 0) + notional) / equity)
    total = float((sum(worth.values()) + 7 + notional) / equity)
    assert (not failed(checks)) is (symbol <= one and total <= every)


class Dice(Script):
    """Random sides with random stops and targets."""

    def __init__(self, seed, frames):
        rng = np.random.default_rng(seed)
        super().__init__({})
        self.made = {}
        for frame in frames:
            for ts, close in zip(frame.ts, frame.close.tolist(), strict=True):
                side = rng.choice(["LONG", "SHORT", "NO_TRADE"], p=[0.4, 0.4, 0.2])
                far = float(rng.uniform(0.0005, 0.03)) * (1 if side == "LONG" else -1)
                levels = (
                    (close * (1 - far), close * (1 + far)) if rng.random() < 0.7 else (None,) * 2
                )
                self.made[frame.symbol, int(ts)] = (str(side), *levels)

    def generate_signal(self, prepared, now):
        index = (prepared.as_of - START) // 300_000 - 1
        self.says = {index: self.made[prepared.symbol, int(prepared.bars.ts[-1])]}
        return super().generate_signal(prepared, now)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_loop_when_the_stream_is_random_then_no_order_ever_breaks_a_recorded_limit(seed):
    rng = np.random.default_rng(seed)
    other = replace(PERP, symbol="ETH/USDT:USDT")
    both = {PERP.symbol: PERP, other.symbol: other}
    frames = [walk(240, seed=seed + k, symbol=s, sigma=0.004) for k, s in enumerate(both)]
    limits = RiskLimits(
        max_symbol_exposure=float(rng.uniform(0.1, 0.2)),
        max_total_exposure=float(rng.uniform(0.15, 0.25)),
        daily_loss=0.01, total_stop=0.2, correlation_least=10, correlation_bars=50,
        max_correlation=0.1,
    )  # fmt: skip
    kelly = KellySettings(window=8, max_risk=float(rng.uniform(0.0005, 0.002)))
    sizing = SizingSettings(risk_fraction=0.01, max_notional=MOST, kelly=kelly)
    ledger = MemoryLedger()
    loop = TradingLoop(
        Dice(seed, frames), plain_broker(both), ledger, both,
        LoopSettings({symbol: symbol for symbol in both}), limits=limits, sizing=sizing,
    )  # fmt: skip
    for pair in zip(*(states_of(list(frame.bars())) for frame in frames), strict=True):
        for state in pair:
            loop.absorb(state.bars.bar(-1))
        for state in pair:
            loop.decide(state, [], {}, state.as_of)
    decisions = {decision.id: decision for _, decision in ledger.records(Decision)}
    closes = {
        (f.symbol, int(t) + 300_000): c for f in frames for t, c in zip(f.ts, f.close, strict=True)
    }
    equity = {mark.at: mark.equity for _, mark in ledger.records(EquityMark)}
    entries = [order for _, order in ledger.records(Order) if order.intent == "entry"]
    assert len(entries) > 15
    assert len({order.symbol for order in entries}) == 2
    for order in entries:
        decision = decisions[order.decision_id]
        assert all(margin is None or margin >= 0 for margin in decision.margins.values())
        price = Decimal(repr(float(closes[order.symbol, order.created_at])))
        notional, now = order.qty * price, equity[order.created_at]
        assert order.qty % PERP.step == 0
        assert 100 <= notional <= MOST
        assert notional <= now * Decimal(repr(limits.max_symbol_exposure))
        found = decision.inputs["risk"]
        assert found["total_exposure"]["value"] <= limits.max_total_exposure
        together = found["correlated_exposure"]["value"]
        assert together == "not_measured" or together <= limits.max_symbol_exposure
        stop = decision.stop
        distance = Decimal("0.01") if stop is None else abs(price - Decimal(repr(stop))) / price
        assert notional * distance <= now * Decimal(repr(kelly.max_risk)) * (1 + ROUNDING)
