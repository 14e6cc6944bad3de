"""Every broker keeps the same laws, and the checker notices one that does not."""

from decimal import Decimal

import pytest

from domain.errors import CheckFailed
from domain.trading import OrderStatus
from execution import books
from execution.checks import check_broker
from execution.paper import PaperBroker
from tests.execution_scenes import PERP, SPOT


def funded(kind, instrument):
    broker = kind({instrument.symbol: instrument})
    PaperBroker.restore(broker, books.opening("paper", "USDT", Decimal(10_000), 0))
    return broker


@pytest.mark.parametrize("instrument", [PERP, SPOT], ids=["perp", "spot"])
def test_paper_broker_when_checked_then_it_keeps_every_law(instrument):
    check_broker(lambda: funded(PaperBroker, instrument), instrument, 50_000.0)


class Eager(PaperBroker):
    """Fills at the bar it has just seen."""

    def _ready(self, bar):
        return [order for order in self.open_orders() if order.type.value == "market"]


class Twice(PaperBroker):
    """Forgets which ids it knows."""

    def submit(self, order):
        self._seen.clear()
        return super().submit(order)


class Forgetful(PaperBroker):
    """Restores nothing."""

    def restore(self, records):
        del records


class Vague(PaperBroker):
    """Cannot tell an order it has done from one it never had."""

    def status(self, order_id):
        known = super().status(order_id)
        return OrderStatus.UNKNOWN if known is OrderStatus.DONE else known


@pytest.mark.parametrize(
    ("broker", "law"),
    [
        (Eager, "opened before"), (Twice, "never fills one id twice"), (Forgetful, "restores"),
        (Vague, "knows what it has done"),
    ],
)  # fmt: skip
def test_check_broker_when_a_law_is_broken_then_it_is_named(broker, law):
    with pytest.raises(CheckFailed, match=law):
        check_broker(lambda: funded(broker, PERP), PERP, 50_000.0)
