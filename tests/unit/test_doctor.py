"""The doctor: each check passes on a well machine and fails, with advice, on a sick one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from domain.errors import ModelError
from serving.doctor import Finding, as_json, as_text, diagnose, healthy
from serving.settings import Settings, load_settings
from serving.system import SystemClock


def settings(folder: Path, **env: str) -> Settings:
    base = {"VAR_DIR": str(folder / "var"), "API_PORT": "0", "RAY_DASHBOARD_PORT": "0"}
    return load_settings(env={**base, **env}, profile=None)


def find(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


class JumpingClock:
    def __init__(self, start: int, step: int) -> None:
        self.at, self.step = start, step

    def now(self) -> int:
        self.at += self.step
        return self.at


def test_doctor_when_the_machine_is_well_then_nothing_fails_but_resources(tmp_path: Path) -> None:
    findings = diagnose(settings(tmp_path), clock=SystemClock())

    failed = {finding.name for finding in findings if finding.ok is False}
    assert failed <= {"memory", "disk", "shared memory"}  # depends on the machine
    assert not (tmp_path / "var").exists()
    names = [finding.name for finding in findings]
    assert len(names) == len(set(names))


def test_doctor_when_packages_come_from_elsewhere_then_it_says_from_where(tmp_path: Path) -> None:
    findings = diagnose(settings(tmp_path), clock=SystemClock(), root=tmp_path)

    finding = find(findings, "package agents")
    assert finding.ok is False
    assert finding.detail.endswith("agents/__init__.py")
    assert 'Another package is called "agents"' in finding.hint


def test_doctor_when_a_port_is_taken_then_it_fails_unless_it_is_ours(
    tmp_path: Path, busy_port: int
) -> None:
    s = settings(tmp_path, API_PORT=str(busy_port))

    foreign = find(diagnose(s, clock=SystemClock()), "api_port")
    ours = find(diagnose(s, clock=SystemClock(), is_ours=lambda p: p == busy_port), "api_port")

    assert (foreign.ok, ours.ok) == (False, True)
    assert "API_PORT=0" in foreign.hint
    assert "this system" in ours.detail


def test_doctor_when_ray_is_off_then_what_only_ray_needs_is_not_asked(tmp_path: Path) -> None:
    findings = diagnose(settings(tmp_path, CONCLAVE_RAY="false"), clock=SystemClock())

    assert not {"ray_dashboard_port", "shared memory"} & {finding.name for finding in findings}


def test_doctor_when_var_dir_is_a_file_then_it_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("", encoding="utf-8")

    finding = find(diagnose(settings(tmp_path), clock=SystemClock()), "var_dir")

    assert finding.ok is False
    assert "VAR_DIR" in finding.hint


def test_doctor_when_var_dir_exists_then_trying_it_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()

    assert find(diagnose(settings(tmp_path), clock=SystemClock()), "var_dir").ok
    assert list((tmp_path / "var").iterdir()) == []


@pytest.mark.parametrize(
    ("start", "step"), [(0, 50), (1_750_000_000_000, 5_000), (1_750_000_000_000, -5_000)]
)
def test_doctor_when_the_wall_clock_is_wrong_or_jumps_then_it_fails(
    tmp_path: Path, start: int, step: int
) -> None:
    finding = find(diagnose(settings(tmp_path), clock=JumpingClock(start, step)), "clock")

    assert finding.ok is False
    assert "NTP" in finding.hint


def test_doctor_when_probes_answer_then_what_they_found_is_shown(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/ledger.db")

    def opens() -> str:
        with engine.connect() as connection:
            return f"opens, {connection.execute(text('SELECT 1')).scalar_one()} row"

    findings = diagnose(settings(tmp_path), clock=SystemClock(), database=opens)
    engine.dispose()

    assert find(findings, "database") == Finding("database", True, "opens, 1 row")


def test_doctor_when_a_database_does_not_open_then_its_password_is_not_shown(
    tmp_path: Path,
) -> None:
    def refuses() -> str:
        raise OperationalError("connect postgresql://me:s3cr3t@host/x", {}, Exception("s3cr3t"))

    finding = find(diagnose(settings(tmp_path), clock=SystemClock(), database=refuses), "database")

    assert (finding.ok, finding.detail) == (False, "OperationalError")
    assert "DATABASE_URL" in finding.hint


def test_doctor_when_a_probe_fails_then_its_reason_and_hint_are_shown(tmp_path: Path) -> None:
    def damaged() -> str:
        raise ModelError("baseline", "its hash must match its card", "abc", "Roll it back.")

    def offline() -> str:
        raise ConnectionRefusedError("connection refused")

    findings = diagnose(settings(tmp_path), clock=SystemClock(), models=damaged, exchange=offline)

    model = find(findings, "models")
    assert (model.ok, model.hint) == (False, "Roll it back.")
    assert "hash must match" in model.detail
    exchange = find(findings, "exchange")
    assert exchange.detail == "ConnectionRefusedError: connection refused"
    assert exchange.ok is None  # a market can be made without one
    live = settings(tmp_path, LIVE_MODE="true", PAPER_MODE="false")
    needed = find(diagnose(live, clock=SystemClock(), exchange=offline), "exchange")
    assert needed.ok is False


def test_doctor_when_a_probe_is_missing_then_it_is_not_checked_and_not_failed(
    tmp_path: Path,
) -> None:
    findings = [
        finding
        for finding in diagnose(settings(tmp_path), clock=SystemClock())
        if finding.name in ("database", "models", "exchange")
    ]

    assert [(finding.ok, finding.detail) for finding in findings] == [(None, "not checked")] * 3
    assert healthy(findings)


def test_doctor_when_samples_are_set_then_the_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "bars.parquet").write_bytes(b"")

    there = settings(tmp_path, CONCLAVE_SAMPLES=str(tmp_path))
    gone = settings(tmp_path, CONCLAVE_SAMPLES=str(tmp_path / "none"))

    assert find(diagnose(there, clock=SystemClock()), "samples").ok is True
    assert find(diagnose(gone, clock=SystemClock()), "samples").ok is False
    assert find(diagnose(settings(tmp_path), clock=SystemClock()), "samples").ok is None


def test_doctor_when_telegram_is_half_configured_then_it_fails_without_the_token(
    tmp_path: Path,
) -> None:
    findings = diagnose(settings(tmp_path, TELEGRAM_BOT_TOKEN="1:s3cr3t"), clock=SystemClock())

    assert find(findings, "telegram").ok is False
    assert "s3cr3t" not in as_text(findings) + json.dumps(as_json(findings))


def test_doctor_when_telegram_is_configured_then_it_names_the_chat_and_no_token(
    tmp_path: Path,
) -> None:
    s = settings(tmp_path, TELEGRAM_BOT_TOKEN="1:s3cr3t", TELEGRAM_CHAT_ID="-100")

    finding = find(diagnose(s, clock=SystemClock()), "telegram")

    assert (finding.ok, finding.detail) == (True, "configured, writes to -100")


def test_findings_when_shown_then_failures_stand_out_with_their_hints() -> None:
    findings = [
        Finding("disk", True, "9 GiB free", "unused"),
        Finding("api_port", False, "taken", "Choose another."),
        Finding("exchange", None, "not checked"),
    ]

    assert as_text(findings).splitlines() == [
        "ok   disk      9 GiB free",
        "FAIL api_port  taken",
        "               Choose another.",
        "-    exchange  not checked",
        "1 of 3 checks failed",
    ]
    assert as_json(findings)["ok"] is False
    assert as_json(findings)["findings"][2] == {
        "name": "exchange", "ok": None, "detail": "not checked", "hint": "",
    }  # fmt: skip
