"""How much is risked, from the last trades and the market's volatility; figures by hand."""

from dataclasses import replace
from decimal import Decimal
from math import log, sqrt

import pytest

from domain.decision import Reason
from domain.market import Bar
from domain.times import DAY_MS
from domain.trading import ZERO, ClosedTrade, Fill, Refusal
from execution.kelly import DailyVolatility, KellySettings, Stake, TrackRecord
from execution.sizing import SizingSettings, size
from storage.memory import MemoryLedger
from tests.execution_scenes import PERP, START, Script, flat, loop_over, play

PRICE = Decimal(50_000)
DAY = START // DAY_MS


def closed(earned, n=0, account="paper", qty=1):
    """A trade that earned a share of its notional."""
    pnl = Decimal(repr(earned)) * 100 * qty
    at = START + n
    return ClosedTrade(
        PERP.symbol, "LONG", Decimal(qty), at, at + 1, Decimal(100), Decimal(100), ZERO, ZERO, ZERO,
        ZERO, pnl, "horizon", account,
    )  # fmt: skip


def record_of(returns, **settings):
    record = TrackRecord(KellySettings(**settings), "paper", [PERP.symbol], 0.0025)
    for n, earned in enumerate(returns):
        record.fold(closed(earned, n))
    return record


def daily(close, day):
    return Bar(PERP.symbol, "1d", (DAY + day) * DAY_MS, close, close, close, close, 1.0)


def test_stake_when_trades_are_too_few_then_the_risk_is_fixed():
    stake = record_of([0.01] * 49).stake(PERP.symbol)
    assert (stake.fraction, stake.smallest, stake.trades) == (0.0025, False, 49)
    assert (stake.p, stake.b, stake.f) == (None, None, None)


def test_stake_when_the_window_is_full_then_a_quarter_of_kelly_is_risked():
    # b = 1.04, p = ½: f* = ½ − ½ / 1.04 = 1/52; a quarter of it is 1/208.
    stake = record_of([0.0104, -0.01] * 25).stake(PERP.symbol)
    assert (stake.p, stake.trades) == (0.5, 50)
    assert stake.b == pytest.approx(1.04)
    assert stake.f == pytest.approx(1 / 52)
    assert stake.fraction == pytest.approx(1 / 208)
    assert not stake.smallest


def test_stake_when_kelly_asks_for_more_then_it_is_capped():
    # p = .6, b = 2: f* = .6 − .4 / 2 = .4; a quarter would be 10 %.
    stake = record_of([0.02, 0.02, 0.02, -0.01, -0.01] * 10).stake(PERP.symbol)
    assert stake.f == pytest.approx(0.4)
    assert stake.fraction == 0.015


@pytest.mark.parametrize(
    ("returns", "f"),
    [
        ([0.01, -0.01] * 25, 0.0),
        ([0.01, -0.02] * 25, -0.5),
        ([-0.01] * 50, None),  # without a win there are no odds
        ([0.0] * 50, None),
    ],
)
def test_stake_when_there_is_no_edge_then_the_smallest_order_is_due(returns, f):
    stake = record_of(returns).stake(PERP.symbol)
    assert stake.smallest
    assert stake.f == (None if f is None else pytest.approx(f))
    assert stake.fraction == 0.0


def test_stake_when_nothing_was_lost_then_the_odds_are_boundless_and_the_cap_holds():
    stake = record_of([0.01] * 50).stake(PERP.symbol)
    assert (stake.p, stake.b, stake.f, stake.fraction) == (1.0, None, 1.0, 0.015)


def test_stake_when_the_window_moves_on_then_old_trades_and_other_accounts_are_forgotten():
    record = record_of([-0.01] * 50)
    for n in range(50):
        record.fold(closed(-0.05, n, "live"))
        record.fold(closed((0.0104, -0.01)[n % 2], n, qty=n + 1))  # sizes do not matter
    assert record.stake(PERP.symbol).f == pytest.approx(1 / 52)


