"""`return_old=True`: the row before an update or a deletion, which the store returns together with the write."""

from __future__ import annotations

import asyncio
import enum
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

import mintkey
from mintkey import Model, ModelConfig
from mintkey.attributes import (
    EnumAttribute,
    ListAttribute,
    NumberAttribute,
    StringAttribute,
    TTLAttribute,
    VersionAttribute,
)
from mintkey.errors import ConditionFailed, ItemGone, UnreadableItem, VersionConflict
from mintkey.hooks import after_load

LOADED: list[str] = []


class Order(Model):
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    status = StringAttribute(alias="s")
    n = NumberAttribute()
    tags = ListAttribute()
    ends = TTLAttribute()

    @after_load
    def loaded(self) -> None:
        LOADED.append(self.pk)


class Seat(Model):
    number = StringAttribute(partition_key=True)
    holder = StringAttribute()
    version = VersionAttribute()


class User(Model):
    name = StringAttribute(partition_key=True)
    email = StringAttribute(unique=True)
    age = NumberAttribute()


class Animal(Model):
    model_config = ModelConfig(table="animals")
    name = StringAttribute(partition_key=True)
    kind = StringAttribute(discriminator=True)


class Dog(Animal):
    legs = NumberAttribute()


class Status(enum.Enum):
    OPEN = "open"


class Ticket(Model):
    model_config = ModelConfig(table="tickets")
    pk = StringAttribute(partition_key=True)
    status = EnumAttribute(Status, alias="s")
    n = NumberAttribute()


class Labelled(Model):
    pk = StringAttribute(partition_key=True)
    status = StringAttribute()
    label = StringAttribute(template="{status}#{pk}")


async def test_the_row_before_an_update(do, store):
    LOADED.clear()
    order = Order(pk="a", sk="1", status="open", n=1, tags=["x"])
    await do.save(order)
    old = await do.update(order, Order.n.add(2), Order.tags.append(["y"]), status="paid", return_old=True)
    assert type(old) is Order
    assert old.to_dict() == {"pk": "a", "sk": "1", "status": "open", "n": 1, "tags": ["x"]}
    assert order.to_dict() == {"pk": "a", "sk": "1", "status": "paid", "n": 3, "tags": ["x", "y"]}
    assert order == await do.get(Order, "a", "1")
    assert not old.is_dirty
    assert not order.is_dirty
    assert LOADED == ["a"]
    # The store's row, not what the instance knew.
    await do.update_by_key(Order, ("a", "1"), n=10)
    assert (await do.update(order, Order.n.add(1), return_old=True)).n == 10
    assert order.n == 11
    assert await do.update(order, n=12) is None


async def test_the_row_before_an_update_by_key(do, store):
    await do.save(Order(pk="a", sk="1", n=1))
    old = await do.update_by_key(Order, ("a", "1"), Order.n.add(1), return_old=True)
    assert (old.n, (await do.get(Order, "a", "1")).n) == (1, 2)
    with pytest.raises(ItemGone):
        await do.update_by_key(Order, ("a", "2"), n=1, return_old=True)
    assert await do.update_by_key(Order, ("a", "2"), n=1, upsert=True, return_old=True) is None
    assert (await do.update_by_key(Order, ("a", "2"), n=5, upsert=True, return_old=True)).n == 1
    with pytest.raises(ConditionFailed) as failed:
        await do.update_by_key(Order, ("a", "2"), n=7, condition=Order.n == 1, return_old=True)
    assert failed.value.item.n == 5


async def test_an_upsert_of_an_instance(do, store):
    order = Order(pk="a", sk="1", status="open")
    assert await do.update(order, n=1, upsert=True, return_old=True) is None
    assert order == await do.get(Order, "a", "1")
    again = Order(pk="a", sk="1")
    old = await do.update(again, n=2, upsert=True, return_old=True)
    assert (old.n, old.status, again.status) == (1, "open", "open")


