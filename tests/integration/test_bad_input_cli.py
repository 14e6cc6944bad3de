"""Whatever is typed, configured or found on disk: one clear error, its exit code, nothing lost."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import structlog

from serving.cli import run
from tests.acceptance.running import ROOT, Running, conclave, start

pytestmark = pytest.mark.timeout(300)

NAME = "BTCUSDT-binance-spot-5m"
HEADER = "ts,open,high,low,close,volume\n"
START, STEP = 1_735_689_600_000, 300_000  # 2025-01-01
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def var(tmp_path: Path) -> Path:
    return tmp_path / "var"


@pytest.fixture
def cli(
    var: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cli]:
    """Run a command in this process on a VAR_DIR of its own: exit code, stdout, stderr."""
    for name, value in {"VAR_DIR": str(var), "API_PORT": "0", "TRIALS_LOG": "none"}.items():
        monkeypatch.setenv(name, value)

    def call(*words: str | Path) -> tuple[int, str, str]:
        code = run([str(word) for word in words])
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        return code, told.out, told.err

    root, style = logging.getLogger(), structlog.get_config()
    configured = structlog.is_configured()
    handlers, level = root.handlers[:], root.level
    yield call
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    if configured:
        structlog.configure(**style)


def line(text: str) -> str:
    """The error of a command that told of nothing else: one line and perhaps a hint."""
    lines = text.strip().splitlines()
    assert lines[0].startswith("error: "), text
    assert len(lines) <= 2, text
    return lines[0]


def csv(n: int = 150, start: int = START, step: int = STEP) -> str:
    rows = (f"{start + step * i},100,101,99,100.{i % 7},5\n" for i in range(n))
    return HEADER + "".join(rows)


def parquet(path: Path, n: int = 5_000) -> bytes:
    ts, price = START + STEP * np.arange(n), 100 + np.sin(np.arange(n)) / 10
    columns = {"ts": ts, "open": price, "high": price + 1, "low": price - 1, "close": price,
               "volume": np.full(n, 5.0)}  # fmt: skip
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One good file, and every way in which a file can be bad."""
    folder = tmp_path_factory.mktemp("files")
    whole = parquet(folder / f"{NAME}-whole.parquet")
    flipped = bytearray(whole)
    for i in range(500, len(whole) - 3000, 101):
        flipped[i] ^= 0xFF
    footless = bytearray(whole)
    footless[-300:-20] = b"\xff" * 280
    contents: dict[str, bytes] = {
        f"{NAME}-good.csv": csv().encode(),
        f"{NAME}-cut.parquet": whole[: len(whole) // 2],
        f"{NAME}-flipped.parquet": bytes(flipped),
        f"{NAME}-footless.parquet": bytes(footless),
        f"{NAME}-magic.parquet": b"PAR1PAR1",
        f"{NAME}-empty.parquet": b"",
        f"{NAME}-text.parquet": csv().encode(),
        f"{NAME}-cut.csv": csv().encode()[:-3],
        f"{NAME}-empty.csv": b"",
        f"{NAME}-header.csv": HEADER.encode(),
        f"{NAME}-headless.csv": csv().removeprefix(HEADER).encode(),
        f"{NAME}-ragged.csv": (csv(5) + "1735689600000,1,2\n").encode(),
        f"{NAME}-binary.csv": bytes(range(256)) * 20 + b"\n",
        f"{NAME}-nan.csv": (HEADER + f"{START},nan,inf,-1,0,1e400\n" * 3).encode(),
        f"{NAME}-words.csv": (HEADER + f"{START},a,b,c,d,e\n").encode(),
        f"{NAME}-future.csv": csv(5, start=4_102_444_800_000).encode(),
        f"{NAME}-stamps.csv": (HEADER + "-5,1,2,0.5,1,1\n").encode(),
        "bars.csv": csv().encode(),
        "ZZZ-binance-spot-5m.csv": csv().encode(),
        "BTCUSDT-binance-spot-1h-good.csv": csv(step=12 * STEP).encode(),
        "BTCUSDT-binance-perp-5m-good.csv": csv().encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / f"{NAME}-folder.parquet").mkdir()
    names = [*contents, f"{NAME}-folder.parquet", f"{NAME}-missing.parquet"]
    return {name.removeprefix(f"{NAME}-"): folder / name for name in names}


# Commands and flags


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["stauts"], "No such command 'stauts'. Did you mean 'status'?"),
        (["data", "improt", "x"], "Did you mean 'import'?"),
        (["nonsense"], "No such command 'nonsense'"),
        (["status", "--jsno"], "--json"),
        (["status", "extra"], "extra"),
        (["signal"], "symbol"),
        (["up", "--source", "mars"], "'mars' is not one of 'auto', 'live', 'replay', 'demo'"),
        (["up", "--source", "live", "--data", "x.csv"], "--data: goes with --source replay"),
        (["up", "--source", "live", "--speed", "60"], "--speed: is the exchange's own"),
        (["up", "--source", "replay"], "--source replay: needs bars"),
        (["up", "--source", "demo", "--data", "x.csv"], "--data: goes with --source replay"),
        (["up", "--profile", "demon"], "profile: must be one that exists (got 'demon')"),
        (["up", "--profile", "../strict"], "profile: must be one that exists"),
        (["up", "--config", "/nowhere.yaml"], "/nowhere.yaml: cannot be read"),
        (["why", "no-such-id"], "signal: is not in this ledger (got 'no-such-id')"),
        (["scenario", "what-if", "no-such-id"], "signal: is not in this ledger"),
        (["scenario", "what-fi", "x"], "Did you mean 'what-if'?"),
        (["signal", "zzz", "--local"], "symbol: must name base and quote (got 'zzz')"),
        (["data", "fetch", "--timeframe", "7m"], "--timeframe: must be one of 1m 3m 5m"),
        (["data", "features", "BTC/USDT", "--timeframe", "7x"], "timeframe: must be a number"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_command_when_words_make_no_sense_then_exit_2_names_them(
    cli: Cli, words: list[str], says: str
) -> None:
    code, out, err = cli(*words)
    assert (code, out) == (2, "")
    assert says in line(err)


@pytest.mark.parametrize("words", [[], ["data"], ["ledger"], ["scenario"]])
def test_command_when_there_is_none_then_exit_2_with_the_help(cli: Cli, words: list[str]) -> None:
    code, out, err = cli(*words)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: conclave")


@pytest.mark.parametrize("words", [["status"], ["arm"], ["signal", "BTC/USDT"]])
def test_command_when_nothing_was_started_then_exit_4_says_how(
    cli: Cli, var: Path, words: list[str]
) -> None:
    code, out, err = cli(*words)
    assert (code, out) == (4, "")
    assert "conclave: has not been started with this VAR_DIR" in line(err)
    assert "make run" in err
    assert not var.exists()


# Settings


@pytest.mark.long
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("PROB_MIN", "--set: must be NAME=VALUE (got 'PROB_MIN')"),
        ("PROB_MINN=0.6", "PROB_MINN (flag): is no setting (got '0.6')"),
        ("PROB_MIN=abc", "PROB_MIN (flag): must be a valid number"),
        ("PROB_MIN=nan", "PROB_MIN (flag): must be a finite number"),
        ("PROB_MIN=2", "PROB_MIN (flag): must be ≤ 1 (got '2')"),
        ("SYMBOLS=", "SYMBOLS (flag): must name at least one"),
        ("SYMBOLS=zzz", "SYMBOLS (flag): 'zzz' must name base and quote"),
        ("SYMBOLS=BTC/USDT,BTCUSDT", "SYMBOLS (flag): must name each symbol once"),
        ("TIMEFRAME=7m", "TIMEFRAME (flag): must be one of"),
        ("agents=climatology,oracle", "'oracle' is no agent"),
        ("API_PORT=99999", "API_PORT (flag): must be ≤ 65535"),
        ("DATABASE_URL=mysql://u:hidden@h/x", "DATABASE_URL (flag): must start with sqlite://"),
        ("VAR_DIR=", "VAR_DIR (flag): must name a folder"),
        ("VAR_DIR=~nobody-here/x", "VAR_DIR (flag): must not start with ~"),
        ("LIVE_MODE=true", "LIVE_MODE: cannot be on together with PAPER_MODE"),
        ("PAPER_MODE=false", "PAPER_MODE: must be "),
        ("API_HOST=0.0.0.0", "API_HOST: may leave loopback only with an API_TOKEN"),
        ("API_TOKEN=two words", "API_TOKEN (flag): must be one word"),
    ],
)
def test_setting_when_unknown_wrong_or_contradictory_then_exit_2_names_it_and_hides_secrets(
    cli: Cli, text: str, says: str
) -> None:
    code, out, err = cli("data", "list", "--set", text)
    assert (code, out) == (2, "")
    assert says in line(err)
    assert "hidden" not in err
    assert "two words" not in err


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CONCLAVE_TYPO", "1", "CONCLAVE_TYPO (environment): is no setting"),
        ("CONCLAVE_RISK__DAILY_LOS_MAX", "2", "Did you mean"),
        ("PROB_MIN", "high", "PROB_MIN (environment): must be a valid number"),
        ("LIVE_MODE", "true", "LIVE_MODE: cannot be on together with PAPER_MODE"),
        ("API_HOST", "0.0.0.0", "API_HOST: may leave loopback"),
    ],
)
def test_environment_when_a_variable_is_wrong_then_exit_2_names_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    code, out, err = cli("data", "list")
    assert (code, out) == (2, "")
    assert line(err)
    assert says in err


