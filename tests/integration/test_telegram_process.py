"""The notifier as a process: killed in the middle, started again, told to leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from domain.times import iso
from domain.trading import Event
from serving.plan import RunPlan, load_plan
from serving.supervisor import Supervisor
from storage.engine import open_database, sqlite_url
from storage.events import EventLog
from storage.migrate import upgrade
from storage.outbox import SqlOutbox
from tests.bot_api import TOKEN, BotApi, Fault, serve

ROOT = Path(__file__).resolve().parents[2]
START = 1_735_689_600_000
WORLD = "demo-7"


@pytest.fixture
def api() -> Iterator[BotApi]:
    with serve(BotApi()) as running:
        yield running


class Scene:
    """A VAR_DIR with a plan and a ledger, and notifiers that work on it."""

    def __init__(self, folder: Path, api: BotApi, **settings: str) -> None:
        self.var, self.api, self.settings = folder, api, settings
        engine = open_database(sqlite_url(folder / "ledger.db"))
        upgrade(engine)
        self.log, self.outbox = EventLog(engine, WORLD), SqlOutbox(engine, WORLD)
        self.plan = RunPlan("demo", WORLD, "demo", 60.0, local=True, pid=1, warm_up_days=1).save(
            folder
        )
        self.started: list[subprocess.Popen[bytes]] = []

    def tell(self, numbers: range) -> None:
        events = [
            Event("risk", START + n * 1000, {"kind": "external", "why": f"number {n:04d}"})
            for n in numbers
        ]
        self.log.extend(events)

    def env(self) -> dict[str, str]:
        return {
            **os.environ, "VAR_DIR": str(self.var), "PYTHONPATH": str(ROOT),
            "TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_CHAT_ID": "42",
            "CONCLAVE_NOTIFY__TELEGRAM_API": self.api.url,
            "CONCLAVE_NOTIFY__TELEGRAM_PER_SECOND": "25",
            "CONCLAVE_NOTIFY__TELEGRAM_TIMEOUT_S": "60", **self.settings,
        }  # fmt: skip

    def notifier(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "serving.notifier_process", str(self.plan),
                   "--parent", str(os.getpid())]  # fmt: skip
        process = subprocess.Popen(command, env=self.env(), cwd=ROOT, stderr=subprocess.PIPE)
        self.started.append(process)
        return process

    def numbers(self) -> list[int]:
        texts = [text for text in self.api.texts() if "number " in text]
        return [int(text.split("number ")[1][:4]) for text in texts]


@pytest.fixture
def scene(tmp_path: Path, api: BotApi) -> Iterator[Scene]:
    scene = Scene(tmp_path, api)
    yield scene
    for process in scene.started:
        process.kill()
        process.wait(10)


@pytest.mark.long
def test_notifier_when_killed_before_the_answer_then_that_message_alone_comes_again_and_says_so(
    scene: Scene, api: BotApi
) -> None:
    first = scene.notifier()
    api.until(lambda: any("at work" in text for text in api.texts()), 60, "start")
    scene.tell(range(15))
    api.until(lambda: len(scene.numbers()) >= 15, 30, "some of them")
    api.faults.append(Fault("hang", times=1, taken=True))  # it arrives, the answer does not
    scene.tell(range(15, 40))
    api.until(lambda: not api.faults[0].times, 30, "message without an answer")
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    lost = scene.numbers()[-1]
    scene.notifier()
    api.until(lambda: scene.numbers()[-1:] == [39], 60, "rest")
    assert scene.numbers() == [*range(lost + 1), *range(lost, 40)]
    again = [text for text in api.texts() if "Sent again" in text]
    assert len(again) == 1
    assert f"number {lost:04d}" in again[0]
    assert sum("at work" in text for text in api.texts()) == 1  # the same run starts once


@pytest.mark.slow
def test_notifier_when_killed_between_messages_then_nothing_is_lost_or_out_of_order(
    scene: Scene, api: BotApi
) -> None:
    first = scene.notifier()
    api.until(lambda: any("at work" in text for text in api.texts()), 60, "start")
    scene.tell(range(60))
    api.until(lambda: len(scene.numbers()) >= 20, 30, "some of them")
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    scene.tell(range(60, 80))  # the desk goes on
    scene.notifier()
    api.until(lambda: scene.numbers()[-1:] == [79], 60, "rest")
    repeats = sum("Sent again" in text for text in api.texts())
    assert sorted(set(scene.numbers())) == list(range(80))
    assert scene.numbers() == sorted(scene.numbers())
    assert len(scene.numbers()) == 80 + repeats
    assert repeats <= 1


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_notifier_when_killed_in_an_outage_of_30_market_minutes_then_500_events_come_once_in_order(
    tmp_path: Path,
) -> None:
    """The market runs at ×100: its clock is the events' own time, the notifier's is the wall's."""
    api, speed, apart_ms = BotApi(), 100.0, 4_000
    events = [
        Event("risk", START + n * apart_ms, {"kind": "external", "why": f"number {n:04d}"})
        for n in range(500)
    ]
    with ExitStack() as up:
        down = up.enter_context(ExitStack())
        down.enter_context(serve(api))
        rate = {"CONCLAVE_NOTIFY__TELEGRAM_PER_SECOND": "30"}
        scene = Scene(tmp_path, api, **rate, CONCLAVE_NOTIFY__TELEGRAM_RETRY_MAX_S="2")
        up.callback(lambda: [process.kill() for process in scene.started])
        notifier = scene.notifier()
        api.until(lambda: any("at work" in text for text in api.texts()), 60, "start")
        scene.log.extend(events[:20])
        api.until(lambda: len(scene.numbers()) == 20, 60, "what came before")
        down.close()  # nobody listens any more
        began = time.monotonic()
        for n, event in enumerate(events[20:480]):
            time.sleep(max(0.0, began + n * apart_ms / 1000 / speed - time.monotonic()))
            scene.log.append(event)
            if n == 230:  # in the middle
                notifier.send_signal(signal.SIGKILL)
                notifier.wait(10)
                notifier = scene.notifier()
        assert len(scene.numbers()) == 20
        outage_ms = events[480].at - events[19].at
        assert outage_ms >= 30 * 60_000
        assert time.monotonic() - began >= 30 * 60 / speed
        assert notifier.poll() is None  # the second one is at work
        up.enter_context(serve(api, api.port))
        scene.log.extend(events[480:])
        api.until(lambda: len(scene.numbers()) >= 500, 150, "what waited")
        time.sleep(1.0)  # a repeat would come now
        told = [text for text in api.texts() if "number " in text]
        assert scene.numbers() == list(range(500))
        assert not any("Sent again" in text for text in told)
        assert all(iso(one.at)[11:16] in text for one, text in zip(events, told, strict=True))
        assert iso(events[20].at)[11:16] == "00:01"
        assert iso(events[479].at)[11:16] == "00:31"


