"""One class of a table declares an expiry: it holds for the rows that the other classes of the table read and write."""

from __future__ import annotations

from typing import Any

import pytest

from mintkey import Collection, Model, ModelConfig, atransact_get, transact_get
from mintkey.attributes import ExpiresIn, NumberAttribute, StringAttribute, TTLAttribute
from mintkey.errors import ItemGone


def family() -> tuple[Any, Any, Any]:
    """A base class and two subclasses, of which one declares an expiry."""

    class Base(Model):
        model_config = ModelConfig(table="family")
        id = StringAttribute(partition_key=True)
        kind = StringAttribute(discriminator=True)
        n = NumberAttribute(default=0, index=True)
        email = StringAttribute(unique=True)

    class Lasting(Base):
        pass

    class Passing(Base):
        until = TTLAttribute(alias="expires")

    return Base, Lasting, Passing


@pytest.fixture
async def models(do, store, clock):
    base, lasting, passing = family()
    # A table of DynamoDB with all indexes and unique values.
    store.claim(passing.__mintkey_schema__)
    for key in "1234":
        await do.create(passing, id=key, until=ExpiresIn.hours(1), email=f"{key}@x")
    clock.advance(3601)
    return base, lasting, passing


async def test_a_base_class_reads_no_expired_rows_of_its_subclasses(do, models):
    for model in models[:2]:
        assert await do.get(model, "1") is None
        assert not await do.exists(model, "1")
        assert await do.all(do.scan(model)) == []
        assert await do.all(do.query(model, id="1")) == []
        assert await do.all(do.query(model, n=0)) == []
        assert await do.count(model) == 0
        assert await do.get_by(model, email="1@x") is None
        read = transact_get([(model, "1")]) if do.blocking else await atransact_get([(model, "1")])
        assert read == [None]


async def test_a_base_class_replaces_expired_rows_and_does_not_change_them(do, models):
    base, lasting, _ = models
    with pytest.raises(ItemGone):
        await do.update_by_key(base, "1", n=1)
    assert await do.delete_by_key(base, "1", return_old=True) is None
    assert await do.update(do.scan(base), n=1) == 0
    assert (await do.create(base, id="2", email="3@x")).n == 0
    _, created = await do.get_or_create(lasting, id="3", defaults={"n": 5, "email": "4@x"})
    assert created
    assert sorted([(type(row).__name__, row.id, row.n) for row in await do.all(do.scan(base))]) == [
        ("Base", "2", 0),
        ("Lasting", "3", 5),
    ]


async def test_a_collection_reads_no_expired_rows(do, store, clock):
    class User(Model):
        model_config = ModelConfig(table="shop")
        pk = StringAttribute(partition_key=True, template="USER#{user}")
        sk = StringAttribute(sort_key=True, template="PROFILE")
        user = StringAttribute()

    class Order(Model):
        model_config = ModelConfig(table="shop")
        pk = StringAttribute(partition_key=True, template="USER#{user}")
        sk = StringAttribute(sort_key=True, template="ORDER#{n:03d}")
        user = StringAttribute()
        n = NumberAttribute()
        until = TTLAttribute()

    store.claim(Order.__mintkey_schema__)
    for n, until in ((1, None), (2, ExpiresIn.hours(1))):
        await do.save(Order(user="ada", n=n, until=until))
    await do.save(User(user="ada"))
    clock.advance(3601)
    found = do.query(Collection([User, Order]), user="ada")
    assert [item.sk for item in await do.all(found)] == ["ORDER#001", "PROFILE"]
    assert await do.count(found) == 2
    assert [item.sk for item in await do.page(found, 5)] == ["ORDER#001", "PROFILE"]


@pytest.mark.parametrize("declaring_first", [True, False])
async def test_a_class_of_another_family_reads_no_expired_rows(do, store, clock, declaring_first):
    class Session(Model):
        model_config = ModelConfig(table="sessions")
        id = StringAttribute(partition_key=True)
        until = TTLAttribute(alias="expires")

    class Report(Model):
        model_config = ModelConfig(table="sessions")
        id = StringAttribute(partition_key=True)

    if declaring_first:
        store.claim(Session.__mintkey_schema__)
    assert await do.get(Report, "1") is None
    await do.create(Session, id="1", until=ExpiresIn.hours(1))
    assert (await do.get(Report, "1")).id == "1"
    clock.advance(3601)
    assert await do.get(Report, "1") is None
    assert await do.count(Report) == 0
    assert await do.all(do.scan(Report)) == []
    await do.create(Report, id="1")
