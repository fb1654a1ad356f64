"""Saving, creating, updating, deleting, refreshing: what is written, and when it is refused."""

from __future__ import annotations

import pytest

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import (
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
)
from mintkey.errors import ConditionFailed, InvalidValue, ItemGone, KeyCollision, MintkeyError


class Order(Model):
    model_config = ModelConfig(table="orders")
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    total = NumberAttribute()
    status = StringAttribute()
    lines = ListAttribute()
    data = MapAttribute()
    tags = StringSetAttribute()


async def stored(do, pk: str = "A", sk: str = "1"):
    """What the store holds, as a dict."""
    item = await do.get(Order, pk=pk, sk=sk)
    return None if item is None else item.to_dict()


async def changed_elsewhere(do, **values):
    """Another writer changes the row."""
    await do.update_by_key(Order, {"pk": "A", "sk": "1"}, **values)


@pytest.fixture
async def order(do):
    """A saved order."""
    made = Order(pk="A", sk="1", total=5, status="new", lines=[1, {"n": [2]}], data={"a": {"b": 1}}, tags={"x"})
    await do.save(made)
    return made


# save


async def test_a_new_item_is_put_whole_over_what_is_there(do, order):
    await do.save(Order(pk="A", sk="1", status="other"))
    assert await stored(do) == {"pk": "A", "sk": "1", "status": "other"}


async def test_a_saved_item_is_equal_to_what_is_loaded(do, order):
    loaded = await do.get(Order, pk="A", sk="1")
    assert loaded == order
    assert hash(loaded) == hash(order)
    assert not order.is_dirty
    assert not loaded.is_dirty


async def test_a_loaded_item_writes_only_what_changed(do, order):
    loaded = await do.get(Order, pk="A", sk="1")
    await changed_elsewhere(do, status="paid")
    loaded.total = 6
    await do.save(loaded)
    after = await stored(do)
    assert (after["total"], after["status"]) == (6, "paid")


async def test_a_saved_item_writes_only_what_changed_since(do, order):
    await changed_elsewhere(do, status="paid")
    order.total = 6
    await do.save(order)
    assert (await stored(do))["status"] == "paid"


async def test_changes_inside_lists_maps_and_sets_are_written(do, order):
    loaded = await do.get(Order, pk="A", sk="1")
    loaded.lines[1]["n"].append(3)
    assert loaded.changed == {"lines"}
    loaded.data["a"]["b"] = 2
    loaded.tags.add("y")
    assert loaded.changed == {"lines", "data", "tags"}
    await do.save(loaded)
    after = await stored(do)
    assert after["lines"] == [1, {"n": [2, 3]}]
    assert after["data"] == {"a": {"b": 2}}
    assert after["tags"] == {"x", "y"}
    assert not loaded.is_dirty


async def test_one_to_true_is_a_change(do):
    class Switch(Model):
        pk = StringAttribute(partition_key=True)
        data = MapAttribute()
        things = ListAttribute()

    item = Switch(pk="a", data={"on": 1}, things=[0])
    await do.save(item)
    assert item.data is not None
    item.data["on"] = True
    assert item.changed == {"data"}
    item.things = [False]
    await do.save(item)
    loaded = await do.get(Switch, pk="a")
    assert loaded.data["on"] is True
    assert loaded.things[0] is False


async def test_nothing_changed_is_no_write(do, order):
    await do.delete(await do.get(Order, pk="A", sk="1"))
    await do.save(order)
    assert await stored(do) is None


async def test_nothing_changed_with_a_condition_is_checked(do, order):
    await do.save(order, condition=Order.total == 5)
    with pytest.raises(ConditionFailed):
        await do.save(order, condition=Order.total == 6)
    await do.delete(await do.get(Order, pk="A", sk="1"))
    with pytest.raises((ItemGone, ConditionFailed)):
        await do.save(order, condition=Order.total == 5)
    assert await stored(do) is None


