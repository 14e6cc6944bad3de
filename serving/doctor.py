"""``conclave doctor``: what on this machine would keep the system from running, and what to do."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy.exc import SQLAlchemyError

from domain.errors import ConclaveError
from domain.ports import Clock
from domain.times import iso, parse_iso
from serving.settings import Settings
from serving.system import REPO_ROOT, git_commit

Probe = Callable[[], str]  # returns what it found; raises if it did not work
PACKAGES = (
    "agents", "consensus", "data", "domain", "execution", "notifications", "rl", "serving", "sim",
    "storage",
)  # fmt: skip
LIBRARIES = (
    "numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "onnxruntime", "sqlalchemy", "alembic",
    "pydantic", "pydantic-settings", "fastapi", "uvicorn", "ray", "structlog", "httpx", "typer",
)  # fmt: skip
PYTHONS = ((3, 11), (3, 13))
LEAST_DISK = 1 << 30
LEAST_MEMORY = {True: 2 << 30, False: 1 << 29}  # with Ray, without
LARGEST_DRIFT_S = 0.05
_PAUSE_S = 0.05
_SHM = Path("/dev/shm")  # noqa: S108 - looked at, not written
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes
    ----------
    ok : whether it passed; None = not checked.
    detail : what was found.
    hint : what to do when it is not ok.
    """

    name: str
    ok: bool | None
    detail: str
    hint: str = ""


def diagnose(
    settings: Settings,
    *,
    clock: Clock,
    database: Probe | None = None,
    models: Probe | None = None,
    exchange: Probe | None = None,
    is_ours: Callable[[int], bool] = lambda _: False,
    root: Path = REPO_ROOT,
    monotonic: Callable[[], float] = time.monotonic,
) -> list[Finding]:
    """Run every check.

    Parameters
    ----------
    database, models, exchange : try the thing and say what was found; None = not checked.
    is_ours : whether a port in use is used by this system.
    root : folder that every package must come from.
    monotonic : seconds of a clock that nobody sets, to hold the wall clock against.
    """
    serving = settings.serving
    return [
        _python(),
        *(_origin(name, root) for name in PACKAGES),
        _libraries(LIBRARIES),
        Finding("commit", True, git_commit(root)),
        _writable(settings.data.var_dir),
        _disk(settings.data.var_dir),
        _memory(with_ray=serving.ray),
        *([_shared_memory(serving.object_store_mb)] if serving.ray else []),
        _port("api_port", serving.api_host, serving.api_port, is_ours),
        *(
            [_port("ray_dashboard_port", "127.0.0.1", serving.ray_dashboard_port, is_ours)]
            if serving.ray
            else []
        ),
        _clock(clock, monotonic),
        _probed("database", database, "Look at DATABASE_URL and VAR_DIR."),
        _probed("models", models, "Look at MODELS_DIR, or: conclave models list"),
        _exchange(exchange, needed=settings.execution.live_mode),
        _samples(settings.data.samples),
        _telegram(settings),
    ]


def healthy(findings: Iterable[Finding]) -> bool:
    """Return whether nothing failed; what was not checked does not count."""
    return all(finding.ok is not False for finding in findings)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as JSON's types."""
    return {"ok": healthy(findings), "findings": [asdict(finding) for finding in findings]}


def as_text(findings: Sequence[Finding]) -> str:
    """Return the findings as lines, hints below what failed."""
    marks = {True: "ok  ", False: "FAIL", None: "-   "}
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{marks[finding.ok]} {finding.name:<{width}}  {finding.detail}")
        if finding.ok is False and finding.hint:
            lines.append(f"     {'':<{width}}  {finding.hint}")
    failed = sum(finding.ok is False for finding in findings)
    return "\n".join(
        [*lines, f"{failed} of {len(findings)} checks failed" if failed else "All well"]
    )


def _python() -> Finding:
    found = sys.version_info[:2]
    text = ".".join(map(str, sys.version_info[:3]))
    hint = "Use Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 setup"
    return Finding("python", PYTHONS[0] <= found <= PYTHONS[1], text, hint)


def _origin(name: str, root: Path) -> Finding:
    spec = find_spec(name)
    origin = None if spec is None else spec.origin
    if origin is None:
        return Finding(f"package {name}", False, "not found", "Run it from the project's folder.")
    ok = Path(origin).resolve().is_relative_to(root.resolve())
    hint = f'Another package is called "{name}": uninstall it, or use the project\'s .venv.'
    return Finding(f"package {name}", ok, origin, hint)


