"""What is said of a live broker whose exchange is silent, or whose stream is not heard."""

from __future__ import annotations

from domain.canonical import plain
from execution.adapters.breaker import Breaker
from execution.adapters.user_stream import StreamHealth
from serving.broker_health import BrokerHealth
from serving.broker_words import broker_line, broker_problems
from serving.desk import Progress
from serving.replies.system import BrokerView


def test_progress_when_orders_go_to_an_exchange_then_it_tells_what_came_of_asking_it() -> None:
    breaker, stream = Breaker(), StreamHealth()
    progress = Progress(7, broker=BrokerHealth(breaker.health, stream))
    assert broker_problems(plain(progress)["broker"]) == []
    assert "stream is heard" in broker_line(plain(progress)["broker"])
    for now in (0.0, 5.0):
        breaker.in_vain(now, "timed out")
    stream.problem = "no listen key"
    told = plain(progress)
    assert told["pid"] == 7
    silent, unheard = broker_problems(told["broker"])
    assert "nothing is entered: timed out" in silent
    assert "fills are asked for: no listen key" in unheard
    assert BrokerView(**told["broker"]).venue.in_vain == 2
    assert "exchange: The exchange does not answer" in broker_line(told["broker"])


def test_words_when_the_exchange_asked_to_be_left_alone_then_it_is_not_called_silent() -> None:
    breaker = Breaker()
    breaker.rest(0.0, 90.0, "418 banned")
    told = plain(Progress(7, broker=BrokerHealth(breaker.health, StreamHealth())))["broker"]
    assert broker_problems(told) == [
        "The exchange asked to be left alone, nothing is entered: 418 banned"
    ]


def test_progress_when_orders_are_filled_on_paper_then_it_tells_of_no_broker() -> None:
    assert plain(Progress(7))["broker"] is None