ENTITIES = "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.long
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("data: [1, 2\n", "is no valid YAML"),
        ("- 1\n", "must hold groups of settings"),
        ("data:\n  symbolz: 1\n", "data.symbolz: is no setting (got 1)"),
        ("dta:\n  symbols: 1\n", "dta: is no group of settings"),
        ("data: 5\n", "data: must hold settings"),
        ("decision:\n  prob_min: 0.6\n  prob_min: 0.7\n", '"prob_min" is there twice'),
        ("decision:\n  prob_min: .nan\n", "must be a finite number"),
        ('data: !!python/object/apply:os.system ["true"]\n', "is no valid YAML"),
        ("? [a, b]\n: 1\n", "is no valid YAML"),
        ("\udcff", "is no valid YAML"),
        ("[" * 5000, "is no valid YAML"),
        (f"a: &a [x, x, x]\n{ENTITIES}decision:\n  prob_min: *i\n", "must be a valid number"),
    ],
    ids=lambda value: repr(value)[:28],
)
def test_config_file_when_bad_then_exit_2_names_file_and_rule_within_seconds(
    cli: Cli, tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    begun = time.monotonic()
    code, out, err = cli("data", "list", "--config", path)
    assert time.monotonic() - begun < 10
    assert (code, out) == (2, "")
    assert says in err
    assert "mine.yaml" in err
    assert len(err) < 50_000


@pytest.mark.parametrize(
    ("host", "says"),
    [("not a host", "must be an address of this machine"), ("203.0.113.7", "of this machine")],
)
def test_up_when_the_host_is_not_this_machine_then_exit_2_names_api_host(
    cli: Cli, files: dict[str, Path], host: str, says: str
) -> None:
    token = "api_token=0123456789abcdef"
    flags = ["--set", f"API_HOST={host}", "--set", token]
    code, _, err = cli("up", "--local", "--data", files["good.csv"], *flags)
    assert code == 2
    assert says in line(err)
    assert host in err


# Files


BAD_FILES = [
    "cut.parquet", "flipped.parquet", "footless.parquet", "magic.parquet", "empty.parquet",
    "text.parquet", "cut.csv", "empty.csv", "header.csv", "headless.csv", "ragged.csv",
    "binary.csv", "nan.csv", "words.csv", "future.csv", "stamps.csv", "bars.csv",
    "ZZZ-binance-spot-5m.csv", "folder.parquet", "missing.parquet",
]  # fmt: skip
READERS = {
    "check": ("data", "check"), "import": ("data", "import"),
    "evaluate": ("evaluate", "--data"), "backtest": ("backtest", "--data"),
    "up": ("up", "--local", "--source", "replay", "--data"),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("bad", BAD_FILES)
def test_file_when_it_must_not_be_used_then_exit_3_names_it_and_nothing_starts(
    cli: Cli, var: Path, files: dict[str, Path], reader: str, bad: str
) -> None:
    code, _, err = cli(*READERS[reader], files[bad])
    assert code == 3
    assert files[bad].name in line(err)
    assert not (var / "run.json").exists()
    assert not list(var.rglob("*.parquet"))


@pytest.mark.long
def test_import_when_a_file_is_refused_then_what_was_stored_stays_as_it_was(
    cli: Cli, var: Path, files: dict[str, Path]
) -> None:
    assert cli("data", "import", files["good.csv"])[0] == 0

    def stored() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in var.rglob("*") if p.is_file()}

    before, listed = stored(), cli("data", "list", "--json")
    for bad in ("cut.parquet", "nan.csv", "cut.csv", "words.csv"):
        assert cli("data", "import", files[bad])[0] == 3
    assert cli("data", "import", files["missing.parquet"], files["good.csv"])[0] == 3
    assert stored() == before
    assert cli("data", "list", "--json") == listed


@pytest.mark.long
@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--speed", "0"], 2, "--speed: must be a positive number or max (got '0')"),
        (["--speed", "-1"], 2, "--speed"),
        (["--speed", "abc"], 2, "--speed"),
        (["--speed", "nan"], 2, "--speed"),
        (["--speed", "inf"], 2, "--speed"),
        (["--speed", ""], 2, "--speed"),
        (["--timerange", "yesterday"], 2, "timerange: must be A-B, A- or -B"),
        (["--timerange", "-"], 2, "timerange"),
        (["--timerange", "2025-01-01-2025-01-02"], 2, "dates as YYYYMMDD"),
        (["--timerange", "20250101-20250102-20250103"], 2, "timerange"),
        (["--timerange", "20250230-"], 2, "date: must be ISO-8601 (got '20250230')"),
        (["--timerange", "20250102-20250101"], 2, "its start must lie before its end"),
        (["--timerange", "19000101-"], 2, "between the years 1970 and 9999"),
        (["--timerange", "20990101-"], 3, "has no bar in the range"),
        (["--data", "SAME"], 2, "--data: must be one file per symbol"),
        (["--data", "HOUR"], 3, "must hold bars of TIMEFRAME=5m (got '1h')"),
        (["--funding", "SAME"], 2, "--funding: goes with exactly one perpetual"),
        (["--set", "TIMEFRAME=1h"], 3, "must hold bars of TIMEFRAME=1h (got '5m')"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_up_when_a_flag_does_not_fit_the_bars_then_it_is_refused_before_anything_starts(
    cli: Cli, var: Path, files: dict[str, Path], flags: list[str], code: int, says: str
) -> None:
    named = {"SAME": files["good.csv"], "HOUR": files["BTCUSDT-binance-spot-1h-good.csv"]}
    words = [str(named.get(flag, flag)) for flag in flags]
    found, out, err = cli("up", "--local", "--data", files["good.csv"], *words)
    assert (found, out) == (code, "")
    assert says in line(err)
    assert not (var / "run.json").exists()


@pytest.mark.long
@pytest.mark.parametrize("bad", ["missing.parquet", "cut.parquet", "folder.parquet", "nan.csv"])
def test_up_when_the_funding_file_is_bad_then_exit_3_names_it(
    cli: Cli, var: Path, files: dict[str, Path], bad: str
) -> None:
    perp = files["BTCUSDT-binance-perp-5m-good.csv"]
    code, _, err = cli("up", "--local", "--data", perp, "--funding", files[bad])
    assert code == 3
    assert files[bad].name in line(err)
    assert not (var / "run.json").exists()


def test_logs_of_commands_when_nobody_configured_them_then_they_leave_results_alone(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = cli("data", "list", "--json")
    assert (code, json.loads(out)["items"]) == (0, [])
    structlog.get_logger("test").warning("on the way")
    told = capsys.readouterr()
    assert (told.out, "on the way" in told.err) == ("", True)


def test_import_when_the_bars_are_of_another_market_then_it_is_refused(
    cli: Cli, tmp_path: Path
) -> None:
    made, real = (tmp_path / f"BTCUSDT-{name}-spot-5m.csv" for name in ("demo", "binance"))
    for path in (made, real):
        path.write_text(csv())
    assert cli("data", "import", made)[0] == 0
    code, out, _ = cli("data", "list", "--json")
    assert (code, json.loads(out)["simulated"]) == (0, True)
    code, _, err = cli("data", "import", real)
    assert (code, "holds bars of simulated" in err) == (3, True)
    assert cli("data", "import", made)[0] == 0


# VAR_DIR


@pytest.mark.long
@pytest.mark.parametrize("below", ["", "sub"])
def test_var_dir_when_it_cannot_be_a_folder_then_every_command_says_so_or_needs_none(
    cli: Cli, tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("VAR_DIR", str(tmp_path / "file" / below))
    good = files["good.csv"]
    for words in (
        ["up", "--local", "--data", good], ["kill"], ["ledger", "verify"], ["why", "x"],
        ["data", "import", good], ["evaluate", "--data", good], ["backtest", "--data", good],
    ):  # fmt: skip
        code, _, err = cli(*words)
        assert code in {1, 2}, words
        assert "error: " in err
    for words in (["status"], ["arm"]):
        assert cli(*words)[0] == 4
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.long
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"5", b"null", b"{}", b"\xff\xfe", b'{"source": "demo"}',
     b'{"source":"demo","world":"d","profile":"p","speed":1,"overrides":[1]}',
     b'{"source":"demo","world":"d","profile":"p","speed":1,"port":"http"}',
     b'{"source":"demo","world":"d","profile":"p","speed":1,"port":99999999}'],
)  # fmt: skip
def test_run_json_when_damaged_then_commands_say_so_and_kill_works_all_the_same(
    cli: Cli, var: Path, content: bytes
) -> None:
    var.mkdir()
    (var / "run.json").write_bytes(content)
    for words in (["status"], ["arm"], ["signal", "BTC/USDT"]):
        code, out, err = cli(*words)
        assert (code, out) == (4, "")
        assert "run.json: is damaged" in line(err)
    assert cli("kill", "--why", "test")[0] == 0
    assert (var / "KILL").read_text() == "test\n"


@pytest.mark.parametrize(
    ("why", "kept"),
    [("", "command line"), ("news", "news"), ("x" * 9999, "x" * 400),
     ("a\n\tb\x1b[31m\x00 c", "a b[31m c"), ("née 💥 [/x]", "née 💥 [/x]")],
    ids=["none", "plain", "long", "controls", "unicode"],
)  # fmt: skip
def test_kill_when_nothing_runs_then_the_file_holds_the_reason_on_one_line(
    cli: Cli, var: Path, why: str, kept: str
) -> None:
    code, out, err = cli("kill", "--why", why, "--json")
    assert code == 0
    assert json.loads(out)["file"] == str(var / "KILL")
    assert "KILL" in err
    assert (var / "KILL").read_text(encoding="utf-8") == kept + "\n"


def test_kill_when_something_else_has_the_files_name_then_it_is_a_kill_too(
    cli: Cli, var: Path
) -> None:
    (var / "KILL").mkdir(parents=True)
    assert cli("kill")[0] == 0


@pytest.mark.parametrize("wrong", [{"LIVE_MODE": "true"}, {"PROB_MIN": "2"}, {"CONCLAVE_NO": "1"}])
def test_kill_when_the_settings_make_no_sense_then_it_works_all_the_same(
    cli: Cli, var: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]
) -> None:
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    code, _, err = cli("kill")  # the settings may have said where the run is
    assert (code, "Say where it is" in err) == (1, True)
    (var / "run.json").write_text("{")
    code, out, err = cli("kill", "--why", "now", "--json")
    assert (code, json.loads(out)["mode"]) == (0, "KILLED")
    assert "going on without the settings: " in err
    assert next(iter(wrong)) in err
    assert (var / "KILL").read_text() == "now\n"
    assert cli("status")[0] == 2


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"two words 0123456789", b"\xff" * 40])
def test_api_token_when_the_file_holds_none_then_up_refuses_to_open_the_door(
    cli: Cli, var: Path, files: dict[str, Path], content: bytes
) -> None:
    var.mkdir()
    (var / "api_token").write_bytes(content)
    code, out, err = cli("up", "--local", "--data", files["good.csv"])
    assert (code, out) == (2, "")
    assert "api_token: must hold one word" in line(err)
    assert (var / "api_token").read_bytes() == content


