"""Fields in a batch: minted, checked and guarded as in a single save."""

from __future__ import annotations

import pytest

from mintkey import Model
from mintkey.errors import BatchIncomplete, InvalidValue, KeyCollision
from mintkey.fields import AutoKeyField, Field, IntField, KeyField


class Order(Model):
    id = AutoKeyField(strategy="ulid")
    n = IntField()
    code = Field(max_length=3)


async def test_auto_keys_exist_before_the_batch_and_are_kept(do):
    orders = [Order(n=n) for n in range(50)]
    ids = [order.id for order in orders]
    assert await do.batch_save(Order, orders) == 50
    assert [order.id for order in orders] == ids
    assert [order.n for order in await do.all(Order.query.order_by("id"))] == list(range(50))


async def test_a_given_key_is_never_overwritten(do):
    first = await do.create(Order, n=1)
    again = Order(id=first.id, n=2)
    with pytest.raises(BatchIncomplete) as raised:
        await do.batch_save(Order, [Order(n=3), again, Order(n=4)])
    ((item, error),) = raised.value.failed
    assert item is again
    assert isinstance(error, KeyCollision)
    assert sorted(order.n for order in await do.all(Order.query.all())) == [1, 3, 4]


async def test_a_value_of_the_wrong_length_is_refused(do):
    wrong = [Order(id="short"), Order(code="long")]
    with pytest.raises(BatchIncomplete) as raised:
        await do.batch_save(Order, [*wrong, Order(n=1, code="ok")])
    assert [item for item, _ in raised.value.failed] == wrong
    assert all(isinstance(error, InvalidValue) for _, error in raised.value.failed)
    assert [order.n for order in await do.all(Order.query.all())] == [1]


async def test_on_save_hears_of_each_item(do):
    heard: list[object] = []

    class Watched(Field):
        @classmethod
        def on_save(cls, model_instance, field_name, field_value, pipeline=None, **kwargs):
            heard.append(field_value)
            return pipeline

    class Note(Model):
        id = KeyField()
        text = Watched()

    await do.batch_save(Note, [Note(id=str(n), text=f"t{n}") for n in range(5)])
    assert heard == ["t0", "t1", "t2", "t3", "t4"]
