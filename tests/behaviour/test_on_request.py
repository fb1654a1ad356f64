"""`Store.on_request()`: a record of each request, blocking and async."""

from __future__ import annotations

import asyncio
import logging

import pytest

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ConditionFailed, StoreUnavailable, TransactionCancelled
from mintkey.hooks import after_save
from mintkey.monitoring import RequestRecord
from mintkey.rate_limit import FixedRate


class Order(Model):
    model_config = ModelConfig(table="watched_orders")
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    total = NumberAttribute()
    secret = StringAttribute()


@pytest.fixture
def records(store) -> list[RequestRecord]:
    """The records of the store from now on; the table exists."""
    Order(pk="first", sk="1", total=1).save()
    records: list[RequestRecord] = []
    store.on_request(records.append)
    return records


def told(records: list[RequestRecord]) -> list[tuple[str, str | None, str, int]]:
    found = [(record.operation, record.table, record.outcome, record.rows) for record in records]
    records.clear()
    return found


async def test_each_request_has_a_record(store, do, records):
    order = Order(pk="A", sk="1", total=5, secret="topsecret")
    await do.save(order)
    assert told(records) == [("put", "watched_orders", "ok", 1)]
    order.total = 6
    await do.save(order)
    assert told(records) == [("update", "watched_orders", "ok", 1)]
    await do.get(Order, pk="A", sk="1")
    await do.get(Order, pk="A", sk="2")
    assert told(records) == [("get", "watched_orders", "ok", 1), ("get", "watched_orders", "ok", 0)]
    await do.ping(store)
    assert told(records) == [("ping", None, "ok", 0)]
    await do.delete(order)
    assert told(records) == [("delete", "watched_orders", "ok", 1)]
    assert await do.table_exists(Order)
    assert told(records) == [("table_exists", "watched_orders", "ok", 0)]


async def test_a_record_has_duration_attempts_store_and_capacity_but_no_values(store, do, records):
    await do.save(Order(pk="topsecret-key", sk="1", secret="topsecret"))
    [record] = records
    assert record.store == store.url
    assert record.tables == ("watched_orders",)
    assert 0 < record.duration < 60
    assert record.attempts == 1
    assert record.error is None
    assert record.capacity == (1.0 if "dynamodb" in store.url else None)
    assert "topsecret" not in repr(record)


async def test_a_failure_is_the_outcome(do, records):
    with pytest.raises(ConditionFailed) as failure:
        await do.save(Order(pk="A", sk="1"), condition=Order.total == 7)
    [record] = records
    assert record.outcome == "ConditionFailed"
    assert record.error is failure.value
    assert record.rows == 0


async def test_a_query_has_a_record_for_each_page(do, records):
    await do.batch_save(Order, [Order(pk="A", sk=f"{number:03}") for number in range(30)])
    assert told(records) == [("batch_write", "watched_orders", "ok", 30)]
    page = await do.page(Order.query(pk="A"), size=20)
    assert told(records) == [("query", "watched_orders", "ok", 20)]
    await do.page(Order.query(pk="A"), size=20, cursor=page.cursor)
    assert told(records) == [("query", "watched_orders", "ok", 10)]
    found = await do.iterate(Order.scan())
    assert len(found) == 31
    assert sum(rows for _, _, _, rows in told(records)) == 31
    keys = [("A", "001"), ("A", "nothing")]
    assert len(await do.iterate(Order.batch_get(keys) if do.blocking else Order.abatch_get(keys))) == 2
    assert told(records) == [("batch_get", "watched_orders", "ok", 1)]


async def test_a_batch_counts_what_was_written(do, records):
    rows = [Order(pk="A", sk="1"), Order(pk="B", sk="1")]
    await do.batch_save(Order, rows)
    records.clear()
    pipeline = mintkey.pipeline()
    Order(pk="A", sk="1").save(condition=Order.total == 7, pipeline=pipeline)
    Order(pk="C", sk="1").save(pipeline=pipeline)
    with pytest.raises(mintkey.errors.BatchIncomplete):
        await do.execute(pipeline)
    assert sum(record.rows for record in records) == 1
    assert {record.outcome for record in records} >= {"ConditionFailed"}


