"""What an item is: equality, hash, copies, and which table and names it has in the store."""

from __future__ import annotations

import copy
import pickle

import pytest

from mintkey import Model, ModelConfig
from mintkey.attributes import BooleanAttribute, ListAttribute, NumberAttribute, StringAttribute, StringSetAttribute


class Order(Model):
    model_config = ModelConfig(table="orders")
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    total = NumberAttribute()
    status = StringAttribute()
    lines = ListAttribute()
    tags = StringSetAttribute()


async def stored(do):
    """What the store holds, as a dict."""
    item = await do.get(Order, pk="A", sk="1")
    return None if item is None else item.to_dict()


@pytest.fixture
async def order(do):
    """A saved order."""
    made = Order(pk="A", sk="1", total=5, status="new", lines=[1, {"n": [2]}], tags={"x"})
    await do.save(made)
    return made


async def test_equality_compares_class_key_and_values(do, order):
    same, other = await do.get(Order, pk="A", sk="1"), Order(pk="A", sk="2", total=5)
    await do.save(other)
    assert order == same
    assert order != other
    same.total = 6
    assert order != same
    same.total = 5.0
    assert order == same
    assert order != "A"
    assert len({order, same}) == 1

    class Stranger(Order):
        model_config = ModelConfig(table="orders")

    twin = await do.get(Stranger, pk="A", sk="1")
    assert twin.to_dict() == order.to_dict()
    assert twin != order


async def test_two_unsaved_objects_are_equal_only_if_they_are_the_same(do, order):
    one, two = Order(pk="B", sk="1"), Order(pk="B", sk="1")
    assert one == one  # noqa: PLR0124
    assert one != two
    assert order != Order.from_dict(order.to_dict())


async def test_the_hash_of_a_stored_item_stays(do, order):
    before = hash(order)
    order.total = 99
    assert hash(order) == before
    await do.save(order)
    assert hash(order) == before
    assert hash(await do.get(Order, pk="A", sk="1")) == before


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda item: pickle.loads(pickle.dumps(item))])
async def test_copies_and_pickles_are_instances_of_their_own(do, order, copied):
    twin = copied(order)
    assert twin == order
    assert not twin.is_dirty
    assert hash(twin) == hash(order)
    twin.status = "changed"
    assert order.status == "new"
    await do.save(twin)
    assert (await stored(do))["status"] == "changed"
    assert twin != order
    await do.delete(twin)
    assert not order.is_dirty


async def test_a_deep_copy_shares_no_list(do, order):
    twin = copy.deepcopy(order)
    twin.lines.append("deep")
    assert order.lines == [1, {"n": [2]}]
    assert twin.changed == {"lines"}


async def test_repr_shows_the_values(do, order):
    shown = repr(order)
    assert shown.startswith("Order(")
    assert all(part in shown for part in ("pk='A'", "total=5", "status='new'"))
    assert repr(Order(sk="1")) == "Order(sk='1')"


# several models


async def test_tables_do_not_mix(do, order):
    class Other(Model):
        model_config = ModelConfig(table="orders.2")
        pk = StringAttribute(partition_key=True)
        sk = StringAttribute(sort_key=True)

    await do.save(Other(pk="A", sk="1"))
    assert await do.count(Other) == 1
    assert (await stored(do))["total"] == 5
    await do.delete(await do.get(Other, pk="A", sk="1"))
    assert await stored(do) is not None


async def test_two_classes_share_a_table_that_both_name(do, order):
    class Summary(Model):
        model_config = ModelConfig(table="orders")
        pk = StringAttribute(partition_key=True)
        sk = StringAttribute(sort_key=True)
        status = StringAttribute()

    short = await do.get(Summary, pk="A", sk="1")
    assert short.to_dict() == {"pk": "A", "sk": "1", "status": "new"}
    short.status = "seen"
    await do.save(short)
    assert await stored(do) == {**order.to_dict(), "status": "seen"}


async def test_a_subclass_has_a_table_of_its_own(do, order):
    class Special(Order):
        extra = BooleanAttribute()

    special = Special(pk="A", sk="1", extra=True)
    await do.save(special)
    assert await do.count(Special) == 1
    assert "extra" not in await stored(do)
    assert (await do.get(Special, pk="A", sk="1")).extra is True


async def test_alias_is_the_name_in_the_store_only(do):
    class Aliased(Model):
        model_config = ModelConfig(table="aliased")
        key = StringAttribute(partition_key=True, alias="pk")
        count_ = NumberAttribute(alias="count")

    class Plain(Model):
        model_config = ModelConfig(table="aliased")
        pk = StringAttribute(partition_key=True)
        number = NumberAttribute(alias="count")

    item = Aliased(key="a", count_=3)
    await do.save(item)
    assert (await do.get(Plain, pk="a")).number == 3
    assert await do.get(Aliased, key="a") == item
    assert item.to_dict() == {"key": "a", "count_": 3}
    assert await do.iterate(do.query(Aliased, Aliased.count_ == 3, key="a")) == [item]
    await do.update(item, count_=4)
    assert (await do.get(Plain, pk="a")).number == 4
    item.count_ = 5
    assert item.changed == {"count_"}
    await do.save(item)
    assert (await do.get(Plain, pk="a")).number == 5
