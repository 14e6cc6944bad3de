"""A changed record is what dataclasses.replace would have made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.records import changed
from storage.checks import examples


@pytest.mark.parametrize("record", examples(0), ids=lambda record: type(record).__name__)
def test_changed_when_given_a_field_then_it_makes_what_replace_makes(record: object) -> None:
    name = next(iter(type(record).__dataclass_fields__))  # type: ignore[attr-defined]
    assert changed(record, **{name: "other"}) == replace(record, **{name: "other"})  # type: ignore[type-var]
    assert changed(record) == record


def test_changed_when_given_no_field_of_it_then_it_names_the_stranger() -> None:
    with pytest.raises(KeyError, match="colour"):
        changed(examples(0)[0], colour="red")
