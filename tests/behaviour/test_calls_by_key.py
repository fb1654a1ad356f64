"""Calls by key: keys by position, exists, delete_by_key, the model's `consistent`, batch_get of some attributes."""

from __future__ import annotations

from typing import Any

import pytest

import mintkey
from mintkey import Collection, Index, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import ConditionFailed, ConfigurationError, InvalidValue, KeyCollision, NotLoaded, VersionConflict
from mintkey.fields import KeyField
from mintkey.hooks import after_delete, after_load, before_delete

RAN: list[str] = []


class Order(Model):
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    n = NumberAttribute()
    kind = StringAttribute(alias="k")
    note = StringAttribute(required=True, default="none")

    @after_load
    def loaded(self) -> None:
        RAN.append("after_load")

    @before_delete
    @after_delete
    def deleted(self) -> None:
        RAN.append("delete")


class User(Model):
    name = StringAttribute(partition_key=True)
    age = NumberAttribute()


class Seat(Model):
    row = KeyField(type=int)
    number = KeyField(type=int)
    version = VersionAttribute()
    taken = NumberAttribute()


@pytest.fixture
async def rows(do):
    await do.save(Order(pk="A", sk="1", n=1, kind="new"))
    await do.save(Order(pk="A", sk="2", n=2))
    await do.save(User(name="ada", age=36))
    await do.save(Seat(row=1, number=2, taken=0))
    RAN.clear()


async def test_a_key_by_position(do, rows):
    for found in (
        await do.get(Order, "A", "1"),
        await do.get(Order, ("A", "1")),
        await do.get(Order, ["A", "1"]),
        await do.get(Order, {"pk": "A", "sk": "1"}),
        await do.get(Order, "A", "1", kind="new"),
        await do.get(Order, "A", "1", consistent=True),
        await do.get(Order.query, "A", "1"),
    ):
        assert (found.pk, found.sk, found.n) == ("A", "1", 1)
    assert await do.get(Order, "A", "1", kind="old") is None
    assert await do.get(Order, "A", "9") is None
    assert (await do.get(User, "ada")).age == 36
    assert (await do.get(User.query, "ada")).age == 36
    assert (await do.get(Seat, 1, 2)).taken == 0


@pytest.mark.parametrize(
    ("key", "named", "told"),
    [
        (("A",), {}, r"Order\.a?get\(\) takes the whole key, pk, sk, by position or by name, and got 1 of 2 values"),
        (("A", "1", "2"), {}, r"takes the whole key, pk, sk, .* got 3 of 2"),
        (("A",), {"sk": "1"}, r"takes the whole key, pk, sk, .* got 1 of 2"),
        (("A", "1"), {"sk": "1"}, r"Order\.a?get\(\) got sk by position and by name"),
        ((("A",),), {}, r"a key is a dict or a tuple of pk, sk"),
        (({"pk": "A"},), {}, r"the key is pk=…, sk=…: sk is missing"),
        (("A", "1"), {"colour": "red"}, r"has no attribute 'colour'"),
    ],
)
async def test_a_wrong_key_by_position_is_a_type_error(do, key, named, told):
    for call in (do.get, do.exists):
        with pytest.raises(TypeError, match=told.replace("a?get", "(get|exists)")):
            await call(Order, *key, **named)
    with pytest.raises(InvalidValue, match=r"Order\.sk: expected str, got int"):
        await do.get(Order, "A", 1)


async def test_exists_loads_nothing(do, rows):
    assert await do.exists(Order, "A", "1")
    assert await do.exists(Order, pk="A", sk="1")
    assert await do.exists(Order, ("A", "1"), consistent=True)
    assert not await do.exists(Order, "A", "9")
    assert await do.exists(Order, "A", "1", kind="new")
    assert not await do.exists(Order, "A", "1", kind="old")
    assert await do.exists(User, "ada")
    assert await do.exists(Seat, 1, 2)
    assert not await do.exists(Seat, 12, 2)
    assert RAN == []