def _libraries(names: Iterable[str]) -> Finding:
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(found)
    return Finding("libraries", not missing, detail, "Run: make setup")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _writable(folder: Path) -> Finding:
    hint = "Change its owner, or set VAR_DIR to a folder of yours."
    there = _existing(folder)
    if there != folder.absolute():  # made by the first run, not by looking
        ok = there.is_dir() and os.access(there, os.W_OK)
        return Finding("var_dir", ok, f"{folder} can{'' if ok else 'not'} be made", hint)
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return Finding("var_dir", True, f"{folder} is writable")
    except OSError as error:
        return Finding("var_dir", False, f"{folder}: {error.strerror}", hint)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(_existing(folder)).free
    hint = f"Free some, or set VAR_DIR elsewhere; {_gib(LEAST_DISK)} are needed."
    return Finding("disk", free >= LEAST_DISK, f"{_gib(free)} free", hint)


def _memory(*, with_ray: bool) -> Finding:
    free = psutil.virtual_memory().available
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit is not None and used is not None:
        free = min(free, limit - used)
    need = LEAST_MEMORY[with_ray]
    hint = f"{_gib(need)} are needed; without Ray (--local) {_gib(LEAST_MEMORY[False])} will do."
    return Finding("memory", free >= need, f"{_gib(free)} available", hint)


def _cgroup(name: str) -> int | None:
    try:
        return int((_CGROUP / name).read_text(encoding="ascii"))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return None


def _shared_memory(need_mb: int) -> Finding:
    if not _SHM.is_dir():
        return Finding("shared memory", None, "no /dev/shm on this system")
    free = shutil.disk_usage(_SHM).free
    hint = f"Ray's object store takes {need_mb} MiB: docker run --shm-size={2 * need_mb}m …"
    return Finding("shared memory", free >= need_mb << 20, f"{_gib(free)} free in /dev/shm", hint)


def _port(name: str, host: str, port: int, is_ours: Callable[[int], bool]) -> Finding:
    if port == 0:
        return Finding(name, True, "0: any free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
    except OSError as error:
        if is_ours(port):
            return Finding(name, True, f"{host}:{port} is served by this system")
        hint = f"Stop what uses it, or choose another: {name.upper()}=0 takes any free one."
        return Finding(name, False, f"{host}:{port}: {error.strerror}", hint)
    return Finding(name, True, f"{host}:{port} is free")


def _clock(clock: Clock, monotonic: Callable[[], float]) -> Finding:
    wall, steady = clock.now(), monotonic()
    time.sleep(_PAUSE_S)
    drift = (clock.now() - wall) / 1e3 - (monotonic() - steady)
    sane = wall >= parse_iso("2025-01-01") and abs(drift) <= LARGEST_DRIFT_S
    detail = f"{iso(wall)}, {drift * 1e3:+.0f} ms against the monotonic clock"
    return Finding("clock", sane, detail, "Set the machine's clock (NTP).")


def _probed(name: str, probe: Probe | None, hint: str) -> Finding:
    if probe is None:
        return Finding(name, None, "not checked")
    try:
        return Finding(name, True, probe())
    except ConclaveError as error:
        return Finding(name, False, error.message, error.hint or hint)
    except SQLAlchemyError as error:  # a driver's message may repeat the URL with its password
        return Finding(name, False, type(error).__name__, hint)
    except (OSError, httpx.HTTPError) as error:
        return Finding(name, False, f"{type(error).__name__}: {error}", hint)


def _exchange(probe: Probe | None, *, needed: bool) -> Finding:
    hint = "Without it the market is simulated or replayed."
    if needed:
        hint = "Real orders need it: look at EXCHANGE, EXCHANGE_URL and the network."
    finding = _probed("exchange", probe, hint)
    return replace(finding, ok=None) if finding.ok is False and not needed else finding


def _samples(folder: Path | None) -> Finding:
    if folder is None:
        detail = "CONCLAVE_SAMPLES is unset: tests that need sample bars are skipped"
        return Finding("samples", None, detail)
    n = len(list(folder.glob("*.parquet"))) if folder.is_dir() else 0
    hint = "CONCLAVE_SAMPLES must be a folder with Parquet files, or unset."
    return Finding("samples", n > 0, f"{n} Parquet files in {folder}", hint)


def _telegram(settings: Settings) -> Finding:
    token, chat = settings.notify.telegram_bot_token, settings.notify.telegram_chat_id
    if token is None and chat is None:
        return Finding("telegram", None, "not configured")
    if token is None or chat is None:
        hint = "Set both TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID, or neither."
        return Finding("telegram", False, "half configured", hint)
    return Finding("telegram", True, f"configured, writes to {chat}")


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
