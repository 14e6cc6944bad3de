"""The compiled engine is the reference, fill by fill."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

kernel = pytest.importorskip("execution.kernel", reason="needs numba")

from data.instruments import instrument_for  # noqa: E402
from domain.market import Bar, BarFrame  # noqa: E402
from domain.trading import ClosedTrade, EquityMark, Fill, Posting  # noqa: E402
from execution.draws import Latency, key_of, mixed, uniform  # noqa: E402
from execution.fills import CostModel, Frictions  # noqa: E402
from execution.kernel import pricing  # noqa: E402
from execution.loop import TradingLoop  # noqa: E402
from execution.messages import LoopSettings  # noqa: E402
from execution.paper import PaperBroker, Venue  # noqa: E402
from execution.sizing import SizingSettings  # noqa: E402
from sim.backtest import plain_states  # noqa: E402
from storage.memory import MemoryLedger  # noqa: E402
from tests.execution_scenes import NO_LIMITS, START, STEP, Script  # noqa: E402

PERP = replace(instrument_for("BTC/USDT:USDT"), min_notional=Decimal(5))
SPOT = instrument_for("BTC/USDT")
HORIZON = 3
NO_SHRINK = [
    Phase.explicit,
    Phase.reuse,
    Phase.generate,
]  # a scene of forty bars shrinks for minutes


def by_reference(frame, says, lots, instrument, costs, venue, cash):
    ledger = MemoryLedger()
    broker = PaperBroker({instrument.symbol: instrument}, {instrument.symbol: costs}, venue=venue)
    size = SizingSettings("quantity", fixed_quantity=float(lots * instrument.step),
                          min_notional=1e-6, max_notional=1e12)  # fmt: skip
    loop = TradingLoop(
        Script(says, HORIZON), broker, ledger, {instrument.symbol: instrument},
        LoopSettings({instrument.symbol: instrument.symbol}, HORIZON, initial_cash=Decimal(cash)),
        limits=NO_LIMITS, sizing=size,
    )  # fmt: skip
    held = []
    for state in plain_states(frame):
        loop.step(state, [], {}, state.as_of)
        position = broker.position(instrument.symbol)
        held.append(0.0 if position is None else float(position.qty / instrument.step))
    return ledger, held


def wishes_of(says, n, lots, instrument):
    side, stop, target = np.zeros(n, np.int8), np.full(n, np.nan), np.full(n, np.nan)
    tick = float(instrument.tick)
    for t, said in says.items():
        what, low, high = said if isinstance(said, tuple) else (said, None, None)
        side[t] = {"LONG": 1, "SHORT": -1}[what]
        stop[t] = np.nan if low is None else round(low / tick)
        target[t] = np.nan if high is None else round(high / tick)
    return kernel.Wishes(side, np.full(n, float(lots)), stop, target)


moves = st.lists(
    st.tuples(
        st.floats(0.94, 1.06), st.floats(1.0, 1.05), st.floats(0.95, 1.0),  # close, high, low
        st.sampled_from([0.0, 1e-9, 0.02, 0.3, 1.0, 40.0]),  # volume
        st.sampled_from(["LONG", "SHORT", "", "", "levels long", "levels short"]),
        st.integers(5, 60), st.integers(0, 9),  # stop and target in thousandths; 0: a gap
    ),
    min_size=2, max_size=40,
)  # fmt: skip


def scene(told, tick):
    bars, says, price, at, digits = [], {}, 50_000.0, START, 1 if tick == Decimal("0.10") else 2
    for t, (close, high, low, volume, what, far, gap) in enumerate(told):
        opened, after = price, round(price * close, digits)
        top, bottom = (round(f(opened, after) * x, digits) for f, x in ((max, high), (min, low)))
        bars.append(Bar("", "5m", at, opened, top, bottom, after, volume))
        if what:
            side = what.split()[-1].upper()
            sign = 1 if side == "LONG" else -1
            levels = (round(after * (1 - sign * far / 1e3), digits),
                      round(after * (1 + sign * far / 1e3), digits))  # fmt: skip
            says[t] = (side, *levels) if "levels" in what else side
        at += STEP * ((3, 100)[t % 2] if gap == 0 and t % 5 == 4 else 1)  # 100 is past a stamp
        price = round(after * (1.0 if gap else 0.97), digits)
    return bars, says


@pytest.mark.long
@settings(deadline=None, max_examples=150, phases=NO_SHRINK)
@given(
    moves, st.integers(1, 120), st.sampled_from([1, 3, 10, 25]), st.booleans(),
    st.sampled_from([Frictions(), Frictions(participation=None, impact=1.0, queue_share=0.9),
                     Frictions(spread_bps=0.0, slippage_bps=0.0, impact=0.0)]),
)  # fmt: skip
def test_kernel_when_anything_happens_then_it_is_the_reference(
    told, lots, leverage, spot, frictions
):
    instrument = SPOT if spot else PERP
    lots = lots * (100 if spot else 1)
    bars, says = scene(told, instrument.tick)
    frame = BarFrame.of([replace(bar, symbol=instrument.symbol) for bar in bars])
    rows = {(int(ts) - START) // STEP: says[t] for t, ts in enumerate(frame.ts) if t in says}
    venue = Venue(Decimal(1 if spot else leverage), Latency("none"), seed=lots)
    costs = CostModel.of(instrument, frictions)
    compare_scripted(frame, says, rows, lots, instrument, costs, venue)


def compare_scripted(frame, says, rows, lots, instrument, costs, venue, cash=10_000):
    ledger, held = by_reference(frame, rows, lots, instrument, costs, venue, cash)
    rules = kernel.rules_of(instrument, costs, venue, "5m", HORIZON)
    bars = kernel.bars_of(frame, funded=instrument.market == "perp")
    wishes = wishes_of(says, len(frame), lots, instrument)
    played = kernel.play(bars, wishes, rules, kernel.tiers_of(instrument), cash)
    agree(played, ledger, held)


def agree(played, ledger, held):
    equity = [float(mark.equity) for _, mark in ledger.records(EquityMark)]
    fills = [fill for _, fill in ledger.records(Fill)]
    assert played.lots.tolist() == held
    np.testing.assert_allclose(played.equity, equity, rtol=1e-9, atol=1e-6)
    assert played.fills == len(fills)
    assert played.trades == len(list(ledger.records(ClosedTrade)))
    liquidated = [fill for fill in fills if fill.intent == "liquidation"]
    paid = [float(p.amount) for _, p in ledger.records(Posting) if p.book == "funding"]
    for mine, theirs in (
        (played.fees, [fill.fee for fill in fills if fill not in liquidated]),
        (played.spread, [fill.spread for fill in fills]),
        (played.slippage, [fill.slippage for fill in fills]),
        (played.funding, paid),
        (played.liquidation, [fill.fee for fill in liquidated]),
    ):
        assert mine == pytest.approx(sum(map(float, theirs)), rel=1e-9, abs=1e-6)


@settings(deadline=None)  # the first one is compiled
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**42), st.integers(0, 9))
def test_draws_when_compiled_then_they_are_the_references(seed, at, index):
    key = key_of("BTC/USDT:USDT", "target")
    seeded = np.uint64(mixed(seed) ^ key)
    assert pricing.uniform(seeded, at, index) == uniform(seed, key, at, index)


def test_play_when_bars_are_violent_then_every_kind_of_fill_was_there():
    """What the comparison rests on: none of these may be missing from its scenes."""
    rng = np.random.default_rng(3)
    told = [
        (float(c), float(h), float(low), float(rng.choice([0.0, 0.3, 40.0])),
         str(rng.choice(["LONG", "SHORT", *[""] * 8, "levels long", "levels short"])),
         int(rng.integers(5, 60)), int(rng.integers(0, 10)))
        for c, h, low in zip(rng.uniform(0.97, 1.03, 600), rng.uniform(1, 1.02, 600),
                             rng.uniform(0.98, 1, 600), strict=True)
    ]  # fmt: skip
    bars, says = scene(told, PERP.tick)
    frame = BarFrame.of([replace(bar, symbol=PERP.symbol) for bar in bars])
    rows = {(int(ts) - START) // STEP: says[t] for t, ts in enumerate(frame.ts) if t in says}
    venue, costs = Venue(Decimal(20), Latency("none")), CostModel.of(PERP, Frictions())
    ledger, held = by_reference(frame, rows, 10, PERP, costs, venue, 100_000)
    kinds = {fill.intent for _, fill in ledger.records(Fill)}
    assert kinds >= {"entry", "stop", "target", "opposite", "horizon", "liquidation"}
    rules = kernel.rules_of(PERP, costs, venue, "5m", HORIZON)
    wishes = wishes_of(says, len(frame), 10, PERP)
    played = kernel.play(kernel.bars_of(frame), wishes, rules, kernel.tiers_of(PERP), 100_000)
    assert played.funding != 0.0
    agree(played, ledger, held)