async def test_the_deleted_row(do, store):
    order = Order(pk="a", sk="1", n=1)
    await do.save(order)
    await do.update_by_key(Order, ("a", "1"), n=2)
    old = await do.delete(order, return_old=True)
    assert type(old) is Order
    assert (old.n, order.n) == (2, 1)
    assert await do.delete(order, return_old=True) is None
    await do.save(Order(pk="a", sk="1", n=3))
    with pytest.raises(ConditionFailed):
        await do.delete_by_key(Order, ("a", "1"), condition=Order.n == 1, return_old=True)
    assert (await do.delete_by_key(Order, ("a", "1"), condition=Order.n == 3, return_old=True)).n == 3
    assert await do.delete_by_key(Order, ("a", "1"), return_old=True) is None
    assert await do.delete_by_key(Order, ("a", "1")) is None


async def test_an_expired_row_counts_as_absent(do, store, clock):
    for number in "12":
        await do.save(Order(pk="a", sk=number, ends=clock.time + timedelta(seconds=3)))
    clock.advance(5)
    assert await do.delete_by_key(Order, ("a", "1"), return_old=True) is None
    assert await do.update_by_key(Order, ("a", "2"), n=1, upsert=True, return_old=True) is None


async def test_with_versions(do, store):
    seat = Seat(number="1", holder="ada")
    await do.save(seat)
    late = await do.get(Seat, "1")
    old = await do.update(seat, holder="bob", return_old=True)
    assert (old.holder, old.version, seat.version) == ("ada", 1, 2)
    with pytest.raises(VersionConflict):
        await do.update(late, holder="eve", return_old=True)
    with pytest.raises(VersionConflict):
        await do.delete(late, return_old=True)
    assert (await do.delete(seat, return_old=True)).holder == "bob"


async def test_with_unique_values(do, store):
    user = User(name="ada", email="a@x", age=1)
    await do.save(user)
    await do.update_by_key(User, "ada", age=2)
    old = await do.update(user, email="b@x", return_old=True)
    assert (old.email, old.age, user.email, user.age) == ("a@x", 2, "b@x", 2)
    assert (await do.update(user, age=3, return_old=True)).age == 2
    assert (await do.delete(user, return_old=True)).to_dict() == {"name": "ada", "email": "b@x", "age": 3}
    assert await do.delete_by_key(User, "ada", return_old=True) is None
    assert await do.get_by(User, email="b@x") is None


async def test_of_a_subclass_and_with_templates(do, store):
    await do.save(Dog(name="rex", legs=4))
    old = await do.delete_by_key(Animal, "rex", return_old=True)
    assert (type(old), old.legs) == (Dog, 4)
    await do.save(Labelled(pk="1", status="open"))
    row = await do.get(Labelled, "1")
    old = await do.update(row, status="paid", return_old=True)
    assert (old.label, row.label) == ("open#1", "paid#1")
    assert row == await do.get(Labelled, "1")


async def test_one_of_several_callers_gets_the_row(do, store):
    for number in range(5):
        await do.save(Order(pk="a", sk=str(number), n=0))
        if do.blocking:
            with ThreadPoolExecutor(8) as threads:
                calls = [threads.submit(Order.delete_by_key, ("a", str(number)), return_old=True) for _ in range(8)]
                found = [call.result() for call in calls]
        else:
            found = await asyncio.gather(*(Order.adelete_by_key(("a", str(number)), return_old=True) for _ in range(8)))
        assert [row.sk for row in found if row is not None] == [str(number)]


async def test_each_of_several_callers_gets_another_row(do, store):
    await do.save(Order(pk="a", sk="1", n=0))
    if do.blocking:
        with ThreadPoolExecutor(8) as threads:
            calls = [
                threads.submit(Order.update_by_key, ("a", "1"), Order.n.add(1), return_old=True) for _ in range(24)
            ]
            found = [call.result() for call in calls]
    else:
        found = await asyncio.gather(
            *(Order.aupdate_by_key(("a", "1"), Order.n.add(1), return_old=True) for _ in range(24))
        )
    assert {row.n for row in found if row is not None} == set(range(24))


