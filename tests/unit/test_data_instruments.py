from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.instruments import instrument_for
from domain.errors import UsageError

D = Decimal


def test_instrument_for_when_btc_perpetual_then_the_documented_filters_and_fees():
    btc = instrument_for("BTC/USDT:USDT")
    assert (btc.tick, btc.step, btc.min_qty, btc.max_qty) == (D("0.10"), D(".001"), D(".001"), 1000)
    assert (btc.min_notional, btc.taker_bps, btc.maker_bps) == (100, 5.0, 2.0)
    assert btc.market == "perp"


def test_instrument_for_when_btc_spot_then_the_documented_filters_and_fees():
    btc = instrument_for("BTCUSDT")
    assert (btc.symbol, btc.tick, btc.step) == ("BTC/USDT", D("0.01"), D("0.00001"))
    assert (btc.min_notional, btc.taker_bps, btc.maker_bps) == (5, 10.0, 10.0)


@pytest.mark.parametrize("market", ["", ":USDT"])
@pytest.mark.parametrize("base", ["ADA", "BNB", "DOGE", "ETH", "LTC", "SOL", "XRP"])
def test_instrument_for_when_a_sample_pair_then_the_smallest_order_is_affordable(base, market):
    found = instrument_for(f"{base}/USDT{market}")
    assert 0 < found.step == found.min_qty < found.max_qty
    assert found.tick < 1


@given(st.floats(1e-6, 1e6))
def test_instrument_for_when_unknown_with_a_price_then_filters_fit_that_price(price):
    found = instrument_for("NEWCOIN/USDT", price)
    assert 1e-6 * 0.99 <= float(found.tick) / price <= 1e-5 * 1.01
    assert float(found.step) * price <= 1.0 * 1.01
    assert float(found.step) * price >= 0.1 * 0.99


def test_instrument_for_when_unknown_without_a_price_then_generic_filters():
    assert instrument_for("NEWCOIN/USDT").tick == D("0.0001")
    assert instrument_for("BTC/EUR").tick == D("0.0001")  # the table is against USDT
    with pytest.raises(UsageError, match="positive"):
        instrument_for("NEWCOIN/USDT", 0.0)
