"""Gone at every boundary of every step, resumed from the ledger: nobody can tell."""

from collections import Counter

import pytest

from domain.trading import ClosedTrade, Fill, ModeChange, Order, Posting, Refusal
from storage.memory import MemoryLedger
from tests.crash_scenes import PICKY, Boundaries, Gone, Scene, exercised_bars

BARS = 36
SCENES = {
    "exercise": Scene(exercised_bars(BARS)),
    "a venue that refuses": Scene(exercised_bars(BARS), PICKY),
}


def calm(scene):
    ledger, boundaries = MemoryLedger(), Boundaries()
    loop = scene.loop(ledger, boundaries)
    scene.go_on(loop)
    return ledger, loop, boundaries.seen


def crashed(scene, fatal):
    """One process that is gone at boundary number ``fatal``, and another that carries on."""
    ledger = MemoryLedger()
    left = iter(range(fatal, -1, -1))

    def at(name):
        if next(left) == 0:
            raise Gone(name)

    with pytest.raises(Gone):
        scene.go_on(scene.loop(ledger, Boundaries(at)))
    loop = scene.loop(ledger, Boundaries())
    loop.resume()
    scene.go_on(loop)
    return ledger, loop


def until_done(scene, ledger, at):
    """Processes that come and go until one reaches the end."""
    while True:
        loop = scene.loop(ledger, Boundaries(at))
        try:
            loop.resume()  # which may write down what a crash kept from the ledger
            scene.go_on(loop)
        except Gone:
            continue
        return loop


@pytest.mark.long
@pytest.mark.parametrize("name", SCENES)
def test_resume_when_gone_at_any_boundary_then_ledger_position_and_equity_are_the_same(name):
    scene = SCENES[name]
    ledger, loop, boundaries = calm(scene)
    expected = scene.end(loop, ledger)
    for fatal, boundary in enumerate(boundaries):
        shaken, resumed = crashed(scene, fatal)
        assert scene.end(resumed, shaken) == expected, boundary
    assert len(boundaries) > 300


@pytest.mark.parametrize("name", SCENES)
def test_resume_when_gone_at_every_boundary_in_turn_then_it_is_as_if_never_stopped(name):
    scene = SCENES[name]
    ledger, loop, boundaries = calm(scene)
    expected, died, passes = scene.end(loop, ledger), set(), 0

    def at(boundary):
        if boundary not in died:
            died.add(boundary)
            raise Gone(boundary)

    while not died >= set(boundaries):  # who dies before an order is sent is not asked to send it
        broken = MemoryLedger()
        resumed = until_done(scene, broken, at)
        assert scene.end(resumed, broken) == expected
        passes += 1
    assert passes < 10


def test_scene_when_played_then_every_kind_of_step_occurs():
    ledger, _, boundaries = calm(SCENES["exercise"])
    intents = Counter(order.intent for _, order in ledger.records(Order))
    parts = Counter(fill.order_id for _, fill in ledger.records(Fill))
    assert {"entry", "opposite", "kill"} <= set(intents)
    assert max(parts.values()) > 1  # a partial fill
    assert {refusal.code for _, refusal in ledger.records(Refusal)} >= {"unfilled", "killed"}
    assert [change.mode for _, change in ledger.records(ModeChange)] == ["KILLED", "ACTIVE"]
    assert any(line.book == "funding" for _, line in ledger.records(Posting))
    assert {trade.side for _, trade in ledger.records(ClosedTrade)} == {"LONG", "SHORT"}
    assert {name.split()[1] for name in boundaries} == {
        "append", "submit", "cancel", "on_bar", "funding",
    }  # fmt: skip
    assert {len(boundaries) % 2, boundaries[0].split()[0]} == {0, "before"}
