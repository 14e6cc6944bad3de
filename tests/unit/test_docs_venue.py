"""What docs/venue.md says of faults is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sim.venue.faults.kinds import KINDS, Choice, Kind, Number, Parameter
from sim.venue.faults.schedule import schedule_of

TEXT = (Path(__file__).parents[2] / "docs" / "venue.md").read_text("utf-8")


def described(name: str, parameter: Parameter) -> str:
    if isinstance(parameter, Number):
        also = "".join(f" or {each:g}" for each in parameter.also)
        low, high = (f"{each:,.10g}".replace(",", " ") for each in (parameter.low, parameter.high))
        return f"`{name}` {low} … {high}{also} ({parameter.usual:g})"
    if isinstance(parameter, Choice):
        options = " ".join(str(option).replace("-", "−") for option in parameter.options)
        return f"`{name}` {options}"
    return f"`{name}` true false"


def row(kind: Kind) -> str:
    parameters = "; ".join(described(*each) for each in kind.parameters.items())
    return f"| `{kind.name}` | {kind.place} | {kind.about} | {parameters} |"


@pytest.mark.parametrize("name", KINDS)
def test_the_table_has_every_fault_as_it_is(name: str) -> None:
    assert row(KINDS[name]) in TEXT


def test_the_table_has_no_other_fault() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| (?:stream|rest|order|market) \|", TEXT, re.M)) == set(
        KINDS
    )


def test_the_example_is_a_schedule() -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    found = schedule_of(yaml.safe_load(example), "example")
    assert len(found.faults) >= 4
    assert found.random is not None
    assert found.random.every_s == 60.0