# The database


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE chain (x)")


def newer(path: Path) -> None:
    assert run(["ledger", "verify", "--set", f"VAR_DIR={path.parent}"]) == 0
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v9999'")


def cut(path: Path) -> None:
    assert run(["ledger", "verify", "--set", f"VAR_DIR={path.parent}"]) == 0
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 32), 1, "is not a SQLite database"),
    "folder": (lambda path: path.mkdir(), 2, "cannot be opened"),
    "cut": (cut, 1, "is damaged"),
    "newer": (newer, 1, "was made by a newer Conclave"),
    "foreign": (foreign, 1, "holds another program's tables"),
}


@pytest.mark.long
@pytest.mark.parametrize("damage", DAMAGE)
def test_database_when_it_cannot_be_used_then_one_line_says_why_and_the_file_stays(
    cli: Cli, var: Path, files: dict[str, Path], damage: str
) -> None:
    path = var / "ledger.db"
    var.mkdir()
    harm, status, says = DAMAGE[damage]
    harm(path)
    cli("-h")  # what the preparation printed
    before = path.read_bytes() if damage in {"noise", "cut"} else None
    for words in (
        ["ledger", "verify"],
        ["why", "x"],
        ["up", "--local", "--data", files["good.csv"]],
    ):
        code, out, err = cli(*words)
        assert (code, out) == (status, "")
        assert says in line(err)
    assert before is None or path.read_bytes() == before
    assert not (var / "run.json").exists()


