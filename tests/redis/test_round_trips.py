"""Calls that share a round trip, and the number of connections, counted by a proxy before the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import redis
from tests.redis.proxy import Proxy

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, Reference, connect
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute


@pytest.fixture
def between(server) -> Iterator[Proxy]:
    between = Proxy(server)
    yield between
    between.close()


def test_a_pipeline_of_several_models_is_one_trip(between, url):
    class Order(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)

    class Line(Model):
        model_config = ModelConfig(table="lines")
        pk = StringAttribute(partition_key=True)
        sk = NumberAttribute(sort_key=True)

    class Account(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()

    with connect(f"{between.address}?{urlsplit(url).query}"):
        accounts = [Account.create(pk=f"{n}", n=0) for n in range(3)]
        # From now on scripts and tables exist.
        accounts[0].update(Account.n.add(1))
        Order.batch_save([Order(), Order()])
        Line.count()
        begin = between.trips
        with mintkey.pipeline() as together:
            for n in range(40):
                Order(pk=f"{n}").save(pipeline=together)
                Line.create(pk="a", sk=n, pipeline=together)
            assert between.trips == begin
        assert between.trips == begin + 1
        with mintkey.pipeline() as together:
            for account in accounts:
                account.update(Account.n.add(2), pipeline=together)
        # The rows are read, and written if they have not changed since.
        assert between.trips == begin + 3
        assert [account.n for account in accounts] == [3, 2, 2]
        assert (Order.count(), Line.count()) == (42, 40)


def test_plain_writes_take_one_trip_and_checked_writes_two(between, url):
    class Account(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        n = NumberAttribute()
        status = StringAttribute(index=True)

    class Counted(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()
        version = VersionAttribute()

    def trips(call: Callable[[], object]) -> int:
        begin = between.trips
        call()
        return int(between.trips - begin)

    with connect(f"{between.address}?{urlsplit(url).query}"):
        account, counted = Account.create(pk="a", n=0, status="new"), Counted.create(pk="a", n=0)
        account.update(Account.n.add(1), condition=Account.n == 0)
        Account(pk="b").save()
        Account().save()
        # From now on scripts and tables exist.
        assert trips(lambda: Account(pk="c", n=1, status="new").save()) == 1
        assert trips(lambda: Account(n=1, status="new").save()) == 1
        assert trips(lambda: Account.create(pk="d", n=1)) == 1
        assert trips(lambda: Account.get(pk="d")) == 1
        assert trips(lambda: account.update(Account.n.add(1))) == 2
        assert trips(lambda: account.update(n=5, condition=Account.n == 2)) == 2
        counted.n = 7
        assert trips(counted.save) == 2
        assert Counted.count() == 1


def test_a_prefetch_of_a_thousand_items_takes_few_trips(between, url):
    class Customer(Model):
        name = StringAttribute(partition_key=True)

    class Order(Model):
        pk = StringAttribute(partition_key=True)
        customer = Reference(Customer)

    async def again() -> None:
        await mintkey.aprefetch([Order(pk=f"{n}", customer=f"{n}") for n in range(1000)], "customer")

    with connect(f"{between.address}?{urlsplit(url).query}"):
        Customer.batch_save(Customer(name=f"{n}") for n in range(1000))
        orders = [Order(pk=f"{n}", customer=f"{n}") for n in range(1000)]
        begin = between.trips
        mintkey.prefetch(orders, "customer")
        assert between.trips - begin <= 2 + len(orders) / 100
        found = [order.customer.get() for order in orders if order.customer is not None]
        assert [customer and customer.name for customer in found] == [order.pk for order in orders]
        assert between.trips - begin <= 2 + len(orders) / 100
        begin = between.trips
        asyncio.run(again())
        # The first awaited call connects.
        assert between.trips - begin <= 2 + len(orders) / 100 + 1


def test_a_batch_of_keys_reads_only_the_attributes(between, url):
    class Page(Model):
        pk = StringAttribute(partition_key=True)
        title = StringAttribute()
        text = StringAttribute()

    with connect(f"{between.address}?{urlsplit(url).query}"):
        Page.batch_save(Page(pk=f"{n}", title=f"t{n}", text="x" * 10_000) for n in range(20))
        begin = between.received
        pages = list(Page.batch_get([f"{n}" for n in range(21)], attributes=["title"]))
        assert between.received - begin < 5_000
        assert [page and page.title for page in pages] == [*(f"t{n}" for n in range(20)), None]
        begin = between.received
        assert len(list(Page.batch_get([f"{n}" for n in range(20)]))) == 20
        assert between.received - begin > 200_000


def test_calls_in_turn_share_a_connection_and_awaited_ones_another(start):
    class Line(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        text = StringAttribute()

    async def many() -> None:
        await asyncio.gather(*(Line(text=str(n)).asave() for n in range(50)))

    with start() as address, redis.Redis.from_url(address) as raw, connect(address):
        ours: list[int] = []
        for _ in range(2):
            for n in range(20):
                Line(text=str(n)).save()
            ours.append(len(raw.client_list()) - 1)
            asyncio.run(many())
            ours.append(len(raw.client_list()) - 1)
        assert ours == [1, 2, 2, 2]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: Line(text=str(n)).save(), range(400)))
        assert len(raw.client_list()) - 1 <= 4 + 1