async def test_a_value_set_back_is_no_change(do, order):
    order.total = 9
    assert order.is_dirty
    order.total = 5
    assert not order.is_dirty
    assert order.changed == set()
    await changed_elsewhere(do, total=77)
    await do.save(order)
    assert (await stored(do))["total"] == 77


async def test_a_loaded_item_whose_row_is_gone_is_not_resurrected(do, order):
    loaded = await do.get(Order, pk="A", sk="1")
    await do.delete(order)
    loaded.total = 6
    with pytest.raises(ItemGone, match="Order") as caught:
        await do.save(loaded)
    assert isinstance(caught.value, LookupError)
    assert caught.value.key == {"pk": "A", "sk": "1"}
    assert await stored(do) is None
    assert loaded.changed == {"total"}


async def test_replace_puts_a_loaded_item_whole(do, order):
    loaded = await do.get(Order, pk="A", sk="1")
    await changed_elsewhere(do, status="paid")
    await do.save(loaded, replace=True)
    assert (await stored(do))["status"] == "new"
    await do.delete(order)
    await do.save(loaded, replace=True)
    assert (await stored(do))["total"] == 5


async def test_an_attribute_set_to_none_is_removed(do, order):
    order.total = None
    order.lines = None
    assert order.changed == {"total", "lines"}
    await do.save(order)
    assert await stored(do) == {"pk": "A", "sk": "1", "status": "new", "data": {"a": {"b": 1}}, "tags": {"x"}}
    del order.status
    assert order.status is None
    await do.save(order)
    assert "status" not in await stored(do)
    assert order == await do.get(Order, pk="A", sk="1")


async def test_none_is_not_kept(do):
    order = Order(pk="A", sk="1", total=None)
    order.status = None
    assert "total" not in order.__dict__
    assert "status" not in order.__dict__
    assert order.to_dict() == {"pk": "A", "sk": "1"}
    await do.save(order)
    assert await do.count(Order, Order.total.does_not_exist()) == 1
    assert await do.count(Order, Order.status.exists()) == 0


async def test_null_lives_inside_lists_and_maps(do):
    order = Order(pk="A", sk="1", lines=[None, [None]], data={"a": None})
    await do.save(order)
    assert (await stored(do))["lines"] == [None, [None]]
    assert (await stored(do))["data"] == {"a": None}


async def test_values_are_checked_at_save_not_at_assignment(do):
    order = Order(pk="A", sk="1", total="much")
    order.status = 5  # type: ignore[assignment]
    with pytest.raises(InvalidValue, match=r"Order\.(total|status)"):
        await do.save(order)
    assert await do.count(Order) == 0


# conditions on writes


async def test_a_condition_that_fails_writes_nothing(do, order):
    order.status = "paid"
    with pytest.raises(ConditionFailed, match="Order") as caught:
        await do.save(order, condition=Order.total > 5)
    assert not isinstance(caught.value, KeyCollision)
    assert (await stored(do))["status"] == "new"
    assert order.changed == {"status"}
    await do.save(order, condition=Order.total == 5)
    assert (await stored(do))["status"] == "paid"


async def test_a_condition_judges_the_stored_row(do, order):
    await changed_elsewhere(do, total=50)
    order.status = "rich"
    await do.save(order, condition=Order.total == 50)
    assert await stored(do) == {**order.to_dict(), "total": 50}


async def test_a_condition_on_a_first_save(do, order):
    with pytest.raises(ConditionFailed):
        await do.save(Order(pk="A", sk="1"), condition=Order.pk.does_not_exist())
    await do.save(Order(pk="A", sk="2"), condition=Order.pk.does_not_exist())
    with pytest.raises(ConditionFailed):
        await do.save(Order(pk="A", sk="3"), condition=Order.total == 1)
    assert await do.count(Order, pk="A") == 2


