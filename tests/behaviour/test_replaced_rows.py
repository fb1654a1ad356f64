"""Rows that became rows of another class, nulls of other programs in conditions and changes, and wrong changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.behaviour.transacting import begun, refused

from mintkey import Model, ModelConfig, _core
from mintkey.attributes import (
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
    VersionAttribute,
)
from mintkey.errors import ConditionFailed, InvalidValue, ItemGone


class Animal(Model):
    model_config = ModelConfig(table="animals")
    name = StringAttribute(partition_key=True)
    kind = StringAttribute(discriminator=True)
    note = StringAttribute()
    version = VersionAttribute()


class Dog(Animal):
    legs = NumberAttribute()


class Cat(Animal):
    lives = NumberAttribute()


class Row(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    text = StringAttribute()
    things = ListAttribute()
    words = StringSetAttribute()
    data = MapAttribute()


@pytest.fixture
def write(store) -> Any:
    """Writes a row as another program does."""

    def put(model: Any, /, **stored: Any) -> None:
        schema = model.__mintkey_schema__
        store.claim(schema)
        item = _core.Item.from_json(json.dumps(stored))
        store._core.execute(schema.codec.put(item, row="any", version=None))

    return put


@pytest.fixture
async def replaced(do, store) -> Dog:
    """A loaded dog whose row is a cat of the same version now."""
    await do.save(Dog(name="rex", legs=4))
    dog = await do.get(Dog, "rex")
    await do.delete_by_key(Animal, "rex")
    await do.save(Cat(name="rex", lives=9))
    return dog


@pytest.mark.parametrize("call", ["save", "replace", "update", "delete", "transaction", "upsert"])
async def test_a_row_of_another_class_is_not_written(do, replaced, call):
    told = "the row is of another class than Dog"
    if call in {"save", "replace"}:
        replaced.legs = 3
        with pytest.raises(ConditionFailed, match=told) as failed:
            await do.save(replaced, replace=call == "replace")
        assert (type(failed.value.item), failed.value.item.lives) == (Cat, 9)
    elif call in {"update", "upsert"}:
        with pytest.raises(ConditionFailed, match=told) as failed:
            await do.update(replaced, legs=3, upsert=call == "upsert")
        assert type(failed.value.item) is Cat
    elif call == "delete":
        with pytest.raises(ConditionFailed, match=told):
            await do.delete(replaced)
    else:
        async with refused(do, match=told) as (tx, _):
            tx.update(replaced, legs=3)
    assert (await do.get(Cat, "rex")).to_dict() == {"name": "rex", "kind": "Cat", "lives": 9, "version": 1}
    assert await do.get(Dog, "rex") is None


async def test_a_row_of_another_class_is_not_refreshed(do, replaced):
    before = replaced.to_dict()
    with pytest.raises(ItemGone, match="now of another class than Dog"):
        await do.refresh(replaced)
    assert replaced.to_dict() == before
    with pytest.raises(ConditionFailed):
        await do.update(replaced, legs=3)


async def test_a_row_of_a_subclass_is_another_class_for_an_instance(do, store):
    await do.save(Animal(name="rex", note="a"))
    animal = await do.get(Animal, "rex")
    await do.delete_by_key(Animal, "rex")
    await do.save(Dog(name="rex", legs=4))
    animal.note = "b"
    with pytest.raises(ConditionFailed, match="the row is of another class than Animal"):
        await do.save(animal)
    # By key, a base class writes the rows of its subclasses.
    await do.update_by_key(Animal, "rex", note="c")
    dog = await do.get(Dog, "rex")
    assert (dog.note, dog.legs) == ("c", 4)
    dog.legs = 3
    await do.save(dog)
    assert not dog.is_dirty
    await do.save(dog)
    await do.delete(dog)


async def test_a_transaction_checks_rows_of_its_class(do, replaced):
    async with refused(do, match="the row is of another class than Dog") as (tx, failed):
        tx.check(Dog, "rex", Dog.note.does_not_exist())
    assert type(failed.value.reasons[0].item) is Cat
    async with begun(do) as tx:
        tx.check(Cat, "rex", Cat.lives == 9)
    async with begun(do) as tx:
        tx.check(Dog, "nobody", Dog.legs.does_not_exist())
    async with begun(do) as tx:
        tx.check(Animal, "rex", Animal.note.does_not_exist())


async def test_null_is_absence_in_conditions(do, write):
    write(Row, pk="a", n=None, text=None, things=[None], data={"x": None})
    write(Row, pk="b", n=1)
    for attribute in (Row.n, Row.text, Row.words):
        found = await do.iterate(do.scan(Row, attribute.exists()))
        assert sorted(row.pk for row in found) == (["b"] if attribute is Row.n else [])
        found = await do.iterate(do.scan(Row, attribute.does_not_exist()))
        assert sorted(row.pk for row in found) == (["a"] if attribute is Row.n else ["a", "b"])
    # In plain maps and lists a null is a value.
    for path in (Row.data["x"], Row.things[0]):
        assert [row.pk for row in await do.iterate(do.scan(Row, path.exists()))] == ["a"]
    with pytest.raises(ConditionFailed):
        await do.update_by_key(Row, "a", text="x", condition=Row.n.exists())
    await do.update_by_key(Row, "a", text="x", condition=Row.n.does_not_exist())
    assert repr(Row.n.exists()) == "Row.n.exists()"
    assert repr(Row.pk.exists()) == "Row.pk.exists()"


async def test_null_is_absence_in_changes(do, write):
    write(Row, pk="a", n=None, things=None, words=None)
    await do.update_by_key(Row, "a", Row.n.add(2), Row.things.append([1]), Row.words.add_to_set(["x"]))
    row = await do.get(Row, "a")
    assert (row.n, row.things, row.words) == (2, [1], {"x"})
    write(Row, pk="b", n=None, words=None, things=None)
    row = await do.get(Row, "b")
    await do.update(row, Row.n.add(1), Row.words.delete_from_set(["x"]), Row.things.prepend([1]), text="t")
    assert (row.n, row.words, row.things, row.text) == (1, set(), [1], "t")
    assert row == await do.get(Row, "b")
    write(Row, pk="c", n=None)
    with pytest.raises(ConditionFailed):
        await do.update_by_key(Row, "c", Row.n.add(1), condition=Row.text == "x")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"n": "five"}, r"Row\.n"),
        ({"text": 5}, r"Row\.text"),
        ({"words": ["a"]}, r"Row\.words"),
        ({"data": object()}, r"Row\.data"),
    ],
)
async def test_a_wrong_value_for_all_rows_is_refused_at_once(do, store, values, told):
    await do.save(Row(pk="a", n=1))
    with pytest.raises(InvalidValue, match=told):
        await do.update(Row.query.filter(n=1), **values)
    with pytest.raises(InvalidValue, match=told):
        await do.update(Row.query.filter(n=2), **values)
    assert await do.update(Row.query.filter(n=1), n=2) == 1