async def test_transactions(do, records):
    async with mintkey.transaction() as tx:
        tx.save(Order(pk="A", sk="1", total=1))
        tx.save(Order(pk="A", sk="2", total=1))
        tx.check(Order, ("A", "3"), Order.pk.does_not_exist())
    assert told(records) == [("transaction", "watched_orders", "ok", 2)]
    await do.transact_get(mintkey, [(Order, ("A", "1")), (Order, ("A", "9"))])
    assert told(records) == [("transact_get", "watched_orders", "ok", 1)]
    with pytest.raises(TransactionCancelled), mintkey.transaction() as tx:
        tx.save(Order(pk="A", sk="1"), condition=Order.total == 7)
    assert told(records) == [("transaction", "watched_orders", "TransactionCancelled", 0)]


async def test_several_callbacks_and_their_removal(store, do):
    first: list[RequestRecord] = []
    second: list[RequestRecord] = []
    store.on_request(first.append)

    @store.on_request
    def note(record: RequestRecord) -> None:
        second.append(record)

    await do.ping(store)
    store.off_request(note)
    store.off_request(note)
    await do.ping(store)
    assert (len(first), len(second)) == (2, 1)


async def test_a_callback_that_raises_is_logged_once_and_fails_nothing(store, do, caplog):
    seen: list[RequestRecord] = []

    @store.on_request
    def fail(record: RequestRecord) -> None:
        raise ZeroDivisionError("in the callback")

    store.on_request(seen.append)
    with caplog.at_level(logging.ERROR, "mintkey.requests"):
        await do.ping(store)
        await do.ping(store)
    assert len(seen) == 2
    [logged] = caplog.records
    assert "fail" in logged.getMessage()
    assert logged.exc_info is not None
    assert logged.exc_info[0] is ZeroDivisionError


async def test_the_requests_of_a_callback_are_not_reported(store, do):
    seen: list[str] = []

    @store.on_request
    def save(record: RequestRecord) -> None:
        seen.append(record.operation)
        if len(seen) < 5:
            store.ping()

    await do.ping(store)
    assert seen == ["ping"]


@pytest.mark.parametrize("callback", [None, "text", test_transactions])
def test_what_is_no_callback(store, callback):
    with pytest.raises(TypeError, match="a plain function of one RequestRecord"):
        store.on_request(callback)


async def test_a_rate_limit_of_a_model_changes_nothing(store, do):
    class Limited(Order):
        model_config = ModelConfig(table="watched_orders", rate_limit=FixedRate(rcu=1000, wcu=1000))

    seen: list[RequestRecord] = []
    await do.save(Limited(pk="A", sk="1"))
    store.on_request(seen.append)
    await do.save(Limited(pk="A", sk="2"))
    assert [record.operation for record in seen] == ["put"]


async def test_hooks_and_many_tasks(store, do):
    hooked = []

    class Hooked(Order):
        model_config = ModelConfig(table="watched_orders")

        @after_save
        def note(self) -> None:
            hooked.append(self.sk)

    Hooked(pk="first", sk="1").save()
    seen: list[RequestRecord] = []
    store.on_request(seen.append)
    await do.batch_save(Hooked, [Hooked(pk="A", sk=str(number)) for number in range(20)])
    assert sum(record.rows for record in seen) == 20
    seen.clear()
    await asyncio.gather(*(Order(pk="B", sk=str(number)).asave() for number in range(20)))
    assert [(record.operation, record.rows, record.attempts) for record in seen] == [("put", 1, 1)] * 20
    assert len(hooked) == 21


async def test_attempts_count_what_was_sent_again(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    seen: list[RequestRecord] = []
    with connect("dynamodb://eu-west-1?endpoint=http://127.0.0.1:1&retries=2") as store:
        store.on_request(seen.append)
        with pytest.raises(StoreUnavailable):
            store.ping()
        with pytest.raises(StoreUnavailable):
            await store.aping()
    assert [(record.attempts, record.outcome) for record in seen] == [(3, "StoreUnavailable")] * 2


async def test_requests_of_tasks_that_a_callback_starts_are_not_reported(store, records):
    tasks: list[asyncio.Future[None]] = []

    def note(record: RequestRecord) -> None:
        tasks.append(asyncio.ensure_future(Order(pk="noted", sk=str(len(tasks))).asave()))

    store.on_request(note)
    await Order(pk="A", sk="1").asave()
    await asyncio.gather(*tasks)
    assert (len(tasks), len(told(records))) == (1, 1)
    await Order(pk="A", sk="2").asave()
    assert (len(tasks), len(told(records))) == (2, 1)
    await asyncio.gather(*tasks)
