"""Positions of perpetuals: money is what was paid, and nothing is lost in a rounding."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from sim.venue.wallets import Held

TRADES = st.lists(
    st.tuples(st.sampled_from([-1, 1]), st.integers(1, 5_000), st.integers(1, 2_000_000)),
    min_size=1, max_size=40,
)  # fmt: skip


@given(TRADES, st.integers(1, 2_000_000))
def test_profit_and_worth_are_what_came_in_less_what_went_out(
    trades: list[tuple[int, int, int]], last: int
) -> None:
    held, paid, realised, mark = Held(), Decimal(0), Decimal(0), Decimal(last) / 10
    for sign, lots, ticks in trades:
        qty, price = Decimal(lots) / 1_000, Decimal(ticks) / 10
        realised += held.trade(sign, qty, price)
        paid += sign * qty * price
    assert held.qty == sum(sign * Decimal(lots) / 1_000 for sign, lots, _ in trades)
    assert held.realised == realised
    assert realised + held.worth(mark) == mark * held.qty - paid
    if not held.qty:
        assert held.cost == 0
        assert realised == -paid


def test_a_position_that_turns_starts_anew_at_the_price_it_turned_at() -> None:
    held = Held()
    assert held.trade(1, Decimal(2), Decimal(100)) == 0
    assert held.trade(1, Decimal(2), Decimal(110)) == 0
    assert held.entry == 105
    assert held.closable(-1) == 4
    assert held.closable(1) == 0
    assert held.trade(-1, Decimal(6), Decimal(120)) == 60
    assert (held.qty, held.entry) == (-2, 120)
    assert held.worth(Decimal(115)) == 10
