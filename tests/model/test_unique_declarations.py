"""Declarations of unique values: what may be unique, among which items, and under which name in the store."""

from __future__ import annotations

import enum
import logging
from typing import Any

import pytest

from mintkey import Model, ModelConfig
from mintkey.attributes import (
    BinaryAttribute,
    BooleanAttribute,
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    IntegerAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
    TimeAttribute,
    TimedeltaAttribute,
    TTLAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.errors import ConfigurationError
from mintkey.fields import AutoKeyField, Field, KeyField, UniqueField, UniqueKeyField
from mintkey.references import Reference


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mixed(enum.Enum):
    TEXT = "text"
    NUMBER = 1


def declared(model: Any) -> list[Any]:
    return [plan.declaration for plan in model.__mintkey_schema__.unique]


def model_of(attributes: dict[str, Any], **config: Any) -> Any:
    own = {"model_config": ModelConfig(**config)} if config else {}
    return type("Thing", (Model,), {**own, "id": StringAttribute(partition_key=True), **attributes})


class Target(Model):
    id = StringAttribute(partition_key=True)


@pytest.mark.parametrize(
    "attribute",
    [
        StringAttribute(unique=True),
        NumberAttribute(unique=True),
        IntegerAttribute(unique=True),
        DecimalAttribute(unique=True),
        BinaryAttribute(unique=True),
        UUIDAttribute(unique=True),
        EnumAttribute(Colour, unique=True),
        DatetimeAttribute(unique=True),
        DateAttribute(unique=True),
        TimeAttribute(unique=True),
        TimedeltaAttribute(unique=True),
        Reference(Target, unique=True),
        Field(unique=True),
        Field(type=int, unique=True),
        UniqueField(),
        UniqueField(type=Colour),
    ],
    ids=lambda one: f"{type(one).__name__}-{one.kind}",
)
def test_values_of_one_piece_can_be_unique(attribute):
    assert declared(model_of({"value": attribute})) == [("value", ["value"], [], None)]


@pytest.mark.parametrize(
    "attribute",
    [
        BooleanAttribute(unique=True),
        ListAttribute(unique=True),
        MapAttribute(unique=True),
        JSONAttribute(unique=True),
        StringSetAttribute(unique=True),
        TTLAttribute(unique=True),
        VersionAttribute(unique=True),
        EnumAttribute(Mixed, unique=True),
        Field(type=bool, unique=True),
        UniqueField(type=list),
    ],
    ids=lambda one: f"{type(one).__name__}-{one.kind}",
)
def test_other_values_cannot(attribute):
    with pytest.raises(ConfigurationError, match=r"Thing\.value: .*cannot be (unique|indexed)") as raised:
        model_of({"value": attribute})
    assert raised.value.attribute == "value"


@pytest.mark.parametrize(
    ("attributes", "config", "told"),
    [
        (
            {"id": StringAttribute(partition_key=True, unique=True)},
            {},
            r"Thing\.id: this is the whole key, and a key is",
        ),
        ({"id": KeyField(unique=True)}, {}, r"Thing\.id: this is the whole key"),
        ({}, {"unique": [("id",)]}, r"Thing\.id: this is the whole key"),
        ({"n": NumberAttribute()}, {"unique": [("n", "id")]}, r"unique=\[\('n', 'id'\)\].*the whole key is among them"),
        ({"sk": StringAttribute(sort_key=True)}, {"unique": [("sk", "id")]}, "this is the whole key"),
        ({}, {"unique": [("email",)]}, "Thing has no attribute 'email'"),
        ({"a": Field(), "b": ListAttribute()}, {"unique": [("a", "b")]}, "'b', a ListAttribute, cannot be unique"),
        ({"a": Field()}, {"unique": [("a", "a")]}, "a name occurs twice"),
        (
            {"a": Field(default="x", unique=True)},
            {},
            r"Thing\.a: with a constant default= all items would have the same",
        ),
        ({"a": Field(default="x"), "b": Field(default="y")}, {"unique": [("a", "b")]}, "with a constant default="),
        ({"kind": StringAttribute(discriminator=True, unique=True)}, {}, r"Thing\.kind: .*remove unique="),
        ({"a" * 250: StringAttribute(unique=True, alias="é" * 128)}, {}, "has 256 bytes, and may have 255"),
    ],
)
def test_what_is_refused(attributes, config, told):
    with pytest.raises(ConfigurationError, match=told):
        model_of(attributes, **config)


@pytest.mark.parametrize("given", [("tenant", "email"), "email", ["email"], [()], {"a"}, [("a", "b"), "c"], None])
def test_sets_are_a_list_of_tuples(given):
    with pytest.raises(ConfigurationError, match=r"unique= takes a list of tuples of names, such as"):
        ModelConfig(unique=given)


def test_parts_of_a_key_can_be_unique():
    class Seat(Model):
        row = StringAttribute(partition_key=True)
        number = NumberAttribute(sort_key=True, unique=True)

    class Member(Model):
        band = KeyField()
        role = KeyField(unique=True)

    assert declared(Seat) == [("number", ["number"], [], None)]
    assert declared(Member) == [("role", ["role"], [], None)]


def test_a_unique_key_field_that_is_the_key_declares_nothing_more():
    class Person(Model):
        email = UniqueKeyField()
        name = UniqueField()

    class Order(Model):
        id = AutoKeyField()
        number = UniqueKeyField(type=int, alias="no")

    assert declared(Person) == [("name", ["name"], [], None)]
    assert declared(Order) == [("no", ["no"], [], None)]


def test_sets_use_stored_names_and_are_declared_once():
    thing = model_of(
        {"a": StringAttribute(alias="x,y"), "b": NumberAttribute(unique=True), "c": Field()},
        unique=[("a", "c"), ["c", "a"], ("b",)],
    )
    assert declared(thing) == [("b", ["b"], [], None), ("x%2Cy,c", ["x,y", "c"], [], None)]


def test_an_abstract_class_passes_its_declarations_on():
    class Named(Model):
        model_config = ModelConfig(abstract=True, unique=[("tenant", "handle")])
        tenant = StringAttribute()
        handle = StringAttribute()
        email = StringAttribute(unique=True)

    class Person(Named):
        id = StringAttribute(partition_key=True)

    class Company(Named):
        model_config = ModelConfig(unique=[("tenant", "number")])
        id = StringAttribute(partition_key=True)
        number = NumberAttribute()

    both: list[Any] = [("email", ["email"], [], None), ("tenant,handle", ["tenant", "handle"], [], None)]
    assert declared(Named) == []
    assert declared(Person) == both
    assert declared(Company) == [*both, ("tenant,number", ["tenant", "number"], [], None)]


def test_values_inside_of_a_map_cannot_be_unique():
    class City(Model):
        model_config = ModelConfig(abstract=True)
        name = StringAttribute(unique=True)

    class Place(Model):
        model_config = ModelConfig(abstract=True, unique=[("a", "b")])
        a = StringAttribute()
        b = StringAttribute()

    for nested, told in ((City, r"City\.name"), (Place, r"Place\.model_config")):
        with pytest.raises(ConfigurationError, match=rf"Thing\.value: .* remove unique= from {told}"):
            model_of({"value": MapAttribute(nested)})


def test_the_scope_is_the_declaring_class_with_its_subclasses():
    class Base(Model):
        model_config = ModelConfig(abstract=True)
        email = StringAttribute(unique=True)

    class Person(Base):
        model_config = ModelConfig(table="persons")
        pk = StringAttribute(partition_key=True)
        kind = StringAttribute(discriminator=True, alias="k")

    class Employee(Person):
        model_config = ModelConfig(discriminator="employee")
        number = NumberAttribute(unique=True)

    class Manager(Employee):
        email = StringAttribute()

    class Guest(Person):
        number = NumberAttribute(unique=True)

    def of_email(*values: str) -> Any:
        return ("email|k=Person", ["email"], [], ("k", list(values), True))

    assert declared(Person) == [of_email("Person")]
    assert declared(Employee) == [
        of_email("Person", "employee"),
        ("number|k=employee", ["number"], [], ("k", ["employee"], False)),
    ]
    # A subclass that declares the attribute again stays in the scope of its base class.
    assert declared(Manager) == [
        of_email("Manager", "Person", "employee"),
        ("number|k=employee", ["number"], [], ("k", ["Manager", "employee"], False)),
    ]
    assert declared(Guest) == [
        of_email("Guest", "Manager", "Person", "employee"),
        ("number|k=Guest", ["number"], [], ("k", ["Guest"], False)),
    ]


def test_classes_with_templates_share_a_table():
    class User(Model):
        model_config = ModelConfig(table="shop")
        pk = StringAttribute(partition_key=True, template="USER#{id}")
        sk = StringAttribute(sort_key=True, template="PROFILE")
        id = StringAttribute()
        email = StringAttribute(unique=True)

    class Company(Model):
        model_config = ModelConfig(table="shop")
        pk = StringAttribute(partition_key=True, template="{id}#COMPANY")
        sk = StringAttribute(sort_key=True, template="COMPANY#{n}", alias="s")
        id = StringAttribute()
        n = StringAttribute()
        email = StringAttribute(unique=True)

    prefixes = [("pk", "USER#", False), ("sk", "PROFILE", True)]
    assert declared(User) == [("email|pk=USER#|sk=PROFILE", ["email"], prefixes, None)]
    assert declared(Company) == [("email|s=COMPANY#", ["email"], [("s", "COMPANY#", False)], None)]


def test_an_attribute_named_get_by_wins_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "mintkey"):
        thing = model_of({"get_by": StringAttribute()})
    assert caplog.messages == ["Thing.get_by hides the method Model.get_by()"]
    assert thing(get_by="x").get_by == "x"
