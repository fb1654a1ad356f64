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


class Entry(Model):
    book = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True)
    n = NumberAttribute()
    text = StringAttribute()
    things = ListAttribute()
    words = StringSetAttribute()
    code = StringAttribute(unique=True)


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


async def test_set_if_absent_counts_a_null_attribute_as_absent(do, write):
    write(Row, pk="a", n=None, text=None, data={"note": None})
    await do.update_by_key(Row, "a", Row.text.set_if_absent("t"), Row.data["note"].set_if_absent("x"), n=1)
    row = await do.get(Row, "a")
    # Inside a map a null is a value.
    assert (row.text, row.n, row.data) == ("t", 1, {"note": None})
    await do.update(row, Row.text.set_if_absent("u"), Row.things.set_if_absent([1]), condition=Row.n == 1)
    assert (row.text, row.things) == ("t", [1])
    write(Row, pk="b", n=1, text=None)
    with pytest.raises(ConditionFailed):
        await do.update_by_key(Row, "b", Row.text.set_if_absent("t"), condition=Row.n == 2)
    await do.update_by_key(Row, "b", Row.text.set_if_absent("t"), Row.n.add(1), condition=Row.n == 1)
    row = await do.get(Row, "b")
    assert (row.text, row.n) == ("t", 2)
    await do.update_by_key(Row, "c", Row.text.set_if_absent("t"), upsert=True)
    assert (await do.get(Row, "c")).text == "t"


NULL_CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "add": (lambda: [Entry.n.add(2)], {"n": 2}),
    "append": (lambda: [Entry.things.append([1])], {"things": [1]}),
    "prepend": (lambda: [Entry.things.prepend([1])], {"things": [1]}),
    "add to a set": (lambda: [Entry.words.add_to_set(["x"])], {"words": {"x"}}),
    "delete from a set": (lambda: [Entry.words.delete_from_set(["x"])], {"words": set()}),
    "set if absent": (lambda: [Entry.text.set_if_absent("t")], {"text": "t"}),
    "several": (
        lambda: [Entry.n.add(2), Entry.things.append([1]), Entry.text.set_if_absent("t")],
        {"n": 2, "things": [1], "text": "t"},
    ),
}


@pytest.mark.parametrize("name", NULL_CHANGES)
async def test_null_is_absence_in_changes_of_a_transaction(do, write, name):
    make, expected = NULL_CHANGES[name]
    nulls = dict.fromkeys(("n", "text", "things", "words"))
    write(Entry, book="b", id="1", **nulls)
    write(Entry, book="b", id="2", **nulls)
    loaded = await do.get(Entry, ("b", "2"))
    async with begun(do) as tx:
        tx.update_by_key(Entry, ("b", "1"), *make())
        tx.update(loaded, *make(), condition=Entry.n.does_not_exist(), code="c2")
        tx.save(Entry(book="b", id="3", n=3))
        tx.update_by_key(Entry, ("b", "4"), *make(), upsert=True)
    for entry in (loaded, *[await do.get(Entry, ("b", key)) for key in "124"]):
        assert {field: getattr(entry, field) for field in expected} == expected, entry
    assert ((await do.get(Entry, ("b", "2"))).code, (await do.get(Entry, ("b", "3"))).n) == ("c2", 3)


async def test_a_transaction_with_nulls_is_refused_as_others_are(do, write):
    write(Entry, book="b", id="1", n=None, text=None)
    write(Entry, book="b", id="2", n=1)
    async with refused(do) as (tx, raised):
        tx.update_by_key(Entry, ("b", "1"), Entry.n.add(1), Entry.text.set_if_absent("t"))
        tx.update_by_key(Entry, ("b", "2"), n=2, condition=Entry.n == 5)
    assert [type(reason) for reason in raised.value.reasons] == [type(None), ConditionFailed]
    async with refused(do) as (tx, raised):
        tx.update_by_key(Entry, ("b", "1"), Entry.text.set_if_absent("t"), condition=Entry.n.exists())
    assert [type(reason) for reason in raised.value.reasons] == [ConditionFailed]
    found = await do.get(Entry, ("b", "1"))
    assert (found.n, found.text, (await do.get(Entry, ("b", "2"))).n) == (None, None, 1)


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
