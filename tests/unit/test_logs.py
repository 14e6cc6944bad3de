"""Logs: JSON lines with ids, a readable console, rotation, and no secrets anywhere."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.times import parse_iso
from serving.logs import Redactor, configure_logging, get_logger, log_context, start_logging
from serving.settings import load_settings

BOT = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsawx"


class StoppedClock:
    def now(self) -> int:
        return parse_iso("2025-06-01T12:00:00Z")


Configure = Callable[..., Path]


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Configure]:
    closers = []

    def start(**options: Any) -> Path:
        options = {"console": False, "clock": StoppedClock(), **options}
        closers.append(configure_logging(tmp_path / "logs", "desk", **options))
        return tmp_path / "logs" / "desk.jsonl"

    yield start
    for close in closers:
        close()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_logs_when_an_event_is_logged_then_it_is_one_json_line(configure: Configure) -> None:
    path = configure()

    get_logger("council").info("decided", symbol="BTC/USDT", p=0.5, qty=Decimal("0.10"))

    assert rows(path) == [
        {
            "ts": "2025-06-01T12:00:00Z", "process": "desk", "level": "info", "logger": "council",
            "event": "decided", "symbol": "BTC/USDT", "p": 0.5, "qty": "0.10",
        }
    ]  # fmt: skip


def test_logs_when_a_number_is_not_finite_then_it_is_null(configure: Configure) -> None:
    path = configure()

    get_logger("x").info("odd", values=[float("nan"), float("inf"), 1.0], folder=Path("a"))

    row = rows(path)[0]
    assert (row["values"], row["folder"]) == ([None, None, 1.0], "a")


def test_logs_when_text_has_newlines_then_it_stays_one_line(configure: Configure) -> None:
    path = configure()

    get_logger("x").info("two\nlines", more="a\r\nb\u2028c")

    assert path.read_bytes().count(b"\n") == 1


def test_logs_when_ids_are_bound_then_every_line_inside_carries_them(
    configure: Configure,
) -> None:
    path = configure()
    log = get_logger("x")

    with log_context(request_id="r1"):
        log.info("outer")
        with log_context(decision_id="d1"):
            logging.getLogger("some.library").warning("inner %d", 1)
    log.info("after")

    outer, inner, after = rows(path)
    assert outer["request_id"] == "r1"
    assert (inner["request_id"], inner["decision_id"]) == ("r1", "d1")
    assert (inner["event"], inner["logger"]) == ("inner 1", "some.library")
    assert "request_id" not in after


def test_logs_when_requests_run_at_the_same_time_then_their_ids_do_not_mix(
    configure: Configure,
) -> None:
    path = configure()
    log = get_logger("x")

    async def request(name: str) -> None:
        with log_context(request_id=name):
            await asyncio.sleep(0)
            log.info("answered", expected=name)

    async def both() -> None:
        await asyncio.gather(request("a"), request("b"))

    asyncio.run(both())

    assert [row["request_id"] for row in rows(path)] == [row["expected"] for row in rows(path)]


def test_logs_when_the_level_is_warning_then_less_is_left_out(configure: Configure) -> None:
    path = configure(level="warning")

    get_logger("x").info("quiet")
    get_logger("x").warning("loud")

    assert [row["event"] for row in rows(path)] == ["loud"]


def test_logs_when_an_exception_is_logged_then_its_traceback_is_in_the_line(
    configure: Configure,
) -> None:
    path = configure(secrets=["hunter22"])
    hidden = "hunter22"

    try:
        raise ValueError(f"cannot log in with {hidden}")
    except ValueError:
        get_logger("x").exception("failed")

    assert "ValueError: cannot log in with ***" in rows(path)[0]["exception"]


def test_logs_when_python_warns_then_it_is_logged(configure: Configure) -> None:
    path = configure()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old function", UserWarning, stacklevel=1)

    assert "old function" in rows(path)[0]["event"]


def test_logs_when_the_console_is_on_then_a_person_can_read_it(configure: Configure) -> None:
    console = io.StringIO()
    path = configure(console=console)

    with log_context(decision_id="d1"):
        get_logger("x").warning("no_trade", reason="below_cost")

    assert "no_trade" in console.getvalue()
    assert "reason=below_cost" in console.getvalue()
    assert "decision_id=d1" in console.getvalue()
    assert not console.getvalue().startswith("{")
    assert len(rows(path)) == 1


def test_logs_when_the_console_is_collected_then_it_gets_the_files_lines(
    configure: Configure,
) -> None:
    console = io.StringIO()
    path = configure(console=console, console_json=True)

    get_logger("x").warning("no_trade", reason="below_cost")

    assert console.getvalue() == path.read_text(encoding="utf-8")


def test_logs_when_a_file_is_full_then_it_is_rotated(configure: Configure) -> None:
    path = configure(max_mb=0.001, backups=2)

    for i in range(60):
        get_logger("x").info("event", i=i)

    files = sorted(file.name for file in path.parent.iterdir())
    assert files == ["desk.jsonl", "desk.jsonl.1", "desk.jsonl.2"]
    assert all(file.stat().st_size <= 1049 for file in path.parent.iterdir())
    assert rows(path)[-1]["i"] == 59


def test_logs_when_configured_twice_then_lines_are_not_doubled(configure: Configure) -> None:
    configure()
    path = configure()

    get_logger("x").info("once")

    assert len(rows(path)) == 1


def test_logs_when_the_folder_cannot_be_made_then_the_console_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    console = io.StringIO()

    close = configure_logging(tmp_path / "file" / "logs", "desk", console=console)
    get_logger("x").info("goes_on")
    close()

    assert "logs_dir_not_writable" in console.getvalue()
    assert "goes_on" in console.getvalue()


def test_logs_when_a_line_cannot_be_written_then_its_content_is_not_printed(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configure(max_mb=0.0001)
    get_logger("x").info("first", password="s3cr3t")
    path.parent.rename(path.parent.with_name("gone"))

    get_logger("x").info("second", note="s3cr3t")

    assert "log line lost" in capsys.readouterr().err


def test_logs_when_closed_then_the_root_logger_is_as_before(tmp_path: Path) -> None:
    before = list(logging.getLogger().handlers)

    configure_logging(tmp_path, "desk", console=False)()

    assert logging.getLogger().handlers == before


# Secrets


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("note", "the token is hunter22!"),
        ("api_token", "anything-else"),
        ("Authorization", "Bearer anything-else"),
        ("headers", {"authorization": "Bearer anything-else", "x": ["hunter22"]}),
        ("url", "postgresql://me:anything-else@host/db"),
        ("text", 'curl -H "Authorization: Bearer anything-else"'),
        ("call", f"https://api.telegram.org/bot{BOT}/sendMessage"),
        ("error", ValueError("refused hunter22")),
        ("password", 1234),
    ],
)
def test_logs_when_a_value_holds_a_secret_then_neither_file_nor_console_shows_it(
    name: str, value: object, configure: Configure
) -> None:
    console = io.StringIO()
    path = configure(console=console, secrets=["hunter22", BOT])

    get_logger("x").info("event", **{name: value})

    for text in (path.read_text(encoding="utf-8"), console.getvalue()):
        assert "***" in text
        for secret in ("hunter22", "anything-else", BOT, "1234"):
            assert secret not in text


def test_logs_when_a_library_logs_a_secret_then_it_is_hidden(configure: Configure) -> None:
    path = configure()

    logging.getLogger("uvicorn").warning("POST %s", f"https://api.telegram.org/bot{BOT}/x")
    logging.getLogger("sqlalchemy").warning("connect to postgresql://me:pw-of-mine@host/db")

    text = path.read_text(encoding="utf-8")
    assert BOT not in text
    assert "pw-of-mine" not in text
    assert "me:***@host" in text


@given(st.text("ab\"\\'\n{}", min_size=4, max_size=12), st.text(max_size=20), st.text(max_size=20))
def test_redactor_when_a_secret_is_anywhere_in_a_text_then_it_is_gone(
    secret: str, before: str, after: str
) -> None:
    event = Redactor([secret])(
        None, "info", {"event": before + secret + after, "k": [{"z": secret}]}
    )

    assert secret not in event["event"]
    assert event["k"] == [{"z": "***"}]


def test_redactor_when_nothing_is_secret_then_values_stay() -> None:
    event = {"event": "at 12:30:45 http://127.0.0.1:8000/x", "n": 3, "ok": True, "none": None}

    assert Redactor(["hunter22"])(None, "info", dict(event)) == event


@pytest.mark.parametrize(("level", "lines"), [("debug", 2), ("warning", 1)])
def test_logs_when_started_from_settings_then_level_size_and_secrets_are_those(
    tmp_path: Path, level: str, lines: int
) -> None:
    env = {
        "LOGS_DIR": str(tmp_path), "API_TOKEN": "correct-horse", "CONCLAVE_LOG_LEVEL": level,
        "CONCLAVE_LOG_MAX_MB": "0.001", "CONCLAVE_LOG_BACKUPS": "1",
    }  # fmt: skip
    close = start_logging(load_settings(env=env, profile=None), "up")
    try:
        get_logger("x").debug("small")
        get_logger("x").warning("told", what="correct-horse")
        assert len(rows(tmp_path / "up.jsonl")) == lines
        for _ in range(30):
            get_logger("x").warning("long", text="x" * 100)
    finally:
        close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["up.jsonl", "up.jsonl.1"]
    assert all(path.stat().st_size <= 1_049 for path in tmp_path.iterdir())
    assert "correct-horse" not in "".join(path.read_text() for path in tmp_path.iterdir())