@pytest.mark.parametrize(
    "condition",
    [
        Order.total == 5,
        Order.total != 6,
        Order.total < 6,
        Order.total <= 5,
        Order.total > 4,
        Order.total >= 5,
        Order.total.between(5, 6),
        Order.total.is_in([4, 5]),
        Order.status.begins_with("ne"),
        Order.status.contains("e"),
        Order.lines.contains(1),
        Order.tags.contains("x"),
        Order.status.exists(),
        Order.status.is_type("string"),
        Order.tags.is_type("string_set"),
        Order.status.size() == 3,
        Order.lines.size() > 1,
        Order.data["a"]["b"] == 1,
        Order.lines[1]["n"][0] == 2,
        Order.lines[9].does_not_exist(),
        (Order.total == 5) & (Order.status == "new"),
        (Order.total == 6) | (Order.status == "new"),
        ~(Order.total == 6),
        ~((Order.total == 6) & (Order.status == "new")),
        Order.sk == "1",
    ],
    ids=repr,
)
async def test_conditions_mean_what_they_say(do, order, condition):
    await do.update(order, condition=condition, total=100)
    await do.update(order, total=5)
    with pytest.raises(ConditionFailed):
        await do.update(order, condition=~condition, total=200)
    assert await do.count(Order, condition) == 1
    assert await do.count(Order, ~condition) == 0
    assert await do.iterate(do.query(Order, condition, pk="A")) == [order]
    assert (await stored(do))["total"] == 5


@pytest.mark.parametrize(
    "condition",
    [
        Order.total == 5,
        Order.total < 5,
        Order.total >= 5,
        Order.total.between(1, 9),
        Order.status.begins_with(""),
        Order.lines.contains(1),
        Order.total.is_in([1]),
        Order.tags.size() >= 0,
        Order.data["a"] == 1,
        Order.total.is_type("number"),
    ],
    ids=repr,
)
async def test_an_absent_attribute_fails_every_test_but_unequal(do, condition):
    await do.save(Order(pk="A", sk="1"))
    assert await do.count(Order, condition) == 0
    assert await do.count(Order, Order.total != 5) == 1


# create


async def test_create_only_inserts(do, order):
    with pytest.raises(KeyCollision) as caught:
        await do.create(Order, pk="A", sk="1", total=9)
    assert isinstance(caught.value, ConditionFailed)
    assert caught.value.model == "Order"
    assert (await stored(do))["total"] == 5
    made = await do.create(Order, pk="A", sk="2", total=9)
    assert isinstance(made, Order)
    assert not made.is_dirty
    assert await do.get(Order, pk="A", sk="2") == made


# update


async def test_update_writes_without_reading_and_takes_the_stored_result(do, order):
    await changed_elsewhere(do, status="paid")
    await do.update(order, total=6)
    assert (order.total, order.status) == (6, "paid")
    assert not order.is_dirty
    assert order == await do.get(Order, pk="A", sk="1")


async def test_update_leaves_local_changes_that_it_does_not_name(do, order):
    order.status = "local"
    order.lines.append("local")
    await do.update(order, total=6)
    assert (order.total, order.status, order.lines[-1]) == (6, "local", "local")
    assert order.changed == {"status", "lines"}
    assert (await stored(do))["status"] == "new"
    order.total = 7
    await do.update(order, total=8)
    assert order.total == 8
    assert order.changed == {"status", "lines"}
    await do.save(order)
    assert (await stored(do))["status"] == "local"


async def test_update_removes_what_is_none(do, order):
    await do.update(order, total=None, status="x")
    assert order.total is None
    assert "total" not in order.__dict__
    assert "total" not in await stored(do)
    await do.update(order, tags=set())
    assert order.tags == set()
    assert await do.count(Order, Order.tags.exists()) == 0


async def test_update_of_a_missing_row(do, order):
    await do.delete(await do.get(Order, pk="A", sk="1"))
    with pytest.raises(ItemGone, match="Order"):
        await do.update(order, total=6)
    assert order.total == 5
    assert await stored(do) is None
    with pytest.raises(ItemGone):
        await do.update_by_key(Order, {"pk": "A", "sk": "1"}, total=6)
    with pytest.raises(ItemGone):
        await do.update(Order(pk="A", sk="1"), total=6)
    assert await do.count(Order) == 0