@pytest.mark.long
def test_notifier_when_told_to_leave_then_it_says_goodbye_and_delivers_what_waits(
    scene: Scene, api: BotApi
) -> None:
    process = scene.notifier()
    api.until(lambda: any("at work" in text for text in api.texts()), 60, "start")
    scene.tell(range(10))
    process.terminate()
    assert process.wait(20) == 0
    assert scene.numbers() == list(range(10))
    assert "has stopped" in api.texts()[-1]
    assert scene.outbox.pending() == []


@pytest.mark.long
def test_notifier_when_a_second_one_is_started_then_only_one_of_them_sends(
    scene: Scene, api: BotApi
) -> None:
    scene.notifier()
    api.until(lambda: any("at work" in text for text in api.texts()), 60, "start")
    second = scene.notifier()
    written = scene.var / "logs" / "notifier.jsonl"
    api.until(lambda: "another_notifier_runs" in written.read_text(), 30, "second one")
    scene.tell(range(30))
    api.until(lambda: len(scene.numbers()) >= 30, 30, "all of them")
    second.terminate()
    assert second.wait(20) == 0
    assert scene.numbers() == list(range(30))


@pytest.mark.slow
def test_notifier_when_it_starts_again_then_no_command_is_answered_twice_and_none_is_lost(
    scene: Scene, api: BotApi
) -> None:
    first = scene.notifier()
    api.write("/version")
    api.until(lambda: _versions(api) == 1, 60, "answer")
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    with api._lock:  # as if Telegram had not heard that the first one was taken
        api._updates.insert(0, {"update_id": 1000, **_version_update()})
    api.write("/version")  # while nobody listens
    scene.notifier()
    api.until(lambda: _versions(api) == 2, 60, "second answer")
    time.sleep(1.0)
    assert _versions(api) == 2


def _versions(api: BotApi) -> int:
    return sum("python" in text and "models" in text for text in api.texts())


def _version_update() -> dict[str, object]:
    sender = {"id": 42, "is_bot": False, "first_name": "Ada"}
    return {"message": {"message_id": 1, "date": 1_700_000_000, "chat": {"id": 42, "type":
            "private"}, "from": sender, "text": "/version"}}  # fmt: skip


@pytest.mark.long
def test_notifier_when_the_settings_are_refused_then_it_ends_as_a_usage_error(
    tmp_path: Path, api: BotApi
) -> None:
    scene = Scene(tmp_path, api, CONCLAVE_NOTIFY__TELL_FILL="loud")
    process = scene.notifier()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert b"notify.tell_fill" in told
    assert api.calls == []


@pytest.mark.slow
def test_supervisor_when_the_notifier_dies_then_it_is_restarted_and_the_desk_goes_on(
    scene: Scene, api: BotApi
) -> None:
    said: list[str] = []
    env = {**scene.env(), "CONCLAVE_MODELS__AGENTS": "climatology,technical"}
    plan = load_plan(scene.plan)
    supervisor = Supervisor(plan, scene.plan, scene.var / "logs", env, said.append, notifies=True)
    running = threading.Thread(target=supervisor.run, args=(lambda: None,))
    running.start()
    try:
        api.until(lambda: any("at work" in text for text in api.texts()), 60, "start")
        first = supervisor.notifier.process
        assert first is not None
        first.kill()
        api.until(lambda: supervisor.notifier.process is not first, 30, "restart")
        assert "notifier ended with -9" in said[0]
        scene.tell(range(5))
        api.until(lambda: scene.numbers() == list(range(5)), 60, "messages after the restart")
        assert supervisor.desk.running
    finally:
        supervisor.leave.set()
        running.join(60)
    assert "has stopped" in api.texts()[-1]


@pytest.mark.long
def test_supervisor_when_the_notifier_is_refused_then_it_says_so_once_and_the_desk_goes_on(
    scene: Scene, api: BotApi
) -> None:
    said: list[str] = []
    env = {**scene.env(), "CONCLAVE_MODELS__AGENTS": "climatology,technical"}
    supervisor = Supervisor(
        load_plan(scene.plan), scene.plan, scene.var / "logs", env, said.append, notifies=True
    )
    supervisor.notifier.module = "serving.cli"  # knows no such flags: ends as a usage error
    running = threading.Thread(target=supervisor.run, args=(lambda: None,))
    running.start()
    try:
        api.until(lambda: supervisor.notifier.gave_up, 60, "end")
        assert said == [f"no messages: notifier ended with 2; see {supervisor.notifier.log}"]
        api.until(lambda: supervisor.desk.running, 30, "desk")
    finally:
        supervisor.leave.set()
        running.join(60)
    assert len(said) == 1
