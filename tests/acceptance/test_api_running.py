"""The API of a real ``up``: tokens, stream, jobs beside it, symbols of the next start."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from serving import client as api
from serving.auth import Unauthorized
from tests.acceptance.running import Running, conclave, start
from tests.command_line import perp

pytestmark = pytest.mark.timeout(600)
FLAGS = ["--local", "--speed", "600", "--set", "WARM_UP_DAYS=1"]
LIGHT = {"CONCLAVE_MODELS__AGENTS": "climatology,technical"}


def created(var_dir: Path, *words: str) -> str:
    done = conclave(var_dir, "token", "create", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_up_when_it_serves_a_day_of_work_then_jobs_run_tokens_turn_and_symbols_wait_for_the_restart(
    tmp_path: Path,
) -> None:
    var_dir = tmp_path / "var"
    raw = var_dir / "data" / "01_raw"
    raw.mkdir(parents=True)
    made = perp(tmp_path)
    made.rename(raw / made.name)
    running = start(var_dir, [*FLAGS, "--set", "serving.job_worker=true"], LIGHT)
    try:
        running.ready()
        admin = created(var_dir, "anna", "--scope", "admin")
        with api.Client(running.url, admin) as ask:
            job = ask(api.queue_job("backtest", data=made.name, profile="exercise"))
            running.until(60, lambda: ask(api.job(job.id)).state == "done", "finished job")
            assert ask(api.job(job.id)).result["output"]["trades"] > 20

            (symbol,) = ask(api.symbols()).items
            assert (symbol.symbol, symbol.followed) == ("BTC/USDT", True)
            ask(api.raw("POST", "/v1/symbols", {"symbol": "ETH/USDT"}))

            heard: list[int] = []
            gone = threading.Event()
            listening = threading.Thread(target=listen, args=(running, heard, gone), daemon=True)
            listening.start()
            running.until(30, lambda: len(heard) > 3, "streamed decisions")
            assert heard == sorted(set(heard))

            assert conclave(var_dir, "token", "revoke", "anna").returncode == 0
            running.until(5, lambda: refused(ask), "refusal of a revoked token")
        begun = time.monotonic()
        assert running.stop(signal.SIGTERM) == 130  # with a reader on the stream
        assert time.monotonic() - begun < 15
        gone.set()
    finally:
        running.stop()
    assert admin not in running.output.read_text()

    running = start(var_dir, FLAGS, LIGHT)
    try:
        running.ready()
        with api.Client(running.url) as ask:
            rows = {row.symbol: row.followed for row in ask(api.symbols()).items}
            assert rows == {"BTC/USDT": True, "ETH/USDT": True}
            made_here = ask(api.signal("ETH-USDT"))
            assert made_here.symbol == "ETH/USDT"
        assert "Traceback" not in running.output.read_text()
    finally:
        running.stop()


def refused(ask: api.Client) -> bool:
    try:
        ask(api.queue_job("backtest", data="x.parquet"))
    except Unauthorized:
        return True
    except Exception:  # noqa: BLE001 - it is still taken for good
        return False
    return False


def listen(running: Running, heard: list[int], gone: threading.Event) -> None:
    with api.Client(running.url, repeating=api.Repeating(times=0)) as ask:
        try:
            for event in ask.stream(kinds=["decision"]):
                heard.append(event.id)
        except Exception:  # noqa: BLE001 - the server was stopped
            gone.wait(5)