async def test_update_of_an_item_that_was_never_loaded(do, order):
    twin = Order(pk="A", sk="1", status="local")
    await do.update(twin, total=6)
    assert (twin.total, twin.status, twin.data) == (6, "local", {"a": {"b": 1}})
    assert twin.changed == {"status"}


async def test_update_with_a_condition(do, order):
    with pytest.raises(ConditionFailed):
        await do.update(order, condition=Order.total > 5, total=6)
    assert order.total == 5
    assert not order.is_dirty
    await do.update(order, condition=(Order.total == 5) & Order.status.exists(), total=6)
    assert (await stored(do))["total"] == 6
    with pytest.raises(ConditionFailed):
        await do.update_by_key(Order, {"pk": "A", "sk": "1"}, condition=Order.total == 5, total=7)
    await do.update_by_key(Order, {"pk": "A", "sk": "1"}, condition=Order.total == 6, total=7)
    assert (await stored(do))["total"] == 7


async def test_update_refuses_what_it_cannot_do(do, order):
    with pytest.raises(TypeError, match="total"):
        await do.update(order, totl=1)
    with pytest.raises(TypeError, match="total"):
        await do.update_by_key(Order, {"pk": "A", "sk": "1"}, totl=1)
    with pytest.raises(InvalidValue, match=r"Order\.sk"):
        await do.update(order, sk="2")
    with pytest.raises(InvalidValue, match=r"Order\.total"):
        await do.update(order, total="x")
    with pytest.raises(InvalidValue, match=r"Order\.total"):
        await do.update_by_key(Order, {"pk": "A", "sk": "1"}, total="x")
    with pytest.raises(TypeError, match="sk"):
        await do.update_by_key(Order, {"pk": "A"}, total=1)
    with pytest.raises(TypeError, match="status"):
        await do.update_by_key(Order, {"pk": "A", "sk": "1", "status": "new"}, total=1)
    assert order.to_dict() == await stored(do)


async def test_update_of_an_instance_whose_key_was_changed(do, order):
    order.sk = "2"
    with pytest.raises(InvalidValue, match="key"):
        await do.update(order, total=6)
    assert (await stored(do))["total"] == 5


# delete and refresh


async def test_delete_removes_the_row_and_makes_the_instance_new(do, order):
    await do.delete(order)
    assert await stored(do) is None
    assert order.is_dirty
    assert order.total == 5
    with pytest.raises(TypeError, match="unsaved"):
        hash(order)
    await do.save(order)
    assert await stored(do) == order.to_dict()


async def test_delete_of_a_missing_row_succeeds(do, order):
    twin = await do.get(Order, pk="A", sk="1")
    await do.delete(order)
    await do.delete(twin)
    await do.delete(Order(pk="never", sk="there"))


async def test_delete_by_key_alone(do, order):
    await do.delete(Order(pk="A", sk="1"))
    assert await stored(do) is None


async def test_delete_with_a_condition(do, order):
    with pytest.raises(ConditionFailed):
        await do.delete(order, condition=Order.total > 5)
    assert await stored(do) is not None
    assert not order.is_dirty
    await do.delete(order, condition=Order.total == 5)
    assert await stored(do) is None
    with pytest.raises(ConditionFailed):
        await do.delete(order, condition=Order.total == 5)


async def test_refresh_takes_the_stored_values(do, order):
    await changed_elsewhere(do, status="paid", total=None)
    order.lines = ["local"]
    await do.refresh(order)
    assert (order.status, order.total, order.lines) == ("paid", None, [1, {"n": [2]}])
    assert not order.is_dirty
    await do.delete(await do.get(Order, pk="A", sk="1"))
    with pytest.raises(ItemGone):
        await do.refresh(order)
    assert order.status == "paid"


async def test_refresh_of_an_item_made_from_its_key(do, order):
    twin = Order(pk="A", sk="1")
    await do.refresh(twin)
    assert twin == order
    assert not twin.is_dirty


