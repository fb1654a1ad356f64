"""The first table of the page about capacity: transactions, round trips, calls and capacity units of each operation."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import redis
from tests.behaviour.conftest import cluster_address, cluster_prefix, dynamodb_address, redis_address
from tests.failures.proxies import HttpProxy
from tests.redis.proxy import Proxy
from tests.sqlite.test_async import commits

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.rate_limit import FixedRate

PAGE = Path(__file__).parents[2] / "docs/guides/capacity.md"
ROW = re.compile(r"^\| (?P<name>`.*?) \| (?P<counts>[0-9][0-9. |]*) \|$", re.MULTILINE)
OPTIONS = "timeout=60"


class Order(Model):
    """Rows in order, in partitions."""

    model_config = ModelConfig(table="capacity.orders")
    customer = StringAttribute(partition_key=True)
    id = NumberAttribute(sort_key=True)
    total = NumberAttribute()


class Ticket(Model):
    """Rows in an index."""

    model_config = ModelConfig(table="capacity.tickets")
    id = StringAttribute(partition_key=True)
    status = StringAttribute(index=True)


class User(Model):
    """Rows with a unique value."""

    model_config = ModelConfig(table="capacity.users")
    id = StringAttribute(partition_key=True)
    email = StringAttribute(unique=True)


class Costs(NamedTuple):
    """What one operation costs."""

    transactions: int
    round_trips: int
    calls: int
    read: float
    write: float


def change(order: Order) -> None:
    order.total = 7
    order.save()


def transaction() -> None:
    with mintkey.transaction() as tx:
        tx.create(Order, customer="t", id=1)
        tx.create(Order, customer="t", id=2)


def loaded(number: int) -> Order:
    found = Order.get("ada", number)
    assert found is not None
    return found


def operations() -> Iterator[tuple[str, Callable[[], object]]]:
    """The operations of the page. What one needs is read before it is yielded."""
    yield "`save()` of a new row", lambda: Order(customer="new", id=1, total=1).save()
    yield "`save()` of a new row, with an index", lambda: Ticket(id="new", status="new").save()
    yield "`create()` with a unique value", lambda: User.create(id="new", email="new")
    order = loaded(1)
    yield "`save()` of a changed row", lambda: change(order)
    yield "`update()`", lambda: order.update(Order.total.add(1))
    yield "`delete()`", loaded(2).delete
    yield "`get()`", lambda: Order.get("ada", 3)
    yield "`get(consistent=True)`", lambda: Order.get("ada", 3, consistent=True)
    yield "`get_by()`", lambda: User.get_by(email="ada")
    yield "`query()` of 90 rows of 40 bytes", lambda: list(Order.query(customer="ada", limit=90))
    yield "`query()` by an index, 20 rows", lambda: list(Ticket.query(status="open"))
    yield "`query().first()`", Order.query(customer="ada").first
    yield "`query().count()` of 90 rows", Order.query(customer="ada").filter(Order.id >= 10).count
    yield "`batch_save()` of 100 new rows", lambda: Order.batch_save(Order(customer="b", id=n) for n in range(100))
    yield "`batch_get()` of 90 rows", lambda: list(Order.batch_get([("ada", n) for n in range(10, 100)]))
    yield "`transaction()` of two new rows", transaction
    yield "`transact_get()` of two rows", lambda: mintkey.transact_get([(Order, ("ada", 4)), (Order, ("ada", 5))])


def fill() -> None:
    """Write the rows that the operations read. From then on tables, scripts and connections exist."""
    for model in (Order, Ticket, User):
        model.create_table()
    Order.batch_save(Order(customer="ada", id=n, total=n) for n in range(100))
    Ticket.batch_save(Ticket(id=f"{n}", status="open") for n in range(20))
    for name in ("ada", "bob"):
        User(id=name, email=name).save()
    with mintkey.transaction() as tx:
        tx.create(Order, customer="other", id=1)
    mintkey.transact_get([(Order, ("other", 1))])
    order = loaded(99)
    change(order)
    order.update(Order.total.add(1))
    loaded(0).delete()
    User.get_by(email="bob")


def on_page() -> dict[str, Costs]:
    """The costs on the page, by operation."""
    found = {}
    for row in ROW.finditer(PAGE.read_text("utf-8")):
        parts = [part.strip() for part in row["counts"].split("|")]
        found[row["name"]] = Costs(int(parts[0]), int(parts[1]), int(parts[2]), float(parts[3]), float(parts[4]))
    return found


def measured(count: Callable[[], int]) -> dict[str, int]:
    """What each operation adds to a count."""
    found = {}
    for name, call in operations():
        before = count()
        call()
        found[name] = count() - before
    return found


def test_the_page_has_all_operations():
    assert [*on_page()] == [
        "`save()` of a new row",
        "`save()` of a new row, with an index",
        "`create()` with a unique value",
        "`save()` of a changed row",
        "`update()`",
        "`delete()`",
        "`get()`",
        "`get(consistent=True)`",
        "`get_by()`",
        "`query()` of 90 rows of 40 bytes",
        "`query()` by an index, 20 rows",
        "`query().first()`",
        "`query().count()` of 90 rows",
        "`batch_save()` of 100 new rows",
        "`batch_get()` of 90 rows",
        "`transaction()` of two new rows",
        "`transact_get()` of two rows",
    ]


def test_transactions_of_sqlite(tmp_path):
    with connect(f"sqlite:///{tmp_path}/rows.db?{OPTIONS}"):
        fill()
        found = measured(lambda: commits(tmp_path / "rows.db"))
    assert found == {name: costs.transactions for name, costs in on_page().items()}


def test_round_trips_to_redis():
    between = Proxy(redis_address())
    try:
        with connect(f"{between.address}?prefix={uuid.uuid4()}&{OPTIONS}"):
            fill()
            found = measured(lambda: between.trips)
    finally:
        between.close()
    assert found == {name: costs.round_trips for name, costs in on_page().items()}


@contextmanager
def dynamodb() -> Iterator[tuple[HttpProxy, FixedRate]]:
    place = urlsplit(dynamodb_address())
    limit = FixedRate(rcu=1_000_000, wcu=1_000_000)
    with HttpProxy((str(place.hostname), int(place.port or 80))) as between:
        url = f"dynamodb://us-east-1?endpoint=http://127.0.0.1:{between.port}&table_prefix={uuid.uuid4()}-&{OPTIONS}"
        with connect(url, rate_limit=limit):
            fill()
            try:
                yield between, limit
            finally:
                for model in (Order, Ticket, User):
                    model.delete_table()


def test_calls_and_units_of_dynamodb():
    wanted = on_page()
    with dynamodb() as (between, limit):
        found = {}
        for name, call in operations():
            before, read, write = len(between.seen), limit.consumed_rcu, limit.consumed_wcu
            call()
            found[name] = (len(between.seen) - before, limit.consumed_rcu - read, limit.consumed_wcu - write)
    for name, (calls, read, write) in found.items():
        costs = wanted[name]
        assert (name, calls) == (name, costs.calls)
        assert read == pytest.approx(costs.read), name
        # DynamoDB Local may count the writes of a transaction twice as much as AWS does.
        is_transaction = "transaction" in name or "unique" in name
        assert write in {costs.write, 2 * costs.write if is_transaction else costs.write}, name


class Spread(Model):
    """IDs as partition keys."""

    model_config = ModelConfig(table="capacity.spread")
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)


class Stream(Model):
    """IDs as sort keys of one partition."""

    model_config = ModelConfig(table="capacity.stream")
    name = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True, default=AutoGenerate.ULID)


def test_ids_as_partition_keys_use_all_slot_groups(tmp_path):
    with connect(cluster_prefix(tmp_path)):
        Spread.batch_save(Spread() for _ in range(1500))
        Stream.batch_save(Stream(name="all") for _ in range(1500))
    prefix = cluster_prefix(tmp_path).partition("prefix=")[2].partition("&")[0]
    host, _, port = cluster_address().removeprefix("redis-cluster://").partition(",")[0].rpartition(":")
    opened: Any = redis.cluster.RedisCluster(host=host, port=int(port))
    with opened as client:
        slots: dict[str, set[int]] = {"spread": set(), "stream": set()}
        for key in client.scan_iter(match=f"{prefix}/*", count=10_000):
            if found := re.search(rb"}capacity\.(spread|stream):", key):
                slots[found[1].decode()].add(client.keyslot(key))
    # The probability that a group has none of so many random keys is less than one in a hundred million.
    assert (len(slots["spread"]), len(slots["stream"])) == (64, 1)
