"""What constructors and hooks let pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.peer_faults.faulty import seen

from mintkey import Model
from mintkey.attributes import (
    ListAttribute,
    NumberAttribute,
    StringAttribute,
)
from mintkey.errors import ConfigurationError, InvalidValue
from mintkey.hooks import before_save

# What constructors let pass.


class Careless:
    """The faulty design: a shared default, unknown names dropped, equal by values alone, `required` only looked up."""

    things: list[Any] = []  # noqa: RUF012

    def __init__(self, **values: Any) -> None:
        self.values = {name: value for name, value in values.items() if name in {"pk", "total", "things"}}
        if "total" not in values:
            raise InvalidValue("total is required")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Careless) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]

    def save(self) -> None:
        pass


class Careful(Model):
    pk = StringAttribute(partition_key=True)
    total = NumberAttribute(required=True)
    things = ListAttribute(default=[])


def check_default_is_not_shared(model: Any) -> None:
    model(pk="a", total=1).things.append("x")
    assert model(pk="b", total=1).things == []


def check_misspelt_is_refused(model: Any) -> None:
    try:
        model(pk="a", total=1, thnigs=[])
    except TypeError:
        return
    raise AssertionError("dropped")


def check_required_refuses_none(model: Any) -> None:
    try:
        model(pk="a", total=None).save()
    except InvalidValue:
        return
    raise AssertionError("accepted")


def check_unsaved_are_not_equal(model: Any) -> None:
    assert model(pk="a", total=1) != model(pk="a", total=1)


CONSTRUCTION = [
    check_default_is_not_shared,
    check_misspelt_is_refused,
    check_required_refuses_none,
    check_unsaved_are_not_equal,
]


@pytest.mark.parametrize("check", CONSTRUCTION)
def test_construction(check):
    check(Careful)
    assert Careful.count() == 0


@pytest.mark.parametrize("check", CONSTRUCTION)
def test_careless_construction_is_seen(check):
    with seen():
        check(Careless)


# Hooks: an overridden one that runs twice, an async one that is never awaited.


def marks_of(model: type, kind: str) -> list[Callable[[Any], Any]]:
    """The faulty design: every marked function of every base class."""
    found = []
    for base in reversed(model.__mro__):
        found += [member for member in vars(base).values() if kind in getattr(member, "__mintkey_hooks__", ())]
    return found


RAN: list[str] = []


class Parent(Model):
    pk = StringAttribute(partition_key=True)

    @before_save
    def check(self) -> None:
        RAN.append("parent")


class Child(Parent):
    @before_save
    def check(self) -> None:
        RAN.append("child")


def check_runs_once(save: Callable[[Any], Any]) -> None:
    RAN.clear()
    save(Child(pk="a"))
    assert RAN == ["child"]


def test_an_overridden_hook_runs_once():
    check_runs_once(lambda item: item.save())


def test_a_hook_that_runs_once_for_each_class_is_seen():
    with seen():
        check_runs_once(lambda item: [hook(item) for hook in marks_of(type(item), "before_save")])


def test_an_async_hook_is_awaited_or_refused():
    class Waits(Model):
        pk = StringAttribute(partition_key=True)
        note = StringAttribute()

        @before_save
        async def fill(self) -> None:
            await asyncio.sleep(0)
            self.note = "filled"

    with pytest.raises(ConfigurationError, match="async"):
        Waits(pk="a").save()
    assert Waits.count() == 0
    asyncio.run(Waits(pk="a").asave())
    stored = Waits.get(pk="a")
    assert stored is not None
    assert stored.note == "filled"
