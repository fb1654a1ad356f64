"""A store that is down: `except StoreError` catches what every call raises, also a batch, a pipeline and a copy."""

from __future__ import annotations

import copy
import pickle
import socket
from collections.abc import Iterator

import pytest
from tests.behaviour.conftest import Do

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, Reference, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import (
    BatchIncomplete,
    BatchStoreError,
    ConfigurationError,
    InvalidValue,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
    Throttled,
    batch_incomplete,
)


class Customer(Model):
    model_config = ModelConfig(table="customers_of_one_handler")

    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute(default=0)


class Order(Model):
    model_config = ModelConfig(table="orders_of_one_handler")

    id = StringAttribute(partition_key=True)
    customer = Reference(Customer)


@pytest.fixture(params=["redis", "redis-cluster", "dynamodb", "sqlite"])
def down(request, tmp_path, monkeypatch) -> Iterator[str]:
    """The URL of a store that cannot be reached."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with socket.socket() as reserved:
        # A port on which nothing listens.
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        yield {
            "redis": f"redis://{address}",
            "redis-cluster": f"redis-cluster://{address}",
            "dynamodb": f"dynamodb://eu-west-1?endpoint=http://{address}&retries=0",
            "sqlite": f"sqlite:///{tmp_path}/volume/shop.db",
        }[request.param]


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
def do(request) -> Do:
    return Do(blocking=request.param)


async def test_each_call_raises_a_store_error(down, do):
    row, order = Customer(id="a"), Order(id="a", customer="a")

    async def piped() -> None:
        pipeline = mintkey.pipeline()
        for name in "ab":
            await do.create(Customer, id=name, pipeline=pipeline)
        await do.execute(pipeline)

    calls = {
        "save": lambda: do.save(row),
        "get": lambda: do.get(Customer, id="a"),
        "update": lambda: do.update_by_key(Customer, "a", n=1),
        "get_or_create": lambda: do.get_or_create(Customer, id="a"),
        "count": lambda: do.count(Customer),
        "scan": lambda: do.all(Customer.scan()),
        "create_table": lambda: do.create_table(Customer),
        "batch_save": lambda: do.batch_save(Customer, [Customer() for _ in range(600)]),
        "batch_save with hooks": lambda: do.batch_save(Order, [order]),
        "batch_delete": lambda: do.batch_delete(Customer, ["a", "b"]),
        "batch_get": lambda: do.iterate((Customer.batch_get if do.blocking else Customer.abatch_get)(["a"])),
        "pipeline": piped,
        "prefetch": lambda: do.prefetch(mintkey, [order], "customer"),
        "transact_get": lambda: do.transact_get(mintkey, [(Customer, "a")]),
        "chain": lambda: do.update(Customer.scan(), n=5),
        "backfill": lambda: do.backfill(Customer, "n"),
    }
    with connect(down) as store:
        for name, call in calls.items():
            with pytest.raises(StoreError) as caught:
                await call()
            assert caught.value.store == store.url, name
            in_parts = name.startswith(("batch_save", "batch_delete", "pipeline"))
            assert isinstance(caught.value, BatchStoreError) == in_parts, name
        with pytest.raises(StoreError):
            async with mintkey.transaction() as transaction:
                transaction.save(Customer())


async def test_a_batch_keeps_all_its_data(down, do):
    items = [Customer(id="a"), Customer(id="b", n="wrong"), Customer(id="c")]
    with connect(down) as store, pytest.raises(BatchIncomplete) as caught:
        await do.batch_save(Customer, iter(items))
    error = caught.value
    assert isinstance(error, BatchStoreError)
    assert [item for item, _ in error.failed] == items
    first, wrong, last = (reason for _, reason in error.failed)
    assert isinstance(wrong, InvalidValue)
    assert isinstance(first, StoreError)
    assert isinstance(last, StoreError)
    assert (error.written, error.stopped, error.outcome) == (0, True, "not_applied")
    assert (error.model, error.store) == ("Customer", store.url)
    assert isinstance(error.__cause__, StoreUnavailable | StoreTimeout)
    assert str(error.__cause__)[:100] in str(error)


async def test_a_batch_ends_with_the_first_chunk_that_the_store_fails(down, do):
    items = (Customer() for _ in range(5_000))
    with connect(down), pytest.raises(BatchStoreError, match="so later items were not tried") as caught:
        await do.batch_save(Customer, items)
    assert len(caught.value.failed) == 500
    assert len(list(items)) == 4_500


async def test_a_pipeline_ends_with_the_first_round_trip_that_the_store_fails(down, do):
    with connect(down):
        pipeline = mintkey.pipeline()
        for _ in range(2_500):
            await do.save(Customer(), pipeline=pipeline)
        with pytest.raises(BatchStoreError) as caught:
            await do.execute(pipeline)
    texts = [str(reason) for _, reason in caught.value.failed]
    assert len(texts) == 2_500
    assert sum("not sent, because the store failed earlier" in text for text in texts) == 500


async def test_the_same_store_works_when_its_folder_is_there(tmp_path, do):
    with connect(f"sqlite:///{tmp_path}/volume/shop.db") as store:
        with pytest.raises(StoreUnavailable, match=r"volume does not exist: create it, or mount its volume"):
            await do.save(Customer(id="a"))
        (tmp_path / "volume").mkdir()
        await do.save(Customer(id="a"))
        await do.ping(store)


def incomplete(*reasons: Exception, stopped: Exception | None = None) -> BatchIncomplete:
    failed = [(number, reason) for number, reason in enumerate(reasons)]
    return batch_incomplete("Order", "item", 1, failed, stopped=stopped, model="Order")


def test_other_reasons_are_no_failure_of_the_store():
    error = incomplete(InvalidValue("wrong"), ConfigurationError("no"))
    assert type(error) is BatchIncomplete
    assert isinstance(error.__cause__, InvalidValue)


@pytest.mark.parametrize("failure", [Throttled, StoreTimeout, StoreUnavailable])
def test_one_failure_of_the_store_is_enough(failure):
    throttled = failure("busy", store="redis://here")
    error = incomplete(InvalidValue("wrong"), throttled, failure("busy, too"))
    assert isinstance(error, StoreError)
    assert error.__cause__ is throttled
    assert error.store == "redis://here"
    assert not error.stopped
    assert str(error) == (
        "Order: 3 of 4 items failed (the first: wrong; of the store: busy). `failed` lists each item with its exception"
    )


def test_an_unknown_outcome_of_an_item_is_that_of_the_batch():
    lost = StoreTimeout("no reply")
    lost.outcome = "unknown"
    error = incomplete(Throttled("busy"), lost)
    assert isinstance(error, BatchStoreError)
    assert error.outcome == "unknown"
    assert BatchStoreError.outcome == "not_applied"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_copies(copied):
    lost = StoreTimeout("no reply", store="redis://here")
    lost.outcome = "unknown"
    error = copied(incomplete(lost, InvalidValue("wrong"), stopped=lost))
    assert type(error) is BatchStoreError
    assert (error.written, error.stopped, error.outcome, error.model) == (1, True, "unknown", "Order")
    assert error.store == "redis://here"
    assert [(item, type(reason)) for item, reason in error.failed] == [(0, StoreTimeout), (1, InvalidValue)]
    assert str(error).startswith("Order: 2 of 3 items failed, and whether 1 of them were written is unknown")
