"""The stream of an account's own events, when something fells it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import ccxt
import pytest

from data.sources.line import Patience
from domain.errors import DataRefused, ServiceUnreachable, SettingError
from execution import books
from execution.adapters.user_stream import UserStream
from tests.live_scenes import CASH, PERP, Stage, order_at, stage, wait_for

QUICK = Patience(silence=60.0, first_wait=0.05, longest_wait=0.1)


@pytest.fixture
def here() -> Iterator[Stage]:
    with stage() as made:
        yield made


def listener(here: Stage) -> UserStream:
    made = here.stream()
    return UserStream(made._gateway, made._address, QUICK)


@pytest.mark.parametrize(
    "error",
    [
        ccxt.NotSupported("binance listenKey is not supported"),
        SettingError("SYMBOLS", "must be traded", "DOGE"),
        ServiceUnreachable("binance", "did not answer"),
        RecursionError("maximum recursion depth exceeded"),
    ],
)
def test_stream_when_something_fells_it_then_it_is_told_and_begins_anew(
    here: Stage, error: Exception
) -> None:
    stream = listener(here)
    left, straight = [error, error], stream._gateway.listen_key

    def listen_key() -> str:
        if left:
            raise left.pop()
        return straight()

    stream._gateway.listen_key = listen_key  # type: ignore[method-assign]
    stream.start()
    try:
        wait_for(lambda: here.accounts.users.listening("perp", "main") == 1)
        wait_for(lambda: not stream.health.problem)
        assert stream.health.falls == 2
        here.client().create_order(PERP, "market", "buy", 0.01)
        wait_for(lambda: [trade.qty for trade in stream.news()] == [Decimal("0.01")])
    finally:
        stream.stop()
    assert stream.health.problem == "it was stopped"


def test_stream_when_it_cannot_be_had_then_it_says_so_and_asking_carries_on(here: Stage) -> None:
    def never() -> str:
        raise ccxt.NotSupported("binance has no listen keys any more")

    stream = listener(here)
    stream._gateway.listen_key = never  # type: ignore[method-assign]
    stream.start()
    try:
        wait_for(lambda: stream.health.falls >= 2)
        assert "no listen keys any more" in stream.health.problem
        broker = here.broker(news=stream)
        broker.restore(books.opening("live", "USDT", CASH, here.at))
        broker.on_bar(here.next_bar())
        broker.submit(order_at(here, "cv1"))
        assert [row.order_id for row in broker.on_bar(here.next_bar())] == ["cv1"]  # type: ignore[union-attr]
    finally:
        stream.stop()


def test_stream_when_a_message_nests_too_deep_then_it_is_garbage(here: Stage) -> None:
    with pytest.raises(DataRefused, match="events"):
        listener(here)._read("[" * 200_000)


def test_stream_when_it_was_not_started_then_it_says_so(here: Stage) -> None:
    assert listener(here).health.problem == "it does not run"
