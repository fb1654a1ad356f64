"""Update actions and upserts: what the store computes, and what it inserts."""

from __future__ import annotations

from decimal import Decimal

import pytest

from mintkey import AutoGenerate, Model
from mintkey.attributes import (
    BinarySetAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    VersionAttribute,
)
from mintkey.errors import ConditionFailed, InvalidValue, ItemGone, VersionConflict


class Order(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    sk = StringAttribute(sort_key=True)
    n = NumberAttribute()
    exact = DecimalAttribute()
    text = StringAttribute(alias="t")
    tags = ListAttribute()
    data = MapAttribute()
    words = StringSetAttribute()
    numbers = NumberSetAttribute()
    blobs = BinarySetAttribute()
    status = StringAttribute(default="new")
    made = StringAttribute(default=AutoGenerate.ISO8601)
    changed_at = StringAttribute(on_update=AutoGenerate.ISO8601_MS)


@pytest.fixture
async def order(do):
    order = Order(
        pk="p",
        sk="s",
        n=5,
        exact=Decimal("0.1"),
        text="a",
        tags=["x"],
        data={"a": [1, {"b": 2}], "n": 7},
        words={"one", "two"},
        numbers={1, 2.5},
        blobs={b"\x00"},
    )
    await do.save(order)
    return order


STORED = {
    "add": (lambda: Order.n.add(-7), "n", -2),
    "add exactly": (lambda: Order.exact.add(Decimal("0.2")), "exact", Decimal("0.3")),
    "add to nothing": (lambda: Order.data["m"].add(3), "data", {"a": [1, {"b": 2}], "n": 7, "m": 3}),
    "set": (lambda: Order.text.set("b"), "text", "b"),
    "set inside": (lambda: Order.data["a"][1]["b"].set([None, True]), "data", {"a": [1, {"b": [None, True]}], "n": 7}),
    "remove": (Order.text.remove, "text", None),
    "remove inside": (Order.data["a"][0].remove, "data", {"a": [{"b": 2}], "n": 7}),
    "append": (lambda: Order.tags.append(["y", 3]), "tags", ["x", "y", 3]),
    "append inside": (lambda: Order.data["a"].append([9]), "data", {"a": [1, {"b": 2}, 9], "n": 7}),
    "prepend": (lambda: Order.tags.prepend(["y", 3]), "tags", ["y", 3, "x"]),
    "set if absent, present": (lambda: Order.text.set_if_absent("z"), "text", "a"),
    "set if absent, absent": (lambda: Order.changed_at.set_if_absent("z"), "changed_at", "z"),
    "add to set": (lambda: Order.words.add_to_set({"two", "three"}), "words", {"one", "two", "three"}),
    "add to set of numbers": (lambda: Order.numbers.add_to_set([2.5, 3]), "numbers", {1, 2.5, 3}),
    "delete from set": (lambda: Order.words.delete_from_set(["one", "four"]), "words", {"two"}),
    "delete all from set": (lambda: Order.blobs.delete_from_set({b"\x00"}), "blobs", set()),
}


@pytest.mark.parametrize("case", STORED)
async def test_an_action_is_computed_in_the_store(do, order, case):
    action, name, expected = STORED[case]
    # Another instance changes what this one does not know of.
    twin = await do.get(Order, pk="p", sk="s")
    await do.update(order, action())
    assert getattr(order, name) == expected
    assert not order.is_dirty
    await do.refresh(twin)
    assert getattr(twin, name) == expected
    assert twin == order


async def test_actions_start_from_the_stored_row(do, order):
    twin = await do.get(Order, pk="p", sk="s")
    for instance in (order, twin, order):
        await do.update(instance, Order.n.add(1), Order.tags.append(["y"]))
    assert (order.n, order.tags) == (8, ["x", "y", "y", "y"])


async def test_actions_and_values_and_a_condition_go_together(do, order):
    await do.update(order, Order.n.add(1), Order.words.add_to_set({"three"}), condition=Order.n < 6, text="b")
    assert (order.n, order.text) == (6, "b")
    with pytest.raises(ConditionFailed):
        await do.update(order, Order.n.add(1), condition=Order.n < 6, text="c")
    stored = await do.get(Order, pk="p", sk="s")
    assert (stored.n, stored.text, stored.words) == (6, "b", {"one", "two", "three"})


async def test_an_update_mints_on_update_unless_named(do, order, clock):
    await do.update(order, Order.n.add(1))
    assert order.changed_at == "2024-01-01T00:00:00.000Z"
    await do.update(order, Order.changed_at.set("mine"))
    assert order.changed_at == "mine"


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (lambda: Order.text.add(1), r"Order\.text\.add\(\) works on number or decimal attributes"),  # type: ignore[arg-type]
        (lambda: Order.n.add("1"), "Order.n"),  # type: ignore[arg-type]
        (lambda: Order.n.append([1]), r"Order\.n\.append\(\) works on list attributes"),  # type: ignore[arg-type, misc]
        (lambda: Order.tags.append("xy"), "takes a list of values, not one str"),
        (lambda: Order.tags.append([object()]), "Order.tags"),
        (lambda: Order.words.add_to_set("ab"), "takes a set of members, not one str"),
        (lambda: Order.words.add_to_set([]), "needs at least one member"),
        (lambda: Order.words.add_to_set([1]), "expected a set of str"),  # type: ignore[list-item]
        (lambda: Order.tags.add_to_set(["x"]), "works on string set or number set or binary set"),  # type: ignore[arg-type, misc]
        (lambda: Order.text.set(None), r"Order\.text\.set\(\) does not take None, .* use \.remove\(\)"),  # type: ignore[arg-type]
        (lambda: Order.text.set_if_absent(None), r"set_if_absent\(\) does not take None"),  # type: ignore[arg-type]
        (lambda: Order.tags.append(5), "takes a list of values, not one int"),  # type: ignore[arg-type]
        (lambda: Order.words.delete_from_set(None), "takes a set of members, not one NoneType"),  # type: ignore[arg-type]
        (lambda: Order.text.set(5), "expected str, got int"),  # type: ignore[arg-type]
        (lambda: Order.tags.set((1,)), "a tuple would be read as a list"),  # type: ignore[arg-type]
        (lambda: Order.tags == (1,), "a tuple would be read as a list: use a list"),
        (lambda: Order.tags.is_in([(1,)]), r"Order\.tags: a tuple would be read"),
        (lambda: Order.words.contains(["one"]), "a set cannot contain"),  # type: ignore[call-overload]
        (lambda: Order.data[""].set(1), r"Order\.data\[''\]: a map contains no entry with an empty name"),
    ],
)
def test_a_wrong_operand_is_refused_when_the_action_is_built(action, told):
    with pytest.raises(InvalidValue, match=told):
        action()