@pytest.mark.long
def test_restore_when_the_backup_is_damaged_then_no_ledger_is_made_of_it(
    cli: Cli, var: Path, tmp_path: Path, files: dict[str, Path]
) -> None:
    assert cli("up", "--local", "--data", files["good.csv"])[0] == 0
    copy = tmp_path / "backup.db"
    assert cli("ledger", "backup", copy)[0] == 0
    assert cli("ledger", "backup", copy)[0] == 2  # never over another file
    assert cli("ledger", "restore", copy)[0] == 2  # nor over a ledger
    bad = bytearray(copy.read_bytes())
    middle = len(bad) // 2
    bad[middle : middle + 20_000 : 3] = b"\x5a" * len(bad[middle : middle + 20_000 : 3])
    (tmp_path / "bad.db").write_bytes(bad)
    shutil.move(var / "ledger.db", tmp_path / "old.db")
    (var / "ledger.db-wal").touch()  # as a desk that was killed leaves it
    code, _, err = cli("ledger", "restore", copy)  # the old journal would be replayed into it
    assert code == 2
    assert "ledger.db-wal" in line(err)
    for left in var.glob("ledger.db-*"):
        left.unlink()
    for source in (tmp_path / "bad.db", files["cut.parquet"]):
        code, _, err = cli("ledger", "restore", source)
        assert code == 1
        assert line(err)
        assert not list(var.glob("ledger.db*"))
    assert cli("ledger", "restore", copy)[0] == 0
    assert cli("ledger", "verify")[0] == 0


