"""A model's own limit counts beside the one of its store."""

from __future__ import annotations

import pytest

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.rate_limit import FixedRate, Time


def fixed(hurried, **rates):
    return FixedRate(**rates, _time=hurried.time)


def slept(hurried):
    """The seconds slept since the last question."""
    seconds, hurried.slept = hurried.slept, 0.0
    return round(seconds, 6)


async def test_the_tighter_of_both_limits_rules(do, hurried):
    of_store, of_model = fixed(hurried, wcu=2), fixed(hurried, wcu=1)

    class Order(Model):
        model_config = ModelConfig(rate_limit=of_model)
        id = StringAttribute(partition_key=True)

    class Event(Model):
        id = StringAttribute(partition_key=True)

    with connect("sqlite://", rate_limit=of_store):
        await do.save(Order(id="a"))
        assert slept(hurried) == 0
        await do.save(Order(id="b"))
        assert slept(hurried) == 1
        for name in "abc":
            await do.save(Event(id=name))
        assert slept(hurried) == 0.5
    assert (of_model.consumed_wcu, of_store.consumed_wcu) == (2, 5)


async def test_a_model_may_be_limited_alone(do, hurried):
    limit = fixed(hurried, wcu=1)

    class Order(Model):
        model_config = ModelConfig(rate_limit=limit)
        id = StringAttribute(partition_key=True)

    with connect("sqlite://"):
        await do.batch_save(Order, [Order(id=name) for name in "abc"])
        assert slept(hurried) == 2
        assert await do.all(Order.scan()) == [Order.get(id=name) for name in "abc"]
    assert (limit.consumed_wcu, limit.consumed_rcu) == (3, 0.5 + 3 * 0.5)


async def test_unique_values_count_as_in_a_transaction(do, hurried):
    limit = fixed(hurried, wcu=100, rcu=100)

    class Person(Model):
        model_config = ModelConfig(rate_limit=limit)
        id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        email = StringAttribute(unique=True)
        n = NumberAttribute()

    def consumed():
        units = limit.consumed_wcu, limit.consumed_rcu
        limit.reset()
        return units

    with connect("sqlite://"):
        person = Person(email="a")
        await do.save(person)
        assert consumed() == (4, 0)
        await do.update(person, n=1)
        assert consumed() == (1, 0)
        await do.update(person, email="b")
        assert consumed() == (2, 0)
        assert await do.get_by(Person, email="b") == person
        assert consumed() == (0, 2)
        await do.delete(person)
        assert consumed() == (2, 0)


def test_a_pipeline_that_is_interrupted_in_its_wait_takes_nothing(hurried):
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    limit = FixedRate(wcu=1, _time=Time(lambda: hurried.now, interrupt, hurried.asleep))

    class Order(Model):
        model_config = ModelConfig(rate_limit=limit)
        id = StringAttribute(partition_key=True)
        n = NumberAttribute()

    with connect("sqlite://"):
        Order(id="a").save()
        hurried.now += 1
        pipeline = mintkey.pipeline()
        for name in "abcd":
            Order.update_by_key(name, n=1, upsert=True, pipeline=pipeline)
        with pytest.raises(KeyboardInterrupt):
            pipeline.execute()
        assert limit.consumed_wcu == 1
        # What was taken for the first of them is there again, for nothing else was sent.
        Order(id="b").save()
    assert limit.consumed_wcu == 2


async def test_who_inherits_a_limit_shares_it(do, hurried):
    limit = fixed(hurried, wcu=1)

    class Limited(Model):
        model_config = ModelConfig(abstract=True, rate_limit=limit)

    class Order(Limited):
        id = StringAttribute(partition_key=True)

    class Event(Limited):
        id = StringAttribute(partition_key=True)

    with connect("sqlite://"):
        await do.save(Order(id="a"))
        await do.save(Event(id="a"))
    assert slept(hurried) == 1
    assert limit.consumed_wcu == 2


async def test_a_limit_in_both_places_counts_once(do, hurried):
    limit = fixed(hurried, wcu=1)

    class Order(Model):
        model_config = ModelConfig(rate_limit=limit)
        id = StringAttribute(partition_key=True)

    with connect("sqlite://", rate_limit=limit):
        await do.save(Order(id="a"))
    assert (hurried.slept, limit.consumed_wcu) == (0, 1)


async def test_stores_may_share_a_limit(do, hurried):
    limit = fixed(hurried, wcu=1)

    class Order(Model):
        model_config = ModelConfig(store="orders")
        id = StringAttribute(partition_key=True)

    class Event(Model):
        model_config = ModelConfig(store="events")
        id = StringAttribute(partition_key=True)

    with connect("sqlite://", "orders", rate_limit=limit), connect("sqlite://", "events", rate_limit=limit):
        await do.save(Order(id="a"))
        await do.save(Event(id="a"))
    assert hurried.slept == pytest.approx(1)


async def test_a_store_connected_again_leaves_the_old_limit_behind(do, hurried):
    limit = fixed(hurried, wcu=1)

    class Order(Model):
        id = StringAttribute(partition_key=True)

    with connect("sqlite://", rate_limit=limit):
        await do.save(Order(id="a"))
    with connect("sqlite://"):
        for name in "abc":
            await do.save(Order(id=name))
    assert (hurried.slept, limit.consumed_wcu) == (0, 1)


async def test_every_path_of_a_limited_model_counts(do, hurried):
    limit = fixed(hurried)

    class Order(Model):
        model_config = ModelConfig(rate_limit=limit)
        id = StringAttribute(partition_key=True)
        text = StringAttribute()

    def taken() -> tuple[float, float]:
        both = (limit.consumed_rcu, limit.consumed_wcu)
        limit.reset()
        return both

    with connect("sqlite://"):
        order = await do.create(Order, id="a")
        assert taken() == (0, 1)
        order.text = "changed"
        await do.save(order)
        assert taken() == (0, 1)
        await do.save(order)
        assert taken() == (0, 0)
        await do.update(order, text="again")
        assert taken() == (0, 1)
        await do.update_by_key(Order, {"id": "a"}, text="once more")
        assert taken() == (0, 1)
        await do.refresh(order)
        assert taken() == (1, 0)
        await do.get(Order, id="a")
        assert taken() == (0.5, 0)
        await do.first(do.query(Order, id="a"))
        assert taken() == (0.5, 0)
        await do.page(Order.scan(), 10)
        assert taken() == (0.5, 0)
        await do.count(Order.scan())
        assert taken() == (0.5, 0)
        await do.get(Order.query, id="a")
        assert taken() == (0.5, 0)
        await do.iterate(do.scan(Order))
        assert taken() == (0.5, 0)
        await do.batch_delete(Order, [order])
        assert taken() == (0, 1)
        await do.delete(order)
        assert taken() == (0, 1)