async def test_what_cannot_be_changed_together_is_refused_and_changes_nothing(do, order):
    for actions, values in [
        ((Order.n.add(1),), {"n": 3}),
        ((Order.data["a"].set(1), Order.data["a"][0].set(2)), {}),
        ((Order.pk.set("other"),), {}),
        ((Order.data["no"]["way"].set(1),), {}),
        ((Order.data["a"].add(1),), {}),
    ]:
        with pytest.raises(InvalidValue):
            await do.update(order, *actions, **values)
    with pytest.raises(TypeError, match="an update needs at least one value or action"):
        await do.update(order)
    with pytest.raises(TypeError, match="expected an action"):
        await do.update(order, Order.n > 5)
    assert await do.get(Order, pk="p", sk="s") == order


@pytest.mark.parametrize(
    ("action", "attribute", "reason"),
    [
        (lambda: Order.data["n"].append([1]), "data", "n holds a number, but this change needs a list"),
        (lambda: Order.data["x"]["y"].set(1), "data", r"x\.y"),
        (lambda: Order.exact.add(Decimal("1E-60")), "exact", "cannot be stored: it has more than 38"),
    ],
)
async def test_a_change_that_the_row_does_not_allow_names_its_attribute(do, order, action, attribute, reason):
    with pytest.raises(InvalidValue, match=rf'Order \("p", "s"\): Order\.{attribute}: .*{reason}') as caught:
        await do.update_by_key(Order, ("p", "s"), Order.tags.append(["y"]), Order.n.add(1), action(), status="done")
    assert caught.value.attribute == attribute
    assert await do.get(Order, "p", "s") == order


