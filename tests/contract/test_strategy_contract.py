"""Every strategy that decides from bars keeps the same laws, and the checker notices one that does
not."""

from dataclasses import replace

import pytest

from domain.decision import Action
from domain.errors import CheckFailed
from execution.checks import check_strategy
from execution.strategies import EmaCross, MeanReversion
from sim.backtest import plain_states
from tests.execution_scenes import walk

STATES = list(plain_states(walk(400)))


@pytest.mark.parametrize("kind", [EmaCross, MeanReversion])
def test_strategy_when_checked_then_it_keeps_every_law(kind):
    check_strategy(kind, STATES)


class Remembering(MeanReversion):
    """Decides by what it has seen rather than by its state."""

    seen = 0

    def generate_signal(self, prepared, now):
        self.seen += 1
        made = super().generate_signal(prepared, now)
        return replace(made, reason=f"{self.seen}")


class Backwards(MeanReversion):
    """Puts its stop where its target belongs."""

    def generate_signal(self, prepared, now):
        made = super().generate_signal(prepared, now)
        return replace(made, stop=made.target, target=made.stop)


class Silent(EmaCross):
    """Never takes a side."""

    def generate_signal(self, prepared, now):
        made = super().generate_signal(prepared, now)
        none = Action.NO_TRADE
        return replace(made, intent=none, action=none, reasons=("below_threshold",))


@pytest.mark.parametrize(
    ("kind", "law"), [(Remembering, "restart"), (Backwards, "stop"), (Silent, "takes a side")]
)
def test_checker_when_a_law_is_broken_then_it_names_it(kind, law):
    with pytest.raises(CheckFailed, match=law):
        check_strategy(kind, STATES)
