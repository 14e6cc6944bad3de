"""Exits that an exchange did not take at once: the position closes all the same."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.trading import Refusal
from tests.live_acts import TOO_MANY, held_long, refusing
from tests.live_scenes import PERP


def test_horizon_exit_when_its_request_was_lost_then_it_is_sent_again() -> None:
    with held_long() as made:
        state = made.absorb()
        made.fall_silent()
        made.decide(state)  # quote and order both wait in vain
        made.answer_again()
        made.play(4)
        made.closed()


def test_kill_when_its_request_was_lost_then_it_closes_all_the_same() -> None:
    with held_long() as made:
        made.fall_silent()
        made.loop.kill("me", "enough", made.here.at)
        made.answer_again()
        made.play(4)
        made.closed()
        assert made.exits() == ["kill"]


@pytest.mark.parametrize("kill", [True, False])
def test_exit_that_was_kept_when_the_process_begins_again_then_it_is_sent(kill: bool) -> None:
    with held_long() as made:
        state = made.absorb()
        made.fall_silent(left_alone=True)
        if kill:
            made.loop.kill("me", "enough", made.here.at)
        made.decide(state)
        assert made.loop.unsent() == made.broker.open_orders() != []
        made.answer_again()
        made.begin()
        made.play(4)
        made.closed()
        assert made.exits() == ["kill" if kill else "horizon"]


TOO_LATE = refusing(400, -1021, "Timestamp for this request is outside of the recvWindow.")
HALTED = refusing(400, -1013, "Market is closed.")
TOO_FAR = refusing(400, -4131, "The counterparty's best price does not meet the PERCENT_PRICE.")


def test_exit_that_is_kept_when_the_exchange_is_silent_then_it_is_told_until_it_has_left() -> None:
    with held_long() as made:
        state = made.absorb()
        made.fall_silent(left_alone=True)
        with capture_logs() as logs:
            made.decide(state)
        [order] = made.loop.unsent()
        assert [line["order"] for line in logs if line["event"] == "not_sent"] == [order.id]
        [kept] = made.events("in_flight")
        assert (kept.level, kept.subject) == ("warning", f"{order.id} kept")
        made.play(1)
        assert made.loop.unsent() == [order]
        assert made.loop.shutdown(made.here.at) == []  # it is on its way already
        made.answer_again()
        made.play(1)  # it leaves
        assert made.loop.unsent() == []
        made.play(1)
        made.closed()
        assert [event.level for event in made.events("in_flight")] == ["warning", "info"]


@pytest.mark.parametrize("refusal", [TOO_MANY, TOO_LATE, HALTED, TOO_FAR])
@pytest.mark.parametrize("bars", [0, 2])
def test_kill_when_it_is_refused_then_it_is_told_and_closes_all_the_same(
    refusal: Any, bars: int
) -> None:
    with held_long() as made:
        straight = made.here.accounts.passage
        made.here.accounts.passage = refusal
        made.loop.kill("me", "enough", made.here.at)
        assert [order.intent for order in made.loop.unsent()] == ["kill"]
        made.play(bars)
        assert made.held
        made.here.accounts.passage = straight
        made.play(3)
        made.closed()
        assert made.exits() == ["kill"]
        assert made.exits(Refusal) == ["kill"]  # however often it was


@pytest.mark.parametrize("kept", [True, False])
def test_exit_that_was_refused_and_sent_again_when_the_process_begins_again_then_it_is_ours(
    kept: bool,
) -> None:
    with held_long() as made:
        state = made.absorb()
        straight = made.here.accounts.passage
        if kept:
            made.fall_silent(left_alone=True)
            made.decide(state)
            made.answer_again()
            made.here.accounts.passage = TOO_MANY
            made.play(1)
        else:
            made.here.accounts.passage = TOO_MANY
            made.decide(state)
        made.play(1)  # what is refused now is told with the next bar
        assert made.exits(Refusal)
        made.here.accounts.passage = straight
        made.play(1)  # it is sent, and fills
        assert not made.held
        made.begin()  # before any bar tells of that
        made.play(3)
        made.closed()


def test_difference_when_the_exchange_falls_silent_then_nothing_is_said_to_agree_again() -> None:
    with held_long() as made:
        made.here.client().create_order(PERP, "market", "buy", 0.003)  # by somebody else
        made.play(1)
        assert [event.level for event in made.events("reconciliation")] == ["error"]
        made.fall_silent()
        made.play(2)
        assert [event.level for event in made.events("reconciliation")] == ["error"]
