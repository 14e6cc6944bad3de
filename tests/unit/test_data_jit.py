"""Compiled code is of the sources as they are."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="needs numba")

CALLED = "from data.jit import jit\n\n\n@jit\ndef inner(x):\n    return x + {}\n"
CALLER = (
    "from data.jit import jit\nfrom execution.inner import inner\n\n\n"
    "@jit\ndef outer(x):\n    return 10 * inner(x)\n"
)
ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_jit_when_a_function_that_is_called_changes_then_its_callers_are_compiled_anew(tmp_path):
    for package in ("consensus", "data", "domain", "execution"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "data" / "jit.py").write_text((ROOT / "data" / "jit.py").read_text())
    (tmp_path / "execution" / "outer.py").write_text(CALLER)
    inner = tmp_path / "execution" / "inner.py"

    def said():
        code = "from execution.outer import outer; print(outer(1))"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
            env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        )  # fmt: skip
        return done.stdout.strip()

    inner.write_text(CALLED.format(1))
    assert said() == "20"
    (kept,) = (tmp_path / "data" / "__pycache__").glob("compiled-*")
    assert list(kept.rglob("*.nbi"))
    assert said() == "20"
    inner.write_text(CALLED.format(123))
    assert said() == "1240"
    assert len(list((tmp_path / "data" / "__pycache__").glob("compiled-*"))) == 1