async def test_an_upsert_inserts_what_is_missing_with_all_that_mints(do, clock):
    order = Order(pk="p", sk="s", text="local")
    await do.update(order, Order.n.add(3), Order.words.add_to_set({"w"}), upsert=True, data={"a": 1})
    stored = await do.get(Order, pk="p", sk="s")
    assert stored.to_dict() == {
        "pk": "p",
        "sk": "s",
        "n": 3,
        "text": "local",
        "data": {"a": 1},
        "words": {"w"},
        "status": "new",
        "made": "2024-01-01T00:00:00Z",
    }
    assert order == stored
    assert not order.is_dirty
    clock.advance(60)
    await do.update(order, Order.n.add(3), upsert=True)
    stored = await do.get(Order, pk="p", sk="s")
    assert (stored.n, stored.made, stored.changed_at) == (6, "2024-01-01T00:00:00Z", "2024-01-01T00:01:00.000Z")


async def test_without_upsert_a_missing_row_stays_missing(do):
    with pytest.raises(ItemGone):
        await do.update(Order(pk="p", sk="s"), Order.n.add(1))
    with pytest.raises(
        ItemGone, match=r'Order \("p", "s"\): the item is not in table .* pass upsert=True to insert it'
    ) as caught:
        await do.update_by_key(Order, ("p", "s"), Order.n.add(1))
    assert (caught.value.model, caught.value.key) == ("Order", {"pk": "p", "sk": "s"})
    assert "replace=True" not in str(caught.value)
    assert await do.count(Order) == 0


async def test_an_upsert_by_key(do, clock):
    await do.update_by_key(Order, {"pk": "p", "sk": "s"}, Order.n.add(1), upsert=True, text="t")
    await do.update_by_key(Order, ("p", "s"), Order.n.add(1), upsert=True, status="paid")
    stored = await do.get(Order, pk="p", sk="s")
    assert (stored.n, stored.text, stored.status, stored.made) == (2, "t", "paid", "2024-01-01T00:00:00Z")


async def test_the_condition_of_an_upsert_is_judged_on_nothing_when_nothing_is_there(do):
    with pytest.raises(ConditionFailed):
        await do.update_by_key(Order, ("p", "s"), Order.n.add(1), upsert=True, condition=Order.n > 0)
    assert await do.count(Order) == 0
    await do.update_by_key(Order, ("p", "s"), Order.n.add(1), upsert=True, condition=Order.n.does_not_exist())
    with pytest.raises(ConditionFailed):
        await do.update_by_key(Order, ("p", "s"), Order.n.add(1), upsert=True, condition=Order.n.does_not_exist())
    assert (await do.get(Order, pk="p", sk="s")).n == 1


async def test_a_new_row_has_what_is_required(do):
    class Strict(Model):
        pk = StringAttribute(partition_key=True)
        name = StringAttribute(required=True)
        when = DatetimeAttribute(required=True, default=AutoGenerate.ISO8601)
        n = NumberAttribute()

    with pytest.raises(InvalidValue, match=r"Strict\.name: required"):
        await do.update_by_key(Strict, "p", Strict.n.add(1), upsert=True)
    assert await do.count(Strict) == 0
    await do.update_by_key(Strict, "p", Strict.n.add(1), upsert=True, name="x")
    assert (await do.get(Strict, pk="p")).when is not None


async def test_versions_count_in_updates_of_every_kind(do):
    class Counted(Model):
        pk = StringAttribute(partition_key=True)
        version = VersionAttribute()
        n = NumberAttribute()

    await do.update_by_key(Counted, "p", Counted.n.add(1), upsert=True)
    first, second = await do.get(Counted, pk="p"), await do.get(Counted, pk="p")
    assert first.version == 1
    await do.update(first, Counted.n.add(1))
    assert (first.version, first.n) == (2, 2)
    with pytest.raises(VersionConflict):
        await do.update(second, Counted.n.add(1), upsert=True)
    assert second.version == 1
    await do.update_by_key(Counted, "p", Counted.n.add(1))
    await do.refresh(second)
    assert (second.version, second.n) == (3, 3)


async def test_two_writers_of_one_map_keep_both_entries_if_each_changes_only_its_own(do, order):
    first, second = [await do.get(Order, pk="p", sk="s") for _ in range(2)]
    await do.update(first, Order.data["n"].set(8))
    await do.update(second, Order.data["m"].set(9))
    assert second.data == {"a": [1, {"b": 2}], "n": 8, "m": 9}

    first, second = [await do.get(Order, pk="p", sk="s") for _ in range(2)]
    first.data["n"] = 10
    await do.save(first)
    second.data["m"] = 11
    await do.save(second)
    # A save writes the map as a whole, as the guide to models says.
    assert (await do.get(Order, pk="p", sk="s")).data == {"a": [1, {"b": 2}], "n": 8, "m": 11}
