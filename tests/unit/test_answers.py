import asyncio

import pytest

from domain.errors import LedgerError
from serving.answers import Answers
from storage.engine import open_database, sqlite_url
from storage.inbox import Inbox
from storage.migrate import upgrade


@pytest.fixture
def inbox(tmp_path):
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    yield Inbox(engine, "demo")
    engine.dispose()


class Counted:
    """An inbox that counts how often it is looked into."""

    def __init__(self, inbox):
        self.inbox, self.looks = inbox, 0

    def results(self, numbers):
        self.looks += 1
        return self.inbox.results(numbers)


def test_answers_when_many_wait_then_each_gets_its_own_from_one_look(inbox):
    numbers = [inbox.put("signal", {"n": n}) for n in range(50)]
    counted = Counted(inbox)

    async def run():
        answers = Answers(counted)
        waiting = [asyncio.create_task(answers.wait(number, 5.0)) for number in numbers]
        await asyncio.sleep(0.1)
        for number in reversed(numbers):
            inbox.answer(number, {"to": number})
        return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == [{"to": number} for number in numbers]
    assert counted.looks < 5 * len(numbers)


def test_answers_when_none_comes_in_time_then_none_and_a_later_call_still_gets_it(inbox):
    number = inbox.put("signal", {})

    async def run():
        answers = Answers(inbox)
        first = await answers.wait(number, 0.05)
        inbox.answer(number, {"late": True})
        return first, await answers.wait(number, 5.0)

    assert asyncio.run(run()) == (None, {"late": True})


def test_answers_when_one_caller_leaves_then_the_others_are_served(inbox):
    gone, stays = inbox.put("signal", {"n": 1}), inbox.put("signal", {"n": 2})

    async def run():
        answers = Answers(inbox)
        leaving = asyncio.create_task(answers.wait(gone, 5.0))
        staying = asyncio.create_task(answers.wait(stays, 5.0))
        await asyncio.sleep(0.03)
        leaving.cancel()
        inbox.answer(gone, {"n": 1})
        inbox.answer(stays, {"n": 2})
        return await staying

    assert asyncio.run(run()) == {"n": 2}


def test_answers_when_the_database_fails_then_all_who_wait_hear_it_and_the_next_may_try(inbox):
    number = inbox.put("signal", {})

    class Failing:
        broken = True

        def results(self, numbers):
            if self.broken:
                raise LedgerError("database", "is away")
            return inbox.results(numbers)

    async def run():
        failing = Failing()
        answers = Answers(failing)
        heard = await asyncio.gather(
            answers.wait(number, 5.0), answers.wait(number + 1, 5.0), return_exceptions=True
        )
        failing.broken = False
        inbox.answer(number, {"well": True})
        return heard, await answers.wait(number, 5.0)

    heard, after = asyncio.run(run())
    assert [type(error) for error in heard] == [LedgerError, LedgerError]
    assert after == {"well": True}
