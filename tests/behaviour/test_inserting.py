"""Failed saves keep what was minted; minted keys insert and never overwrite."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, auto
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import BatchIncomplete, ConditionFailed, InvalidValue, KeyCollision
from mintkey.fields import AutoKeyField
from mintkey.hooks import before_save

NOW = "2024-01-01T00:00:00Z"


class Order(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    sk = StringAttribute(sort_key=True)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)
    total = NumberAttribute()


class Session(Model):
    pk = StringAttribute(partition_key=True, default=auto("uuid4", length=32, when="init"))
    seen = NumberAttribute()


class Audit(Model):
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)

    @before_save
    def build_key(self) -> None:
        self.sk = f"LOG#{self.created_at}"


# A failed save.


async def test_a_failed_save_keeps_minted_defaults_so_that_a_retry_is_the_same_item(do, clock):
    class Paid(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        created_at = StringAttribute(default=AutoGenerate.ISO8601)
        amount = NumberAttribute(required=True)

    item = Paid()
    with pytest.raises(InvalidValue, match=r"Paid\.amount"):
        await do.save(item)
    key, born = item.pk, item.created_at
    assert key is not None
    assert born == NOW
    clock.advance(60)
    item.amount = 5
    await do.save(item)
    assert (item.pk, item.created_at) == (key, born)
    assert await do.count(Paid) == 1


async def test_an_exception_in_a_hook_keeps_what_was_minted_and_writes_nothing(do):
    class Moody(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        mood = StringAttribute()

        @before_save
        def check(self) -> None:
            _ = self.pk
            if self.mood == "bad":
                raise LookupError("not today")

    item = Moody(mood="bad")
    with pytest.raises(LookupError, match=r"^not today$") as caught:
        await do.save(item)
    assert type(caught.value) is LookupError
    assert await do.count(Moody) == 0
    key = item.pk
    assert key is not None
    item.mood = "good"
    await do.save(item)
    assert item.pk == key
    assert await do.count(Moody) == 1


# Insert if absent.


class Short(Model):
    pk = StringAttribute(partition_key=True, default=auto("uuid4", length=1))
    n = NumberAttribute()


async def test_a_short_key_is_minted_again_on_collision_and_never_overwrites(do):
    taken = [f"{digit:x}" for digit in range(15)]
    for key in taken:
        await do.save(Short(pk=key, n=-1))
    found = []
    for attempt in range(12):
        item = Short(n=attempt)
        try:
            await do.save(item)
        except KeyCollision:
            continue
        found.append(item.pk)
        await do.delete(item)
    assert set(found) == {"f"}
    assert {(item.pk, item.n) for item in await do.iterate(do.scan(Short))} == {(key, -1) for key in taken}


async def test_minting_again_is_bounded(do):
    for digit in range(16):
        await do.save(Short(pk=f"{digit:x}", n=-1))
    item = Short(n=1)
    with pytest.raises(
        KeyCollision, match=r"Short: 16 generated keys .* Short\.pk has about 16 possible keys.* a greater length="
    ) as caught:
        await do.save(item)
    assert (caught.value.model, caught.value.attribute) == ("Short", "pk")
    assert caught.value.key == {"pk": item.pk}
    with pytest.raises(BatchIncomplete, match="a greater length="):
        await do.batch_save(Short, [Short(n=2)])
    assert item.is_dirty
    assert all(stored.n == -1 for stored in await do.iterate(do.scan(Short)))


async def test_a_short_key_minted_in_an_earlier_failed_save_is_not_minted_again(do):
    class Once(Model):
        pk = StringAttribute(partition_key=True, default=auto("uuid4", length=1))
        n = NumberAttribute(required=True)

    item = Once()
    with pytest.raises(InvalidValue):
        await do.save(item)
    key = item.pk
    await do.save(Once(pk=key, n=0))
    item.n = 1
    with pytest.raises(KeyCollision):
        await do.save(item)
    assert item.pk == key
    assert (await do.get(Once, pk=key)).n == 0


async def test_a_key_minted_in_a_failed_save_does_not_overwrite_later(do):
    class Wide(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        n = NumberAttribute(required=True)

    item = Wide()
    with pytest.raises(InvalidValue):
        await do.save(item)
    await do.save(Wide(pk=item.pk, n=0))
    item.n = 1
    with pytest.raises(KeyCollision) as caught:
        await do.save(item)
    assert isinstance(caught.value, ConditionFailed)
    assert (caught.value.model, caught.value.key) == ("Wide", {"pk": item.pk})
    assert (await do.get(Wide, pk=item.pk)).n == 0


async def test_a_key_minted_at_construction_does_not_overwrite(do):
    one = Session(seen=1)
    await do.save(Session(pk=one.pk, seen=0))
    with pytest.raises(KeyCollision):
        await do.save(one)
    assert (await do.get(Session, pk=one.pk)).seen == 0


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda item: pickle.loads(pickle.dumps(item))])
async def test_a_copy_knows_that_its_key_was_minted(do, copied):
    one = copied(Session(seen=1))
    await do.save(Session(pk=one.pk, seen=0))
    with pytest.raises(KeyCollision):
        await do.save(one)
    assert (await do.get(Session, pk=one.pk)).seen == 0


async def test_a_key_that_a_hook_supplied_does_not_overwrite(do, clock):
    await do.save(Audit(pk="a"))
    with pytest.raises(KeyCollision):
        await do.save(Audit(pk="a"))
    assert await do.count(Audit, pk="a") == 1


async def test_a_minted_sort_key_makes_an_insert(do):
    class Line(Model):
        pk = StringAttribute(partition_key=True)
        sk = StringAttribute(sort_key=True, default=auto(lambda: "same"))
        n = NumberAttribute()

    await do.save(Line(pk="a", n=1))
    with pytest.raises(KeyCollision):
        await do.save(Line(pk="a", n=2))
    await do.save(Line(pk="a", sk="same", n=3))
    assert (await do.get(Line, pk="a", sk="same")).n == 3


async def test_a_short_key_that_a_hook_has_read_is_not_minted_again(do):
    class Seen(Model):
        pk = StringAttribute(partition_key=True, default=auto("uuid4", length=1))
        label = StringAttribute()

        @before_save
        def build(self) -> None:
            self.label = f"label of {self.pk}"

    for digit in range(16):
        await do.save(Seen(pk=f"{digit:x}"))
    item = Seen()
    with pytest.raises(KeyCollision):
        await do.save(item)
    assert item.label == f"label of {item.pk}"


async def test_after_a_delete_the_key_counts_as_given(do, clock):
    order = Order(sk="x", total=1)
    await do.save(order)
    key, born = order.pk, order.created_at
    await do.delete(order)
    assert (order.pk, order.created_at, order.total) == (key, born, 1)
    clock.advance(60)
    await do.save(Order(pk=key, sk="x", total=7))
    await do.save(order)
    assert (order.pk, order.created_at) == (key, born)
    assert (await do.get(Order, pk=key, sk="x")).total == 1


async def test_from_dict_makes_a_new_item(do):
    order = Order(sk="x", total=1)
    await do.save(order)
    copy = Order.from_dict(order.to_dict())
    assert copy.is_dirty
    assert copy != order
    copy.total = 2
    await do.save(copy)
    assert (await do.get(Order, pk=order.pk, sk="x")).total == 2
    fresh = Order.from_dict({"sk": "y"})
    await do.save(fresh)
    assert fresh.pk


# Several at once.


async def total(**key: Any) -> float | None:
    order = await Order.aget(**key)
    return None if order is None else order.total


async def test_saves_at_once_have_each_an_outcome_of_its_own(store):
    await Order(pk="taken", sk="s", total=1).asave()
    orders = [
        Order(sk="s", total=2),
        Order(sk="s", total="three"),
        *(Order(pk="new", sk=f"{n:02}", total=n) for n in range(30)),
        Order(sk="", total=5),
    ]
    saves: list[Any] = [order.asave() for order in orders]
    saves.insert(20, Order.acreate(pk="taken", sk="s", total=6))
    outcomes: list[Any] = await asyncio.gather(*saves, return_exceptions=True)
    failed = {place: type(outcome) for place, outcome in enumerate(outcomes) if outcome is not None}
    assert failed == {1: InvalidValue, 20: KeyCollision, len(saves) - 1: InvalidValue}
    assert outcomes[20].key == {"pk": "taken", "sk": "s"}
    assert [order.is_dirty for order in orders] == [False, True, *[False] * 30, True]
    assert await total(pk="taken", sk="s") == 1
    assert [order.total async for order in Order.aquery(pk="new")] == list(range(30))
    assert await total(pk=orders[0].pk, sk="s") == 2


async def test_a_save_cancelled_before_its_turn_ends_never_happens(store):
    order, other = Order(pk="a", sk="s", total=1), Order(pk="b", sk="s", total=2)
    tasks = [asyncio.ensure_future(one.asave()) for one in (order, other)]
    # Behind the first steps of both, and before the loop's next turn.
    asyncio.get_running_loop().call_soon(tasks[0].cancel)
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    await tasks[1]
    assert await Order.aget(pk="a", sk="s") is None
    assert await total(pk="b", sk="s") == 2


class Digit(Model):
    pk = AutoKeyField(strategy=auto("nanoid", alphabet="ab", size=1))


async def test_a_space_that_is_full_is_told_of_with_the_parameter_that_widens_it(do):
    for key in "ab":
        await do.save(Digit(pk=key))
    with pytest.raises(KeyCollision, match=r"Digit\.pk has about 2 possible keys.* a greater size="):
        await do.create(Digit)
