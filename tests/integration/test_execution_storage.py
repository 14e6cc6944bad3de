"""The loop over a real database: crash at every append, resume from the file."""

import pytest

from domain.trading import Fill
from execution.rows import in_order
from execution.strategies import EmaCross
from storage.engine import open_database, sqlite_url
from storage.ledger import SqlLedger
from storage.memory import MemoryLedger
from storage.migrate import upgrade
from tests.execution_scenes import loop_over, play, states_of, walk


@pytest.fixture
def ledger(tmp_path):
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    yield SqlLedger(engine, "test")
    engine.dispose()


@pytest.mark.long
def test_resume_when_from_a_database_at_every_append_then_it_is_as_if_never_stopped(ledger):
    states = states_of(list(walk(60).bars()))
    for state in states:
        for half in ("absorb", "decide"):
            loop = loop_over(ledger, EmaCross(3, 5))
            loop.resume()
            if half == "absorb":
                loop.absorb(state.bars.bar(-1))
            else:
                loop.decide(state, [], {}, state.as_of)
    calm = MemoryLedger()
    through = loop_over(calm, EmaCross(3, 5))
    play(through, list(walk(60).bars()))
    assert list(in_order(ledger)) == list(in_order(calm))
    assert len(list(ledger.records(Fill))) > 5
    as_of = states[-1].as_of
    assert loop.portfolio(as_of) == through.portfolio(as_of)
    assert ledger.verify().ok
