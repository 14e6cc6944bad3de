"""A changed record is what dataclasses.replace would have made."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from domain.records import changed, quick
from storage.checks import examples


@pytest.mark.parametrize("record", examples(0), ids=lambda record: type(record).__name__)
def test_changed_when_given_a_field_then_it_makes_what_replace_makes(record: object) -> None:
    name = next(iter(type(record).__dataclass_fields__))  # type: ignore[attr-defined]
    assert changed(record, **{name: "other"}) == replace(record, **{name: "other"})  # type: ignore[type-var]
    assert changed(record) == record


def test_changed_when_given_no_field_of_it_then_it_names_the_stranger() -> None:
    with pytest.raises(KeyError, match="colour"):
        changed(examples(0)[0], colour="red")


@quick
@dataclass(frozen=True, slots=True)
class Dated:
    """A record of every kind of field that a quick one may have."""

    at: int
    name: str = "none"
    body: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.at < 0:
            raise ValueError("at")


class Named(Dated):
    __slots__ = ()


def test_quick_when_built_then_it_is_as_frozen_and_as_equal_as_any_other() -> None:
    one = Dated(3, body={"a": 1})
    assert one == Dated(at=3, name="none", body={"a": 1})
    assert type(one) is Dated
    with pytest.raises(FrozenInstanceError):
        one.at = 4  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del one.at
    assert pickle.loads(pickle.dumps(one)) == one == copy.copy(one)
    assert Dated(1).body is not Dated(1).body


def test_quick_when_built_wrongly_then_it_says_what_a_dataclass_says() -> None:
    with pytest.raises(TypeError, match="at"):
        Dated()  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="at"):
        Dated(-1)


def test_quick_when_inherited_from_then_a_child_stays_a_child() -> None:
    assert type(Named(3)) is Named
    assert str(inspect.signature(Named)) == str(inspect.signature(Dated))


def test_quick_when_a_field_is_out_of_the_ordinary_then_it_refuses() -> None:
    @dataclass(frozen=True, slots=True)
    class Worked:
        at: int
        twice: int = field(init=False, default=0)

    with pytest.raises(TypeError, match="twice"):
        quick(Worked)
