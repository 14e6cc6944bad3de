"""Child processes that never outlive their parent, and how long to wait before the next try."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from domain.errors import SettingError

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends (Linux; elsewhere a no-op).

    Parameters
    ----------
    parent : the parent's pid; if it is gone already, this process leaves at once.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(0)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Let SIGINT and SIGTERM end this process on the spot until somebody handles them better.

    An exception raised by a signal can be lost in a callback of a library. Before anything runs
    there is nothing to take down, and a transaction that was cut off leaves no trace.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: os._exit(130)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def spawn(
    module: str, arguments: Sequence[str], env: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start ``python -m module`` with its output appended to ``log``, in a session of its own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and modules
            [sys.executable, "-m", module, *arguments, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask a child to end, make it end after ``seconds``, and leave nothing it started behind."""
    if process.poll() is not None:
        return
    started = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
    _, left = psutil.wait_procs(started, timeout=2.0)
    for orphan in left:
        with suppress(psutil.NoSuchProcess):
            orphan.kill()
    psutil.wait_procs(left, timeout=2.0)


def alive(pid: int) -> bool:
    """Whether a process exists (and is no zombie waiting to be collected); 0 is none."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2][:1]
    except OSError:
        return True
    return state != "Z"


def port_free(host: str, port: int) -> bool:
    """Whether no other program listens there."""
    try:
        _bound(host, port)
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def _bound(host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return int(probe.getsockname()[1])


def choose_port(host: str, port: int, setting: str) -> int:
    """Return the port asked for, or any free one for 0.

    Raises
    ------
    SettingError : if it is taken, not allowed, or the host is not this machine's.
    """
    try:
        return _bound(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingError(
                setting, "this port is taken by another program", port,
                f"Stop that program, or choose another: {setting}=0 takes any free port.",
            ) from None  # fmt: skip
        if error.errno == errno.EACCES:
            raise SettingError(
                setting, "ports below 1024 are the administrator's", port, "Choose a larger one."
            ) from None
        raise SettingError(
            "API_HOST", f"must be an address of this machine ({error.strerror})", host,
            "Try 127.0.0.1, or 0.0.0.0 with an API_TOKEN.",
        ) from None  # fmt: skip


TEMPORARY = 75  # exit code of a process that something it needs does not answer: EX_TEMPFAIL


@dataclass(slots=True)
class Backoff:
    """1, 2, 4 … 60 s between restarts; gives up after ``cap`` failures in ``window`` seconds."""

    cap: int = 8
    window: float = 600.0
    failures: list[float] = field(default_factory=list)

    def failed(self, now: float) -> float | None:
        """Note a failure at monotonic ``now`` and return the seconds to wait, None = give up."""
        self.failures = [at for at in self.failures if now - at < self.window] + [now]
        if len(self.failures) > self.cap:
            return None
        return min(60.0, 2.0 ** (len(self.failures) - 1))