def test_daily_volatility_when_days_close_then_it_is_the_root_mean_square_of_their_returns():
    vol = DailyVolatility(2)
    seen = []
    for day, close in enumerate((100.0, 102.0, 100.0, 100.0, 104.0)):
        vol.add(daily(close, day))
        seen.append(vol.value)
    a, b = log(1.02), log(1.04)
    assert seen[:2] == [None, None]
    assert seen[2:] == pytest.approx([a, sqrt(a * a / 2), sqrt(b * b / 2)])


def test_daily_volatility_when_bars_are_short_then_the_last_one_of_a_day_closes_it():
    vol, short = DailyVolatility(20), DailyVolatility(20)
    for day, close in enumerate((100.0, 102.0, 100.0, 103.0)):
        vol.add(daily(close, day))
        first = (DAY + day) * DAY_MS
        for part in range(4):  # 23:00 and 24:00 included
            price = close if part == 3 else 90.0
            bar = Bar(PERP.symbol, "6h", first + part * DAY_MS // 4, 1.0, 1.0, 1.0, price, 1.0)
            short.add(bar)
    assert short.value == pytest.approx(vol.value)
    assert vol.value is not None


def test_daily_volatility_when_the_last_bar_of_a_day_is_missing_then_the_one_before_closes_it():
    vol = DailyVolatility(20)
    closes = {0: (100.0, 100.0), 1: (90.0, 102.0), 2: (90.0, 100.0), 3: (1.0, 1.0)}
    for day, pair in closes.items():
        for part, close in zip((0, 3), pair, strict=True):
            if (day, part) != (1, 3):
                at = (DAY + day) * DAY_MS + part * DAY_MS // 4
                vol.add(Bar(PERP.symbol, "6h", at, 1.0, 1.0, 1.0, close, 1.0))
            if (day, part) == (2, 3):
                assert vol.value == pytest.approx(
                    sqrt((log(90 / 100) ** 2 + log(100 / 90) ** 2) / 2)
                )


def test_daily_volatility_when_a_day_is_missing_then_no_return_spans_it():
    vol = DailyVolatility(20)
    for day in (0, 1, 3, 4):
        vol.add(daily(100.0 * 1.5**day, day))
    assert vol.value == pytest.approx(log(1.5))  # 0→1 and 3→4, never 1→3


def test_stake_when_the_market_is_wild_then_less_is_risked():
    record = record_of([0.0104, -0.01] * 25)
    for day, close in enumerate((100.0, 104.0, 100.0, 104.0)):
        record.fold(daily(close, day))
    stake = record.stake(PERP.symbol)
    assert stake.vol == pytest.approx(log(1.04))
    assert stake.vol_factor == pytest.approx(0.02 / log(1.04))
    assert stake.fraction == pytest.approx(0.25 / 52 * 0.02 / log(1.04))


def test_stake_when_the_market_is_calm_or_unknown_then_nothing_is_taken_off():
    record = record_of([0.0104, -0.01] * 25)
    record.fold(daily(100.0, 0))
    record.fold(daily(101.0, 1))
    assert (record.stake(PERP.symbol).vol, record.stake(PERP.symbol).vol_factor) == (None, 1.0)
    record.fold(daily(100.0, 2))
    assert record.stake(PERP.symbol).vol_factor == 1.0
    assert record.stake("ETH/USDT").vol is None


@pytest.mark.parametrize(
    ("stake", "notional"),
    [
        (Stake(0.0025), "1000"),  # 25 USDT over 1 % is 2 500, clipped
        (Stake(0.0006), "600"),
        (Stake(0.0, smallest=True, trades=50, p=0.5), "100"),
        (Stake(1e-6, trades=50, p=0.5, f=4e-6), "100"),  # too small for the venue
    ],
)
def test_size_when_by_kelly_then_the_stake_sets_the_notional(stake, notional):
    stop = Decimal(49_500)
    sized = size(SizingSettings(), Decimal(10_000), PRICE, stop, PERP, stake=stake)
    assert (sized.notional, sized.reason) == (Decimal(notional), None)
    assert sized.smallest is (notional == "100")


def test_size_when_the_fixed_risk_is_too_small_then_it_is_refused_and_not_raised():
    sized = size(SizingSettings(), Decimal(100), PRICE, None, PERP, stake=Stake(0.0025))
    assert (sized.reason, sized.smallest) == (Reason.BELOW_MIN_NOTIONAL, False)


@pytest.mark.parametrize(
    ("factor", "cap", "most", "qty"),
    [
        (0.25, None, 1_000, "0.002"),  # the smallest cannot shrink
        (0.0, None, 1_000, "0"),
        (1.0, 0.0001, 1_000, "0.002"),  # 1 USDT over 1 % is just 100
        (1.0, 0.00009, 1_000, "0"),
        (1.0, None, 99, "0"),
    ],
)
def test_size_when_it_is_the_smallest_then_every_other_limit_holds(factor, cap, most, qty):
    stake = Stake(0.0, smallest=True, trades=50, p=0.5)
    settings = SizingSettings(max_notional=most)
    stop = Decimal(49_500)
    sized = size(settings, Decimal(10_000), PRICE, stop, PERP, factor, cap, stake)
    assert sized.qty == Decimal(qty)


@pytest.mark.parametrize("mode", ["kelly", "risk"])
def test_size_when_the_stop_is_far_then_no_more_than_the_cap_is_lost(mode):
    settings = SizingSettings(
        mode, risk_fraction=0.5, max_notional=100_000, kelly=KellySettings(max_risk=0.01)
    )
    sized = size(settings, Decimal(10_000), PRICE, Decimal(40_000), PERP)
    assert sized.qty == Decimal("0.01")  # 100 USDT over 10 000


def losing(bars, kelly):
    """LONG at every seventh bar of a market that stands still: each trade loses its costs."""
    ledger = MemoryLedger()
    sizing = SizingSettings(kelly=kelly)
    loop = loop_over(ledger, Script(dict.fromkeys(range(0, bars, 7), "LONG")), sizing=sizing)
    return ledger, play(loop, [flat(n) for n in range(bars)])


def test_loop_when_the_last_trades_have_no_edge_then_the_smallest_orders_follow_with_a_reason():
    ledger, decisions = losing(40, KellySettings(window=3))
    entries = [decision for decision in decisions if decision.action.sign]
    assert [decision.reasons for decision in entries] == [(), (), ()] + [("kelly_floor",)] * 3
    assert entries[3].inputs["kelly"]["p"] == 0.0
    assert entries[3].inputs["kelly"]["trades"] == 3
    quantities = [fill.qty for _, fill in ledger.records(Fill) if fill.intent == "entry"]
    assert quantities == [Decimal("0.020")] * 3 + [Decimal("0.002")] * 3
    assert not list(ledger.records(Refusal))


def test_loop_when_kelly_is_off_then_nothing_of_it_is_written():
    ledger = MemoryLedger()
    loop = loop_over(ledger, Script({0: "LONG"}), sizing=SizingSettings("risk"))
    (decision,) = play(loop, [flat(0)])
    assert "kelly" not in decision.inputs
    assert loop.stakes()[PERP.symbol] == Stake(0.0025)


def test_resume_when_trades_and_days_are_folded_again_then_the_stake_is_the_same():
    ledger, _ = losing(60, KellySettings(window=3))
    for day in range(3):
        ledger.append([daily(100.0 * 1.1 ** (day % 2), day + 1)])
    loops = []
    for _ in range(2):
        sizing = SizingSettings(kelly=KellySettings(window=3))
        loop = loop_over(ledger, Script({}), sizing=replace(sizing))
        loop.resume()
        loops.append(loop)
    assert loops[0].stakes() == loops[1].stakes()
    assert loops[0].stakes()[PERP.symbol].vol is not None
