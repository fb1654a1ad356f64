"""Conditions that take long to evaluate, in memory, and in one transaction with other writes."""

from __future__ import annotations

import asyncio
import functools
import operator

import pytest

from mintkey import Model, connect, pipeline
from mintkey.attributes import ListAttribute, NumberAttribute, StringAttribute
from mintkey.errors import BatchIncomplete, StoreTimeout


class Large(Model):
    pk = StringAttribute(partition_key=True)
    things = ListAttribute()
    n = NumberAttribute()


#: Takes some minutes on the row of the fixture, and is then true.
SLOW = functools.reduce(
    operator.or_,
    [*(Large.things.contains(f"none {number}") for number in range(5_000)), Large.n.exists()],
)


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    name = "" if request.param == "memory" else f"/{tmp_path}/long.db"
    with connect(f"sqlite://{name}?timeout=1&max_item=10000000") as opened:
        Large(pk="a", things=["x"] * 500_000, n=1).save()
        yield opened


async def test_the_other_writes_of_the_transaction_are_made(store):
    slow = [Large(pk="a", n=2).asave(condition=SLOW) for _ in range(2)]
    # They wait for the first write, and so they come into the transaction of the second one.
    others = [Large(pk=pk, n=1).asave() for pk in "bcdef"]
    results = await asyncio.gather(*slow, *others, return_exceptions=True)
    timeouts = [result for result in results if isinstance(result, StoreTimeout)]
    assert timeouts == results[:2]
    assert [error.outcome for error in timeouts] == ["not_applied", "not_applied"]
    assert not any(isinstance(result, Exception) for result in results[2:])
    assert sorted((item.pk, item.n) for item in Large.scan()) == [(pk, 1) for pk in "abcdef"]


def test_a_pipeline_writes_nothing(store):
    together = pipeline()
    Large(pk="a", n=2).save(condition=SLOW, pipeline=together)
    Large(pk="b", n=1).save(pipeline=together)
    with pytest.raises(BatchIncomplete) as caught:
        together.execute()
    assert [item.pk for item, _ in caught.value.failed] == ["a", "b"]
    assert all(isinstance(error, StoreTimeout) for _, error in caught.value.failed)
    assert [(item.pk, item.n) for item in Large.scan()] == [("a", 1)]


async def test_reads_end_with_the_timeout(store):
    with pytest.raises(StoreTimeout):
        Large.count(~SLOW)
    with pytest.raises(StoreTimeout):
        await Large.acount(~SLOW)
    with pytest.raises(StoreTimeout):
        await Large.aquery(~SLOW, pk="a").aall()
