"""Nested classes: an abstract model or a dataclass as the value of a map."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, ModelConfig, auto
from mintkey.attributes import MapAttribute, NumberAttribute, StringAttribute
from mintkey.errors import ConfigurationError, InvalidValue


class Address(Model):
    model_config = ModelConfig(abstract=True)
    street = StringAttribute(required=True)
    number = NumberAttribute()
    id = StringAttribute(default=auto("nanoid", when="init"))


@dataclasses.dataclass
class Point:
    x: int
    y: int | None = None


class Person(Model):
    pk = StringAttribute(partition_key=True)
    address = MapAttribute(Address)
    point = MapAttribute(Point)


async def test_nested_values_read_back_as_their_class_and_compare_by_value(do):
    person = Person(pk="a", address=Address(street="Main", number=5), point=Point(1, 2))
    await do.save(person)
    first, second = await do.get(Person, pk="a"), await do.get(Person, pk="a")
    assert isinstance(first.address, Address)
    assert first.address == second.address == person.address
    assert first.address != Address(street="Main", number=5)
    assert first.point == Point(1, 2)
    assert first == person
    with pytest.raises(TypeError, match="Address is not hashable"):
        hash(first.address)
    first.address.number = 6
    assert first.changed == {"address"}
    await do.save(first)
    assert (await do.get(Person, pk="a")).address.number == 6


async def test_a_dict_is_checked_as_the_nested_class_would_be(do):
    person = Person(pk="a", address={"street": "Main"}, point={"x": 1})
    await do.save(person)
    stored = await do.get(Person, pk="a")
    assert (stored.address.street, stored.point) == ("Main", Point(1))
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"address": {"street": 5}}, "expected str, got int"),
        ({"address": {"stret": "x"}}, "did you mean 'street'"),
        ({"address": {}}, "required"),
        ({"address": 5}, "expected Address"),
        ({"point": {"z": 1}}, "z"),
    ]
    for wrong, told in wrongs:
        with pytest.raises(InvalidValue, match=told):
            await do.save(Person(pk="b", **wrong))
    assert await do.count(Person) == 1


async def test_an_instance_of_a_subclass_is_refused(do):
    class Wider(Address):
        model_config = ModelConfig(abstract=True)
        floor = NumberAttribute()

    with pytest.raises(InvalidValue, match=r"Person\.address: expected Address, got its subclass Wider"):
        await do.save(Person(pk="a", address=Wider(street="Main", floor=5)))
    stored = await do.create(Person, pk="a", address={"street": "Main"})
    with pytest.raises(InvalidValue, match="Wider"):
        await do.update(stored, address=Wider(street="Main"))


def test_what_only_a_save_would_mint_is_refused():
    class Late(Model):
        model_config = ModelConfig(abstract=True)
        at = StringAttribute(default=AutoGenerate.ISO8601)

    with pytest.raises(ConfigurationError, match=r"Late\.at would never be generated"):

        class Wrong(Model):
            pk = StringAttribute(partition_key=True)
            late = MapAttribute(Late)


async def test_an_abstract_model_has_nothing_to_ask(do):
    asked: list[Callable[[], object]] = [
        lambda: Address.query(street="x"),
        Address.scan,
        Address.count,
        Address.create_table,
    ]
    for ask in asked:
        with pytest.raises(ConfigurationError, match="Address is abstract"):
            ask()
    with pytest.raises(ConfigurationError, match="Address is abstract"):
        await do.save(Address(street="x"))
    for ask in [lambda: Model.get(id=1), lambda: Model.scan().all()]:
        with pytest.raises(ConfigurationError, match="Model itself has no attributes"):
            ask()


async def test_an_instance_may_come_twice_in_a_batch(do):
    class Minted(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)

    one = Minted()
    assert await do.batch_save(Minted, [one, Minted(), one]) == 3
    assert await do.count(Minted) == 2