# keys do not change


@pytest.mark.parametrize("name", ["pk", "sk"])
@pytest.mark.parametrize("replace", [False, True])
async def test_changing_a_key_of_a_loaded_item_is_refused(do, order, name, replace):
    setattr(order, name, "other")
    order.total = 6
    with pytest.raises(InvalidValue, match="key") as caught:
        await do.save(order, replace=replace)
    assert "delete" in str(caught.value)
    assert await do.count(Order) == 1
    assert (await stored(do))["total"] == 5
    setattr(order, name, {"pk": "A", "sk": "1"}[name])
    await do.save(order)
    assert (await stored(do))["total"] == 6


async def test_the_key_of_an_unsaved_item_may_change(do):
    order = Order(pk="A", sk="1")
    order.sk = "2"
    await do.save(order)
    assert await do.count(Order) == 1
    assert await stored(do, sk="2") is not None


async def test_a_key_set_to_none_on_a_loaded_item_is_refused(do, order):
    order.sk = None
    with pytest.raises(InvalidValue, match="sk"):
        await do.save(order)
    assert await do.count(Order) == 1


# tables


async def test_create_table_is_idempotent_and_delete_table_empties(do):
    await do.create_table(Order)
    await do.create_table(Order)
    assert await do.table_exists(Order) is True
    await do.save(Order(pk="A", sk="1"))
    await do.create_table(Order)
    assert await do.count(Order) == 1
    await do.delete_table(Order)
    assert await do.table_exists(Order) is False
    await do.create_table(Order)
    assert await do.count(Order) == 0


async def test_everything_else_is_refused_with_a_typed_error(do, order):
    with pytest.raises(TypeError, match="total"):
        Order(pk="A", sk="1", totl=1)
    with pytest.raises(TypeError, match="total"):
        await do.create(Order, pk="A", sk="1", totl=1)
    with pytest.raises(TypeError, match="sk"):
        await do.get(Order, pk="A")
    with pytest.raises(TypeError, match="sk"):
        await do.get(Order, pk="A", ks="1")
    for bad in (None, 5, b"A", ""):
        with pytest.raises(MintkeyError):
            await do.get(Order, pk=bad, sk="1")


async def test_get_takes_further_equalities(do, order):
    assert await do.get(Order, pk="A", sk="1", status="new") == order
    assert await do.get(Order, pk="A", sk="1", status="old") is None
    assert await do.get(Order, pk="A", sk="1", consistent=True) == order
    assert await do.get(Order, pk="A", sk="nothing") is None


async def test_a_set_without_a_value_is_an_empty_set(do):
    class Sets(Model):
        pk = StringAttribute(partition_key=True)
        words = StringSetAttribute()
        numbers = NumberSetAttribute(required=True)

    item = Sets(pk="a")
    assert item.words == set()
    item.words.add("x")
    with pytest.raises(InvalidValue, match=r"Sets\.numbers"):
        await do.save(item)
    item.numbers = set()
    with pytest.raises(InvalidValue, match=r"Sets\.numbers"):
        await do.save(item)
    item.numbers.add(1)
    await do.save(item)
    loaded = await do.get(Sets, pk="a")
    assert (loaded.words, loaded.numbers) == ({"x"}, {1})
    loaded.words.clear()
    await do.save(loaded)
    assert await do.count(Sets, Sets.words.exists()) == 0
    again = await do.get(Sets, pk="a")
    assert again.words == set()
    again.words.add("y")
    assert again.changed == {"words"}
    await do.save(again)
    assert (await do.get(Sets, pk="a")).words == {"y"}


async def test_a_minted_key_reads_back_exactly(do):
    class Minted(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.KSUID)
        sk = NumberAttribute(sort_key=True, default=AutoGenerate.EPOCH_MS)

    item = Minted()
    await do.save(item)
    assert await do.get(Minted, pk=item.pk, sk=item.sk) == item