async def test_delete_by_key(do, rows):
    with pytest.raises(ConditionFailed) as caught:
        await do.delete_by_key(Order, ("A", "1"), condition=Order.n > 5)
    assert (caught.value.item.sk, caught.value.item.kind) == ("1", "new")
    assert await do.delete_by_key(Order, ("A", "1"), condition=Order.n == 1) is None
    await do.delete_by_key(Order, {"pk": "A", "sk": "2"})
    await do.delete_by_key(Order, ("A", "2"))
    await do.delete_by_key(User, "ada")
    await do.delete_by_key(Seat, (1, 2))
    assert [await do.count(model) for model in (Order, User, Seat)] == [0, 0, 0]
    assert RAN == []
    with pytest.raises(ConditionFailed) as caught:
        await do.delete_by_key(Order, ("A", "1"), condition=Order.n == 1)
    assert caught.value.item is None
    with pytest.raises(TypeError, match="a key is a dict or a tuple"):
        await do.delete_by_key(Order, "A")
    with pytest.raises(TypeError, match="expected a condition"):
        await do.delete_by_key(Order, ("A", "1"), condition="n == 1")


async def test_delete_by_key_in_a_pipeline(do, rows):
    pipeline = mintkey.pipeline()
    assert await do.delete_by_key(Order, ("A", "1"), pipeline=pipeline) is pipeline
    await do.delete_by_key(Order, ("A", "2"), condition=Order.n == 2, pipeline=pipeline)
    await do.delete_by_key(User, "ada", pipeline=pipeline)
    assert await do.count(Order) == 2
    assert await do.execute(pipeline) == 3
    assert (await do.count(Order), await do.count(User)) == (0, 0)


# The model's default of consistent=.


class Steady(Model):
    model_config = ModelConfig(table="steady", consistent=True)
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    kind = StringAttribute()
    by_kind = Index(partition_key="kind")


class Loose(Model):
    model_config = ModelConfig(table="steady")
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True, template="LOOSE#{note}")
    note = StringAttribute()
    kind = StringAttribute()
    by_kind = Index(partition_key="kind")


@pytest.fixture
def sent(store, monkeypatch) -> list[bool]:
    """The `consistent` of each read request of the models."""
    seen: list[bool] = []

    class Spy:
        def __init__(self, codec: Any) -> None:
            self.codec = codec

        def __getattr__(self, name: str) -> Any:
            def call(*positional: Any, **named: Any) -> Any:
                if "consistent" in named:
                    seen.append(named["consistent"])
                return getattr(self.codec, name)(*positional, **named)

            return call

    for model in (Steady, Loose):
        monkeypatch.setattr(model.__mintkey_schema__, "codec", Spy(model.__mintkey_schema__.codec))
    return seen


@pytest.mark.parametrize("models", [(Steady,), (Steady, Loose), (Loose, Steady), (Loose,)])
async def test_a_collection_reads_as_the_strictest_of_its_models(do, sent, models):
    await do.save(Steady(pk="a", sk="1", kind="x"))
    rows = Collection(models)
    await do.iterate(rows.query(pk="a"))
    await do.iterate(rows.query(pk="a", consistent=False))
    await do.iterate(rows.query(pk="a", consistent=True))
    # An index of DynamoDB has no consistent reads.
    await do.iterate(rows.query(kind="x", index="by_kind"))
    assert sent == [Steady in models, False, True, False]


async def test_the_model_says_whether_reads_are_consistent(do, sent):
    await do.save(Steady(pk="a", sk="1", kind="x"))
    batch_get = Steady.batch_get if do.blocking else Steady.abatch_get
    assert await do.get(Steady, "a", "1") is not None
    assert await do.exists(Steady, "a", "1")
    assert len(await do.iterate(do.query(Steady, pk="a"))) == 1
    assert len(await do.iterate(do.scan(Steady))) == 1
    assert await do.count(Steady) == 1
    assert len(await do.iterate(Steady.query.filter(pk="a"))) == 1
    assert len(await do.iterate(batch_get([("a", "1")]))) == 1
    assert sent == [True] * 7
    sent.clear()
    await do.get(Steady, "a", "1", consistent=False)
    await do.iterate(do.query(Steady, pk="a", consistent=False))
    await do.iterate(batch_get([("a", "1")], consistent=False))
    # An index of DynamoDB has no consistent reads.
    assert len(await do.iterate(do.query(Steady, kind="x"))) == 1
    assert len(await do.iterate(Steady.by_kind.query(kind="x"))) == 1
    assert sent == [False] * 5


