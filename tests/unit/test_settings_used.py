"""No inert switches: what can be set is read by code that acts on it, or refused."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.errors import SettingError
from serving.settings import load_settings
from serving.settings.names import GROUPS, KEYS

SERVING = Path(__file__).resolve().parents[2] / "serving"  # rooms below never see Settings

# Only looked at, by who acts on nothing: that alone makes no setting honest.
LOOKERS = {"doctor.py", "examination.py"}

# Read by way of a property or method of the settings.
DERIVED = {
    "models.remote": "models.in_process", "database_url": "serving.database_url",
    "tokens_file": "serving.tokens_file",
}  # fmt: skip

# Names of the documented list that wait for what reads them.
WAITING = {
    "data.samples": "tests read it, from the environment; the doctor counts the files",
}


def is_settings(node: ast.expr) -> bool:
    """Whether an expression is called settings: a name, an attribute or a call's result."""
    if isinstance(node, ast.Call):
        node = node.func
    name = getattr(node, "id", None) or getattr(node, "attr", "")
    return name.strip("_").startswith("settings")


def group_of(node: ast.expr, aliases: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if isinstance(node, ast.Attribute) and node.attr in GROUPS and is_settings(node.value):
        return node.attr
    return None


def bindings(scope: ast.AST) -> Iterator[tuple[str, str]]:
    """Iterate over names bound to a group: ``risk = settings.risk``, also in tuples."""
    for node in ast.walk(scope):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target, value = node.targets[0], node.value
        several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
        pairs = zip(target.elts, value.elts, strict=True) if several else [(target, value)]
        for name, bound in pairs:
            group = group_of(bound, {})
            if isinstance(name, ast.Name) and group is not None:
                yield name.id, group


def reads_in(source: str) -> set[str]:
    """Return the settings that a module reads, as ``group.field``."""
    tree = ast.parse(source)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = set()
    for scope in (*functions, tree):
        aliases = {} if scope is tree else dict(bindings(scope))
        for node in ast.walk(scope):
            if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
                continue
            group = group_of(node.value, aliases)
            name = f"{group}.{node.attr}" if group else node.attr * is_settings(node.value)
            found.add(DERIVED.get(name, name))
    return found & set(map(str, KEYS))


def reads_anywhere() -> set[str]:
    modules = [
        path
        for path in SERVING.rglob("*.py")
        if path.parent.name != "settings" and path.name not in LOOKERS
    ]
    return set().union(*(reads_in(path.read_text(encoding="utf-8")) for path in modules))


def test_reads_when_a_module_uses_aliases_and_properties_then_exactly_these_are_found() -> None:
    source = """
def wire(self, settings, plan):
    risk, fixed = settings.risk, settings.execution.fixed_notional
    self.settings.data.var_dir / "x"
    settings_of(plan).serving.api_port
    settings.database_url(), settings.models.remote
    return risk.total_stop, other.risk.daily_breaker, limits.max_spread_bps

def elsewhere(risk):
    return risk.daily_loss_max
"""

    assert reads_in(source) == {
        "execution.fixed_notional", "data.var_dir", "serving.api_port", "serving.database_url",
        "models.in_process", "risk.total_stop",
    }  # fmt: skip


@pytest.mark.long
def test_settings_when_listed_then_each_is_read_somewhere() -> None:
    inert = set(map(str, KEYS)) - reads_anywhere() - set(WAITING)

    assert not inert, f"set, but without effect: {', '.join(sorted(inert))}"


@pytest.mark.long
def test_settings_when_they_wait_for_their_reader_then_it_has_not_come_yet() -> None:
    assert set(WAITING) <= set(map(str, KEYS))
    arrived = reads_anywhere() & set(WAITING)

    assert not arrived, f"take off the list and reword: {', '.join(sorted(arrived))}"


@pytest.mark.parametrize(
    "env",
    [{"LIVE_MODE": "true"}, {"PAPER_MODE": "false"}],
)
def test_settings_when_paper_and_live_are_both_or_neither_then_they_are_refused(
    env: dict[str, str],
) -> None:
    with pytest.raises(SettingError, match="PAPER_MODE"):
        load_settings(env=env, profile=None)