def test_export_when_the_target_cannot_be_written_then_exit_2_and_no_part_is_left(
    cli: Cli, tmp_path: Path
) -> None:
    for target in (tmp_path / "no" / "x", tmp_path):
        code, _, err = cli("ledger", "export", target)
        assert code == 2
        assert "target: cannot be written" in line(err)
    assert not list(tmp_path.rglob("*.partial"))


# Disk, output, signals, set-up


SMALL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from serving.cli import main
main(sys.argv[1:])
"""


def head(cli: Cli) -> tuple[int, str]:
    code, out, _ = cli("ledger", "verify", "--json")
    assert code == 0
    body = json.loads(out)
    return body["rows"], body["head_hash"]


@pytest.mark.long
def test_up_when_the_disk_takes_no_more_then_one_line_and_the_next_run_ends_as_if_nothing_was(
    cli: Cli, var: Path, tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["up", "--local", "--data", str(files["good.csv"])]
    done = subprocess.run(
        [sys.executable, "-c", SMALL, *words],
        capture_output=True, text=True, timeout=60, cwd=ROOT, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search(r"^error: database: .*disk", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    stopped_at = head(cli)
    assert cli(*words)[0] == 0
    resumed = head(cli)

    monkeypatch.setenv("VAR_DIR", str(tmp_path / "undisturbed"))
    assert cli(*words)[0] == 0
    assert 0 < stopped_at[0] < resumed[0]
    assert resumed == head(cli)


@pytest.mark.long
def test_output_when_the_terminal_is_plain_or_full_then_no_traceback(tmp_path: Path) -> None:
    def verify(encoding: str, sink: Path) -> subprocess.CompletedProcess[str]:
        with sink.open("w") as out:
            return subprocess.run(
                [sys.executable, "-m", "serving.cli", "ledger", "verify"],
                stdout=out, stderr=subprocess.PIPE, text=True, timeout=60, cwd=ROOT,
                env={**os.environ, "VAR_DIR": str(tmp_path / encoding),
                     "PYTHONIOENCODING": encoding},
            )  # fmt: skip

    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with ThreadPoolExecutor(2) as pool:
        plain = pool.submit(verify, "ascii", tmp_path / "out.txt")
        full = pool.submit(verify, "utf-8", Path("/dev/full"))
    assert (plain.result().returncode, plain.result().stderr) == (0, "")
    assert (tmp_path / "out.txt").read_text().startswith("clean: 0 rows")
    assert full.result().returncode == 1
    assert "No space left on device" in line(full.result().stderr)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_up_when_signalled_at_any_moment_then_exit_130_within_30_s_and_the_ledger_verifies(
    tmp_path: Path,
) -> None:
    moments = {"api_token": signal.SIGINT, "run.json": signal.SIGTERM, "bars": signal.SIGINT}

    def begun(running: Running, moment: str) -> bool:
        if moment != "bars":
            return (running.var_dir / moment).exists()
        try:
            with sqlite3.connect(f"file:{running.var_dir}/ledger.db?mode=ro", uri=True) as database:
                return bool(database.execute("SELECT max(seq) > 0 FROM chain").fetchone()[0])
        except sqlite3.Error:
            return False

    def ended(moment: str) -> tuple[Running, int, float]:
        running = start(tmp_path / moment, ["--local", "--set", "WARM_UP_DAYS=60"])
        try:
            running.until(120, lambda: begun(running, moment), moment)
            at = time.monotonic()
            return running, running.stop(moments[moment]), time.monotonic() - at
        finally:
            running.process.kill()

    for moment in moments:  # one after another: each has the machine for itself
        running, code, seconds = ended(moment)
        assert code == 130, running.output.read_text()
        assert seconds < 30
        assert "Traceback" not in running.output.read_text()
        assert running.processes() == []
        assert conclave(running.var_dir, "ledger", "verify").returncode == 0


@pytest.mark.parametrize(
    ("path", "python", "says"),
    [
        ("", "bin/python3.9", "needs Python 3.11, 3.12 or 3.13; .*/python3.9 is Python 3.9.18"),
        ("", "/nowhere/python", "/nowhere/python does not run"),
        ("bin", sys.executable, r"needs 4\.5 GB of free disk here and has 40 MB"),
    ],
    ids=["wrong version", "missing", "no disk"],
)
def test_setup_when_the_machine_does_not_fit_then_one_line_says_what_it_needs(
    tmp_path: Path, path: str, python: str, says: str
) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", tmp_path / "scripts")
    fakes = {
        "python3.9": '[ "$1" = --version ] && echo Python 3.9.18 && exit 0\nexit 1\n',
        "df": "echo Filesystem\necho none 1 1 40 1% /\n",
    }
    for name, body in fakes.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}")
        (tmp_path / "bin" / name).chmod(0o755)
    done = subprocess.run(
        ["sh", "scripts/setup.sh"], cwd=tmp_path, capture_output=True, text=True, timeout=30,
        env={"PATH": f"{tmp_path / path}:{os.environ['PATH']}",
             "PYTHON": str(tmp_path / python) if python.startswith("bin") else python},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"set-up: .*{says}.*\n", done.stderr)
    assert not (tmp_path / ".venv").exists()