async def test_refused_where_the_write_is_sent_later(do, store):
    order = Order(pk="a", sk="1", n=1)
    await do.save(order)
    told = r"Order: return_old=True needs the reply to this write, which a pipeline sends later"
    pipeline = mintkey.pipeline()
    with pytest.raises(TypeError, match=told):
        await do.update(order, n=2, pipeline=pipeline, return_old=True)
    with pytest.raises(TypeError, match=told):
        await do.delete(order, pipeline=pipeline, return_old=True)
    with pytest.raises(TypeError, match=told):
        await do.update_by_key(Order, ("a", "1"), n=2, pipeline=pipeline, return_old=True)
    with pytest.raises(TypeError, match=told):
        await do.delete_by_key(Order, ("a", "1"), pipeline=pipeline, return_old=True)
    with pytest.raises(TypeError, match=r"return_old= takes True or False, not 1"):
        await do.delete(order, return_old=1)
    assert len(pipeline) == 0
    with pytest.raises(TypeError, match=r"Order: return_old= belongs to update\(\) and delete\(\) of one item"):
        await do.update(Order.query(pk="a"), n=2, return_old=True)
    with pytest.raises(TypeError, match=r"return_old= belongs to"), mintkey.transaction() as tx:
        tx.update(order, n=2, return_old=True)
    assert (await do.get(Order, "a", "1")).n == 1


async def test_a_row_that_cannot_be_read_is_in_the_error(do, store, raw):
    other = raw(Ticket, s=StringAttribute(), n=NumberAttribute())
    stored = {"pk": "a", "s": "gone", "n": 1}
    told = r"The write was done, and `item` of this error is the row before it"
    await do.save(other(**stored))
    with pytest.raises(UnreadableItem, match=told) as failed:
        await do.update_by_key(Ticket, "a", n=2, return_old=True)
    assert (failed.value.written, failed.value.item) == (True, stored)
    with pytest.raises(
        UnreadableItem, match=r"The row was updated, and `item` of this error is its new state"
    ) as failed:
        await do.update(Ticket(pk="a"), n=3)
    assert (failed.value.written, failed.value.item) == (True, {**stored, "n": 3})
    with pytest.raises(UnreadableItem) as failed:
        await do.get(Ticket, "a")
    assert not failed.value.written
    ticket = Ticket(pk="a")
    with pytest.raises(UnreadableItem, match=told) as failed:
        await do.delete(ticket, return_old=True)
    assert (failed.value.written, failed.value.item) == (True, {**stored, "n": 3})
    assert await do.get(Ticket, "a") is None
    await do.save(ticket)
    assert await do.get(Ticket, "a") == ticket


async def test_a_row_of_an_unknown_class_is_in_the_error(do, store, raw):
    other = raw(Animal, kind=StringAttribute(), legs=NumberAttribute())
    await do.batch_save(other, [other(name=name, kind="unicorn", legs=4) for name in ("amalthea", "jörmun", "pia")])
    with pytest.raises(UnreadableItem, match=r"discriminator 'unicorn'.* The write was done") as failed:
        await do.delete_by_key(Animal, "amalthea", return_old=True)
    assert (failed.value.written, failed.value.item) == (True, {"name": "amalthea", "kind": "unicorn", "legs": 4})
    # The error has what is needed to write the row again.
    await do.save(other(**(failed.value.item or {})))
    assert await do.delete_by_key(Animal, "amalthea") is None
    with pytest.raises(ConditionFailed):
        await do.delete_by_key(Dog, "pia", return_old=True)
    assert {row.name for row in await do.all(do.scan(other))} == {"jörmun", "pia"}
