"""Among which items values are unique, and what happens when a declaration comes to a table with items."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mintkey import Model, ModelConfig
from mintkey.attributes import ExpiresIn, NumberAttribute, StringAttribute, TTLAttribute
from mintkey.errors import UniqueViolation


class Person(Model):
    model_config = ModelConfig(table="persons")
    pk = StringAttribute(partition_key=True)
    kind = StringAttribute(discriminator=True)
    email = StringAttribute(unique=True)


class Employee(Person):
    number = NumberAttribute(unique=True)


class Visitor(Model):
    """Of another family in the same table."""

    model_config = ModelConfig(table="persons")
    pk = StringAttribute(partition_key=True)
    kind = StringAttribute(discriminator=True)
    email = StringAttribute()
    number = NumberAttribute(unique=True)


class User(Model):
    model_config = ModelConfig(table="shop")
    pk = StringAttribute(partition_key=True, template="USER#{id}")
    sk = StringAttribute(sort_key=True, template="PROFILE")
    id = StringAttribute()
    email = StringAttribute(unique=True)


class Company(Model):
    model_config = ModelConfig(table="shop")
    pk = StringAttribute(partition_key=True, template="COMPANY#{id}")
    sk = StringAttribute(sort_key=True, template="PROFILE")
    id = StringAttribute()
    email = StringAttribute(unique=True)


class Login(Model):
    """Its keys begin as those of users, and its e-mail addresses may repeat."""

    model_config = ModelConfig(table="shop")
    pk = StringAttribute(partition_key=True, template="USER#{id}")
    sk = StringAttribute(sort_key=True, template="PROFILE#{n}")
    id = StringAttribute()
    n = StringAttribute()
    email = StringAttribute()


class Before(Model):
    """A table before it has unique values."""

    model_config = ModelConfig(table="grown")
    id = StringAttribute(partition_key=True)
    email = StringAttribute(alias="mail")
    n = NumberAttribute()
    until = TTLAttribute()


class After(Model):
    model_config = ModelConfig(table="grown", unique=[("email", "n")])
    id = StringAttribute(partition_key=True)
    email = StringAttribute(alias="mail", unique=True)
    n = NumberAttribute()
    until = TTLAttribute()


class Half(Model):
    """Does not know that e-mail addresses alone are unique."""

    model_config = ModelConfig(table="grown", unique=[("email", "n")])
    id = StringAttribute(partition_key=True)
    email = StringAttribute(alias="mail")
    n = NumberAttribute()


async def test_a_class_and_its_subclasses_share_the_values(do):
    await do.create(Person, pk="1", email="a")
    await do.create(Employee, pk="2", email="b", number=1)
    for model, email in ((Person, "b"), (Employee, "a"), (Employee, "b")):
        with pytest.raises(UniqueViolation) as raised:
            await do.create(model, pk="3", email=email)
        assert raised.value.holder == {"pk": "1" if email == "a" else "2"}
    found = await do.get_by(Person, email="b")
    assert (type(found), found.number) == (Employee, 1)
    assert (await do.get_by(Employee, email="b")) == found
    # The value is held by an item that is no employee.
    assert await do.get_by(Employee, email="a") is None


async def test_other_classes_in_the_table_have_values_of_their_own(do):
    await do.create(Person, pk="1", email="a")
    await do.create(Employee, pk="2", email="b", number=1)
    await do.create(Visitor, pk="3", email="a", number=1)
    await do.create(Visitor, pk="4", email="a", number=2)
    with pytest.raises(UniqueViolation) as raised:
        await do.create(Visitor, pk="5", number=1)
    assert raised.value.holder == {"pk": "3"}
    assert (await do.get_by(Employee, number=1)).pk == "2"
    assert (await do.get_by(Visitor, number=1)).pk == "3"


async def test_a_subclass_that_is_defined_later_joins(do):
    await do.create(Person, pk="1", email="a")

    class Guest(Person):
        host = StringAttribute(unique=True)

    with pytest.raises(UniqueViolation) as raised:
        await do.create(Guest, pk="2", email="a")
    assert (raised.value.attribute, raised.value.holder) == ("email", {"pk": "1"})
    await do.create(Guest, pk="2", email="b", host="x")
    with pytest.raises(UniqueViolation):
        await do.create(Person, pk="3", email="b")
    assert (await do.get_by(Person, email="b")).host == "x"


async def test_templates_tell_the_classes_of_a_table_apart(do):
    await do.create(User, id="1", email="a")
    await do.create(Company, id="1", email="a")
    await do.create(Login, id="1", n="1", email="a")
    await do.create(Login, id="1", n="2", email="a")
    for model, key in ((User, "USER#1"), (Company, "COMPANY#1")):
        with pytest.raises(UniqueViolation) as raised:
            await do.create(model, id="2", email="a")
        assert raised.value.holder == {"pk": key, "sk": "PROFILE"}
        assert (await do.get_by(model, email="a")).id == "1"
    assert type(await do.get_by(User, email="a")) is User


async def test_writers_follow_the_table_and_not_only_their_class(do, store):
    await do.create(After, id="1", email="a", n=1)
    # On a store that creates no tables by itself, a class without unique values does not look at those of others.
    for model in (Half, Before) if store.creates_tables else (Half,):
        with pytest.raises(UniqueViolation) as raised:
            await do.create(model, id="2", email="a", n=2)
        assert (raised.value.attribute, raised.value.value, raised.value.holder) == ("email", "a", {"id": "1"})
        await do.create(model, id="2", email="b", n=2)
        assert (await do.get_by(After, email="b")).id == "2"
        await do.delete(await do.get(model, "2"))
        await do.create(After, id="3", email="b")
        await do.delete_by_key(After, "3")


async def test_a_declaration_that_comes_later_covers_the_items_that_are_there(do):
    await do.batch_save(Before, [Before(id=str(n), email=f"{n}", n=n) for n in range(20)])
    await do.batch_save(Before, [Before(id=f"without {n}") for n in range(3)])
    await do.create_table(After)
    for n in range(20):
        found: Any = await do.get_by(After, email=str(n))
        assert found.id == str(n)
        assert (await do.get_by(After, email=str(n), n=n)).id == str(n)
    with pytest.raises(UniqueViolation) as raised:
        await do.create(After, id="new", email="7")
    assert raised.value.holder == {"id": "7"}


async def test_duplicates_are_reported_and_the_table_stays_as_it_was(do, clock):
    rows = {"1": "a", "2": "b", "3": "a", "4": "c", "5": "b", "6": "b", "7": None}
    await do.batch_save(Before, [Before(id=key, email=email) for key, email in rows.items()])
    await do.create(Before, id="expired", email="c", until=ExpiresIn.seconds(5))
    clock.advance(timedelta(seconds=5))
    with pytest.raises(UniqueViolation) as raised:
        await do.create_table(After)
    error = raised.value
    assert (error.attribute, error.model, error.holder) == ("email", "After", None)
    found = {value: sorted(str(key["id"]) for key in keys) for value, keys in error.duplicates}
    assert found == {"a": ["1", "3"], "b": ["2", "5", "6"]}
    assert "change or delete" in str(error)
    # As before, duplicates can be written by the old class.
    await do.create(Before, id="8", email="a")
    assert {row.id: row.email async for row in Before.ascan()} == {**rows, "8": "a"}
    for key, email in (("3", "a3"), ("8", "a8"), ("5", "b5"), ("6", "b6")):
        await do.update_by_key(Before, key, email=email)
    await do.create_table(After)
    assert (await do.get_by(After, email="a")).id == "1"
    with pytest.raises(UniqueViolation):
        await do.create(After, id="9", email="a")


async def test_a_declaration_is_dropped(do):
    await do.create_table(After)
    for key, email, n in (("1", "a", 1), ("2", "b", 2)):
        await do.create(After, id=key, email=email, n=n)
    with pytest.raises(TypeError, match=r"drop_unique=\['email'\]"):
        await do.create_table(Half, drop_unique="email")
    for _ in range(2):
        await do.create_table(Half, drop_unique=["email", ("n", "email"), "n"])
        await do.create(Half, id="3", email="a", n=3)
        with pytest.raises(UniqueViolation) as raised:
            await do.create(Half, id="4", email="a", n=1)
        assert (raised.value.attribute, raised.value.holder) == (("email", "n"), {"id": "1"})
        await do.delete_by_key(Half, "3")
    await do.create_table(Before, drop_unique=[("email", "n")])
    await do.create(Before, id="4", email="a", n=1)
    # It can be declared again.
    with pytest.raises(UniqueViolation) as raised:
        await do.create_table(After)
    assert sorted(keys for _, keys in raised.value.duplicates) == [[{"id": "1"}, {"id": "4"}]] * 2
    await do.delete_by_key(Before, "4")
    await do.create_table(After)
    assert (await do.get_by(After, email="a")).id == "1"
    # A class that still declares it has it built again.
    await do.create_table(After, drop_unique=["email"])
    with pytest.raises(UniqueViolation):
        await do.create(After, id="5", email="b")
    assert (await do.get_by(After, email="b")).id == "2"


async def test_a_misspelt_declaration_is_not_dropped(do):
    await do.create(After, id="1", email="a", n=1)
    for wrong in ("emial", ("emial", "n")):
        with pytest.raises(TypeError, match=r"no attribute 'emial' \(did you mean 'email'\?\)"):
            await do.create_table(Half, drop_unique=["email", wrong])
    values: list[Any] = [[5], 5, [()], [("n", 5)]]
    for value in values:
        with pytest.raises(TypeError, match=r"Half: drop_unique= takes a list of names and tuples of names, not"):
            await do.create_table(Half, drop_unique=value)
    # Nothing was dropped.
    with pytest.raises(UniqueViolation):
        await do.create(Half, id="2", email="a", n=2)

    class Bare(Model):
        model_config = ModelConfig(table="grown")
        id = StringAttribute(partition_key=True)

    await do.create_table(Bare, drop_unique=["mail"])
    await do.create(Half, id="2", email="a", n=2)
    with pytest.raises(TypeError, match="no attribute 'mail'"):
        await do.create_table(Bare, drop_unique=["mail"])


async def test_subclasses_and_templates_drop_their_own(do):
    await do.create(Employee, pk="1", email="a", number=1)
    await do.create(Visitor, pk="2", email="a", number=1)
    await do.create_table(Visitor, drop_unique=["number"])
    assert (await do.get_by(Employee, number=1)).pk == "1"
    assert (await do.get_by(Visitor, number=1)).pk == "2"