def test_consistent_is_inherited_and_checked():
    class Below(Steady):
        model_config = ModelConfig(table="below")

    class Other(Steady):
        model_config = ModelConfig(consistent=False)

    assert Below.__mintkey_schema__.config.consistent is True
    assert Other.__mintkey_schema__.config.consistent is False
    with pytest.raises(ConfigurationError, match="consistent= takes True or False, not 1"):
        ModelConfig(consistent=1)  # type: ignore[arg-type]


# batch_get of some attributes.


async def test_batch_get_of_some_attributes(do, rows):
    batch_get = Order.batch_get if do.blocking else Order.abatch_get
    one, none = await do.iterate(batch_get([("A", "1"), ("A", "9")], attributes=["n"]))
    assert none is None
    assert (one.pk, one.sk, one.n) == ("A", "1", 1)
    for name in ("kind", "note"):
        with pytest.raises(NotLoaded, match="add it to attributes="):
            getattr(one, name)
    assert not one.is_dirty
    one.n = 5
    await do.save(one)
    stored = await do.get(Order, "A", "1")
    assert (stored.n, stored.kind, stored.note) == (5, "new", "none")
    seats = Seat.batch_get if do.blocking else Seat.abatch_get
    (seat,) = await do.iterate(seats([(1, 2)], attributes=[]))
    assert (seat.row, seat.number, seat.version) == (1, 2, 1)
    seat.taken = 1
    await do.save(seat)
    refused: tuple[tuple[Any, str], ...] = (
        (["nn"], "no attribute 'nn'"),
        ("n", "not the text 'n'"),
        ([5], "takes a list of names"),
    )
    for wrong, told in refused:
        with pytest.raises(TypeError, match=told):
            await do.iterate(batch_get([("A", "1")], attributes=wrong))


# The stored row of a failed condition.


async def test_a_failed_condition_has_the_stored_row(do, rows):
    order = await do.get(Order, "A", "1")
    await do.update_by_key(Order, ("A", "1"), n=7)
    RAN.clear()
    for call in (
        lambda: do.update(order, n=8, condition=Order.n == 1),
        lambda: do.delete(order, condition=Order.n == 1),
        lambda: do.update_by_key(Order, ("A", "1"), n=8, condition=Order.n == 1),
        lambda: do.save(Order(pk="A", sk="1", n=1), condition=Order.n == 1),
        lambda: do.create(Order, pk="A", sk="1", n=1),
    ):
        RAN.clear()
        with pytest.raises(ConditionFailed) as caught:
            await call()
        row = caught.value.item
        assert type(row) is Order
        assert (row.pk, row.sk, row.n, row.kind, row.is_dirty) == ("A", "1", 7, "new", False)
        assert "after_load" not in RAN
    assert type(caught.value) is KeyCollision
    order.note = "changed"
    with pytest.raises(ConditionFailed) as caught:
        await do.save(order, condition=Order.n == 1)
    assert caught.value.item.n == 7
    await do.save(caught.value.item)
    with pytest.raises(ConditionFailed) as caught:
        await do.update(Order(pk="B", sk="1"), n=1, condition=Order.n == 1, upsert=True)
    assert caught.value.item is None


async def test_a_version_conflict_has_the_stored_row(do, rows):
    seat = await do.get(Seat, 1, 2)
    await do.update_by_key(Seat, (1, 2), taken=5)
    seat.taken = 9
    with pytest.raises(VersionConflict) as caught:
        await do.save(seat)
    assert (caught.value.item.taken, caught.value.item.version) == (5, 2)
    with pytest.raises(VersionConflict) as caught:
        await do.delete(seat)
    assert caught.value.item.taken == 5


async def test_failures_in_pipelines_and_batches_have_the_stored_row(do, rows):
    pipeline = mintkey.pipeline()
    order = await do.get(Order, "A", "1")
    await do.update(order, n=8, condition=Order.n == 9, pipeline=pipeline)
    await do.delete_by_key(Order, ("A", "2"), condition=Order.n == 9, pipeline=pipeline)
    with pytest.raises(mintkey.errors.BatchIncomplete) as caught:
        await do.execute(pipeline)
    rows = [getattr(error, "item", None) for _, error in caught.value.failed]
    assert [(row.sk, row.n) for row in rows] == [("1", 1), ("2", 2)]
