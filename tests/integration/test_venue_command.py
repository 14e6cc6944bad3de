"""``conclave venue`` with faults, as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@contextmanager
def venue(*flags: str, stderr: Any = None) -> Iterator[str]:
    command = [sys.executable, "-m", "serving.cli", "venue", "--port", "0", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def report(url: str) -> Any:
    with urllib.request.urlopen(f"{url}/admin/faults", timeout=10) as reply:
        return json.loads(reply.read())


@pytest.mark.long
def test_a_schedule_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "faults.yml"
    path.write_text(
        "seed: 3\nfaults: [{fault: error, from_s: 0, for_s: 600, paths: '*/ping'},"
        " {fault: drop, streams: '*@dpeth'}]\n"
    )
    said = tmp_path / "said"
    with said.open("w") as stderr, venue("--faults", str(path), stderr=stderr) as url:
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{url}/api/v3/ping", timeout=10)
        told = report(url)
        assert (told["seed"], told["counts"]) == (3, {"error": 1})
        asked = urllib.request.Request(f"{url}/admin/faults", b'{"fault": "timeout"}')
        urllib.request.urlopen(asked, timeout=10).close()
        with pytest.raises(TimeoutError):  # and the end of the venue does not wait for it
            urllib.request.urlopen(f"{url}/api/v3/time", timeout=0.2)
    told_then = said.read_text()
    assert "faults[1].streams: fits nothing that this venue has (got '*@dpeth')" in told_then
    assert "faults[0]" not in told_then


@pytest.mark.long
def test_a_schedule_that_is_none_ends_the_command(tmp_path: Path) -> None:
    path = tmp_path / "faults.yml"
    path.write_text("faults: [{fault: drip}]\n")
    command = [sys.executable, "-m", "serving.cli", "venue", "--port", "0", "--faults", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert 'Did you mean "drop"?' in done.stderr


@pytest.mark.long
def test_hours_of_funding_are_as_wanted_or_refused() -> None:
    with venue("--funding-hours", "4") as url:
        with urllib.request.urlopen(f"{url}/fapi/v1/fundingInfo", timeout=10) as reply:
            told = json.loads(reply.read())
        assert {row["fundingIntervalHours"] for row in told} == {4}
    done = subprocess.run(
        [sys.executable, "-m", "serving.cli", "venue", "--funding-hours", "5"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, "must divide 24" in done.stderr) == (2, True)
