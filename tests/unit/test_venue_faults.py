"""Faults as they are written down: what is taken, what is refused, what a seed draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from domain.errors import UsageError
from serving.venue_faults import read_schedule
from sim.venue.faults.damage import broken, doubled, fill_symbol, restamped
from sim.venue.faults.kinds import BROKEN, KINDS, Number
from sim.venue.faults.model import Subject, Target, fault_of
from sim.venue.faults.running import Faults
from sim.venue.faults.schedule import Random, Schedule, schedule_of

EVERY = Random(60.0, 20.0, 7, tuple(KINDS))


def faults(now: list[int], *bodies: dict[str, Any], random: Random | None = None) -> Faults:
    found = tuple(fault_of(body, "fault") for body in bodies)
    return Faults(lambda: now[0], lambda: 60 * now[0], Schedule(7, found, random))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_asked_for_by_its_name_alone(name: str) -> None:
    fault = fault_of({"fault": name}, "fault")
    assert set(fault.values) == set(KINDS[name].parameters)
    assert fault_of(fault.told(), "fault") == fault


@pytest.mark.parametrize("name", KINDS)
def test_every_number_is_taken_at_its_ends_and_refused_beyond(name: str) -> None:
    for parameter, rule in KINDS[name].parameters.items():
        if isinstance(rule, Number):
            for value in (rule.low, rule.high, rule.usual, *rule.also, *rule.drawn):
                assert fault_of({"fault": name, parameter: value}, "f").values[parameter] == value
            for value in (rule.low - 1, rule.high + 1, "many", None, True, float("nan")):
                if value not in rule.also:
                    with pytest.raises(UsageError, match=parameter):
                        fault_of({"fault": name, parameter: value}, "f")


@pytest.mark.parametrize(
    ("body", "where", "words"),
    [
        ("drop", "f", "must say which fault"), ({"share": 1}, "f", "must say which fault"),
        ({"fault": "disconect"}, "f.fault", 'Did you mean "disconnect"?'),
        ({"fault": "drop", "shares": 1}, "f.shares", 'Did you mean "share"?'),
        ({"fault": "drop", "code": 1_001}, "f.code", "is no such key"),
        ({"fault": "drop", "share": 0}, "f.share", "1e-06 to 1"),
        ({"fault": "drop", "for_s": 0}, "f.for_s", "0.001"),
        ({"fault": "drop", "from_s": -1}, "f.from_s", "from 0"),
        ({"fault": "drop", "times": 1.5}, "f.times", "whole number"),
        ({"fault": "drop", "clock": "marked"}, "f.clock", 'Did you mean "market"?'),
        ({"fault": "drop", "market": "future"}, "f.market", "spot, perp"),
        ({"fault": "drop", "streams": 3}, "f.streams", "pattern"),
        ({"fault": "disconnect", "for_s": 3}, "f.for_s", "lasts no time"),
        ({"fault": "disconnect", "code": 999}, "f.code", "1000 to 4999 or 0"),
        ({"fault": "halt", "share": 0.5}, "f.share", "all or none"),
        ({"fault": "no_answer", "effect": 1}, "f.effect", "true or false"),
        ({"fault": "unknown_status", "code": -1008}, "f.code", "-1007, -1006"),
    ],
)  # fmt: skip
def test_what_makes_no_fault_is_refused_in_words(body: Any, where: str, words: str) -> None:
    with pytest.raises(UsageError) as told:
        fault_of(body, "f")
    assert told.value.what == where
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "must hold seed, faults or random"), ("a: {", "readable as YAML"),
        ("fault: []", 'Did you mean "faults"?'), ("faults: drop", "must be a list"),
        ("faults: [{fault: drop}, {fault: drip}]", "faults[1].fault"),
        ("seed: -1", "f.yml.seed"), ("random: 60", "every_s"),
        ("random: {every_s: 0}", "random.every_s"),
        ("random: {classes: [streams]}", 'Did you mean "stream"?'),
        ("random: {classes: []}", "must be a list"), ("random: {longest: 1}", "longest_s"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "f.yml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"f\.yml") as told:
        read_schedule(path)
    assert words in str(told.value)


def test_a_file_may_say_little(tmp_path: Path) -> None:
    assert schedule_of(None, "f") == Schedule()
    found = schedule_of({"random": {"classes": ["order", "drop"], "every_s": 5}}, "f").random
    assert found is not None
    assert (found.every_s, found.longest_s) == (5.0, 5.0)
    orders = [kind.name for kind in KINDS.values() if kind.place == "order"]
    assert set(found.kinds) == {"drop", *orders}
    with pytest.raises(UsageError, match=r"none\.yml"):
        read_schedule(tmp_path / "none.yml")


def test_random_faults_follow_from_seed_and_number_and_are_valid() -> None:
    drawn = [EVERY.fault(n) for n in range(1, 600)]
    assert drawn == [EVERY.fault(n) for n in range(1, 600)]
    assert {fault.kind for fault in drawn} == set(KINDS)
    assert drawn != [Random(60.0, 20.0, 8, tuple(KINDS)).fault(n) for n in range(1, 600)]
    for n, fault in enumerate(drawn, 1):
        assert fault.from_s == 60.0 * n
        assert fault.for_s is not None
        assert fault.for_s <= 20.0
        assert fault_of(fault.told(), "f") == fault


def test_a_random_fault_comes_each_time_and_is_done_after_it() -> None:
    now = [0]
    found = faults(now, random=Random(60.0, 20.0, 7, tuple(KINDS)))
    for _ in range(61):
        found.look()
        now[0] += 10_000
    told = found.told()
    assert told["random"]["drawn"] == 10
    assert [each["fault"] for each in told["done"] + told["active"]] == [
        EVERY.fault(n).kind for n in range(1, 11)
    ]


def test_a_fault_is_at_work_in_its_time_as_often_as_it_may() -> None:
    now = [0]
    found = faults(now, {"fault": "drop", "from_s": 10, "for_s": 10, "times": 2},
                   {"fault": "error", "from_s": 600, "for_s": 60, "clock": "market"})  # fmt: skip
    subject = Subject("spot", "BTCUSDT", "btcusdt@trade", "GET /x")
    seen = []
    for now[0] in (9_999, 10_000, 15_000, 15_001, 20_000):
        found.look()
        seen.append((found.strike("drop", subject) is not None,
                     found.strike("error", subject) is not None))  # fmt: skip
    assert seen == [(False, False), (True, True), (True, False), (False, False), (False, False)]
    assert {each["fault"]: each["strikes"] for each in found.told()["done"]} == {
        "drop": 2, "error": 1,
    }  # fmt: skip


def test_draws_are_those_of_whoever_asks() -> None:
    def strikes(keys: str) -> dict[str, list[bool]]:
        found = faults([0], {"fault": "drop", "share": 0.4})
        seen: dict[str, list[bool]] = {key: [] for key in "ab"}
        for key in keys:
            seen[key].append(found.strike("drop", Subject(), key) is not None)
        return seen

    assert strikes("ab" * 50) == strikes("a" * 50 + "b" * 50)
    assert 8 < sum(strikes("a" * 50)["a"]) < 32
    assert strikes("a" * 50)["a"] != strikes("b" * 50)["b"]


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        (Target(), True), (Target(market="perp"), False), (Target(symbol="btc*"), True),
        (Target(symbol="ETH*"), False), (Target(streams="*@kline_*"), True),
        (Target(streams="*@trade"), False), (Target(paths="/api/*"), True),
        (Target(paths="GET *"), True), (Target(paths="POST /api/*"), False),
        (Target(account="main"), True), (Target(account="other"), False),
    ],
)  # fmt: skip
def test_targets_are_patterns(target: Target, meant: bool) -> None:
    subject = Subject("spot", "BTCUSDT", "btcusdt@kline_1m", "GET /api/v3/klines", "main")
    assert target.covers(subject) == meant


def test_broken_texts_are_broken_in_their_way() -> None:
    text = json.dumps({"e": "trade", "t": 5, "p": "1.5", "m": True})
    for what in BROKEN:
        found, how = broken(text, what, 1, lambda: 0.5)
        assert how == what
        assert found != text
    assert {broken(text, "any", 1, lambda at=at: at)[1] for at in (0.1, 0.3, 0.6, 0.9)} == set(
        BROKEN
    )


def test_stamps_move_and_bars_and_funding_do_not() -> None:
    kline = {"stream": "s", "data": {"e": "kline", "E": 5, "k": {"t": 0, "T": 9}}}
    mark = {"e": "markPriceUpdate", "E": 5, "T": 100}
    assert json.loads(restamped(json.dumps(kline), 3))["data"] == {**kline["data"], "E": 8}
    assert json.loads(restamped(json.dumps(mark), 3))["T"] == 100
    assert restamped("no JSON", 3) == "no JSON"
    assert json.loads(restamped('[[1, "2"]]', 3)) == [[1, "2"]]


def test_fills_are_known_and_rows_doubled() -> None:
    spot = {"e": "executionReport", "s": "BTCUSDT", "o": "LIMIT", "x": "TRADE"}
    assert fill_symbol(json.dumps(spot)) == "BTCUSDT"
    assert fill_symbol(json.dumps({"subscriptionId": 0, "event": spot})) == "BTCUSDT"
    assert fill_symbol(json.dumps({"e": "ORDER_TRADE_UPDATE", "o": {**spot, "x": "NEW"}})) == ""
    text, n = doubled('[{"id": 1}, {"id": 2}]', lambda row: row["id"] == 2)
    assert (json.loads(text), n) == ([{"id": 1}, {"id": 2}, {"id": 2}], 1)
